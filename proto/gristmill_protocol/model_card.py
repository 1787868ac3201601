"""The certificate in the model's folder: certificate.json, and its story in plain words at the end of the model card.

The card as the trainer made it is certified, so what is added lies behind a marker and follows from the certificate.
"""

import os
from hashlib import sha256
from pathlib import Path

from gristmill_protocol.certificate import FILE, AttemptPart, Certificate, CertificateStatement, Envelope
from gristmill_protocol.evidence import ACCEPTED
from gristmill_protocol.wording import counted, printable, usd

CARD = "MODEL_CARD.md"
MARKER = b"\n<!-- gristmill: what follows was added from certificate.json -->\n"


def attach(folder: Path, file: bytes) -> None:
    """Put a certificate into the folder of its model, and its story into the card if there is one.

    Raises:
        BadData: it is no certificate; nothing was written.
    """
    statement = CertificateStatement.read(Envelope.read(file).content())
    card = folder / CARD
    if card.is_file():
        _replace(card, with_story(card.read_bytes(), statement))
    _replace(folder / FILE, file)


def with_story(card: bytes, statement: CertificateStatement) -> bytes:
    """The card with its story at the end; as it is, if the certificate names no card."""
    for one in statement.subject:
        if one.name == CARD:
            return made_by_trainer(card, one.digest.sha256) + story(statement.predicate)
    return card


def made_by_trainer(card: bytes, certified: str) -> bytes:
    """The card without what was added to it.

    Args:
        certified: SHA-256 of the card as the trainer made it; whatever it holds, a card of this hash is whole.
    """
    whole = sha256(card).hexdigest() == certified or MARKER not in card
    return card if whole else card.rpartition(MARKER)[0]


def story(said: Certificate) -> bytes:
    """What is added to the card."""
    lines = [
        "## How it came to be",
        "",
        said.guarantee,
        "",
        f"- **Data**: SHA-256 `{said.data.sha256}`, {said.data.size_bytes:,} bytes.",
        f"- **Recipe**: {_plain(said.recipe.id)} {_plain(said.recipe.version or 'of no stated version')}, "
        f"{said.steps} steps, seed {said.seed}, {_base(said)}.",
        *(f"- **Machine**: {_machine(attempt)}" for attempt in said.attempts),
        f"- **Checks**: {_checks(said)}",
        *(
            f"- **Bond taken**: {usd(one.amount_usd_micros)} from {_plain(one.provider_name)}: {_plain(one.reason)}"
            for one in said.slashes
        ),
        f"- **Payment**: {_payment(said)}",
        *(f"- **Not verified**: {sentence}" for sentence in said.not_verified),
        "",
        f"`gristmill verify` on this folder checks all of it against {FILE}, which {said.market.operator} signed for "
        f"job {_plain(said.job_id)}.",
        "",
    ]
    return MARKER + "\n".join(lines).encode()


def _base(said: Certificate) -> str:
    return "from nothing" if said.base_model is None else f"from {_plain(said.base_model)}"


def _machine(attempt: AttemptPart) -> str:
    name, device = _plain(attempt.provider_name), _plain(attempt.device)
    return f"{name} ({device}), steps {attempt.step_from} to {attempt.step_to}, {attempt.state}."


def _checks(said: Certificate) -> str:
    good = [part for part in said.windows if part.evidence.state in ACCEPTED]
    audits = [audit for part in good for audit in part.evidence.audits if audit.outcome == "passed"]
    total = sum(len(part.records) for part in good)
    names = sorted({_plain(audit.verifier_name) for audit in audits})
    again = len({audit.segment for audit in audits})
    return f"{again} of {counted(total, 'segment')} run again by {', '.join(names) or 'nobody'}, and matched."


def _payment(said: Certificate) -> str:
    bill = said.payment.bill
    if bill is None:
        return "nothing was paid."
    return f"{usd(bill.paid_usd_micros)} on chain {said.market.chain_id}, transaction `{bill.settle_tx}`."


def _plain(text: str) -> str:
    """A stranger's text without anything that Markdown or HTML would act on."""
    return "".join(char for char in printable(text) if char not in "`*[]()<>|#!\\&~").strip()


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)
