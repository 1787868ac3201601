"""Check a model's certificate against the model, here and offline: every line says what holds, or what doesn't."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from gristmill._chain_facts import ChainFacts
from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.certificate import (
    FILE,
    AttemptPart,
    Certificate,
    CertificateStatement,
    Envelope,
    WindowPart,
    require_signed,
)
from gristmill_protocol.commitments import SegmentRecord, chain_break
from gristmill_protocol.errors import BadSignature, GristmillError, NotFound
from gristmill_protocol.evidence import ACCEPTED, Finding, check_window, held, made_again, name_of, note, ok, wrong
from gristmill_protocol.model_card import CARD, made_by_trainer, story
from gristmill_protocol.modes import GUARANTEES, Mode
from gristmill_protocol.signing import SEGMENT_RECORD_TYPE, Domain, recover
from gristmill_protocol.wording import counted, usd
from gristmill_trainer.data import file_ref

LOCK = "recipe.lock"


@dataclass(frozen=True)
class Trusted:
    """What whoever verifies knows from elsewhere.

    Args:
        operator: address of the coordinator's key; "": not known.
        deployment: the content of a published deployment file.
    """

    operator: str = ""
    deployment: Mapping[str, Any] | None = None


def verify(folder: Path, trusted: Trusted, chain: ChainFacts | None = None) -> list[Finding]:
    """Everything that the certificate in a model's folder claims, line by line.

    Args:
        chain: asked about what only the chain knows; None: said to be the coordinator's word.
    Raises:
        NotFound: no such folder, or no certificate in it.
        ChainUnavailable: the chain's node does not answer.
    """
    file = folder / FILE
    if not file.is_file():
        raise NotFound(
            f"There is no {FILE} in {folder}.",
            effect="Nothing was checked.",
            todo="Name the folder that `gristmill pull` made; pull again if the certificate was not issued yet.",
        )
    try:
        envelope = Envelope.read(file.read_bytes())
        payload = envelope.content()
        statement = CertificateStatement.read(payload)
        require_signed(envelope, payload, statement.signers())
    except GristmillError as err:
        return [wrong(err.what), note("Nothing else in it can be believed, so nothing else was checked.")]
    said = statement.predicate
    return [
        *_signers(said, trusted),
        *_files(folder, statement),
        *_lock(folder, said),
        *_work(said),
        *_payment(said),
        *_on_chain(said, chain),
        *(note(f"Not proven: {sentence}") for sentence in said.not_verified),
    ]


def _signers(said: Certificate, trusted: Trusted) -> Iterator[Finding]:
    operator = said.market.operator
    yield ok(f"The certificate of job {said.job_id} is signed by its coordinator's key {operator}, unchanged.")
    if trusted.operator:
        same = trusted.operator.lower() == operator.lower()
        yield held(same, "That is the operator you named.", f"You named the operator {trusted.operator}: not that one.")
    else:
        yield note(f"Signed by {operator}, which you have to know: --operator compares it with one you trust.")
    if trusted.deployment is not None:
        yield from _contracts(said, trusted.deployment)
    for one in said.asked:
        who = f"provider {one.provider}'s machine, key {one.key}"
        yield ok(f"Signed by {who}.") if one.signed else note(f"Not signed by {who}: {one.reason}")


def _contracts(said: Certificate, deployment: Mapping[str, Any]) -> Iterator[Finding]:
    market = said.market
    named = {
        "chain_id": market.chain_id,
        "ledger": market.ledger,
        "registry": market.registry,
        "coordinator_id": market.coordinator,
    }
    for name, value in named.items():
        published = deployment.get(name)
        yield held(
            str(published).lower() == str(value).lower(),
            f"Its {name} is that of the deployment, {value}.",
            f"Its {name} is {value}; the deployment says {published}.",
        )


def _files(folder: Path, statement: CertificateStatement) -> Iterator[Finding]:
    """Hidden files aside, the folder holds what was certified and nothing else."""
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    certified = {one.name: one.digest.sha256 for one in statement.subject}
    for name, digest in certified.items():
        if name not in there:
            yield wrong(f"{name} is missing: the certificate names it.")
        elif name != CARD:
            same = file_ref(there[name]).sha256 == digest
            yield held(same, f"{name} is the file that was certified.", f"{name} is not the file that was certified.")
        else:
            yield from _card(there[name], digest, statement.predicate)
    for name in sorted(there.keys() - certified.keys() - {FILE}):
        if not name.startswith("."):
            yield wrong(f"{name} is in the folder, but the certificate does not name it.")


def _card(card: Path, certified: str, said: Certificate) -> Iterator[Finding]:
    """The trainer's part by its hash, what was added to it by the certificate that it follows from."""
    content = card.read_bytes()
    trainers = made_by_trainer(content, certified)
    yield held(
        sha256(trainers).hexdigest() == certified,
        f"{CARD}, without what was added to it, is the file that was certified.",
        f"{CARD} is not the file that was certified: the part that the trainer wrote was changed.",
    )
    if added := content[len(trainers) :]:
        yield held(
            added == story(said),
            f"What {CARD} says of how it came to be is what the certificate says.",
            f"What {CARD} says of how it came to be is not what the certificate says.",
        )


def _lock(folder: Path, said: Certificate) -> Iterator[Finding]:
    """What recipe.lock states agrees with the certificate; its hash was checked with the other files."""
    if said.recipe.lock_sha256 is None:
        yield note(f"There is no {LOCK}, so the same bits cannot be trained again from this folder.")
        return
    try:
        lock = json.loads((folder / LOCK).read_bytes())
        agreed = {
            "recipe": lock["recipe"] == said.recipe.id,
            "data_sha256": lock["data_sha256"] == said.data.sha256,
            "seed": lock["seed"] == said.seed,
            "steps": lock["steps"] == said.steps,
            "settings": sha256_json(lock["settings"]).hex() == said.settings_sha256,
        }
    except (OSError, ValueError, KeyError, TypeError):
        yield wrong(f"{LOCK} cannot be read.")
        return
    differing = ", ".join(name for name, same in agreed.items() if not same)
    yield held(
        not differing,
        f"{LOCK} names the same recipe {said.recipe.id}, data {said.data.sha256[:12]}…, seed, steps and settings.",
        f"{LOCK} names other values than the certificate: {differing}.",
    )


def _work(said: Certificate) -> Iterator[Finding]:
    yield held(
        said.guarantee == GUARANTEES[said.mode],
        f"How it was checked ({said.mode}): {said.guarantee}",
        f"It claims another guarantee than {said.mode} gives: {said.guarantee}",
    )
    machines = {attempt.attempt_id: attempt for attempt in said.attempts}
    good = [part for part in said.windows if part.evidence.state in ACCEPTED]
    for part in good:
        machine = machines.get(part.evidence.attempt_id)
        yield _records(said, part, machine)
        yield from check_window(said.job_id, part.evidence)
    for part in said.windows:
        if part.evidence.state not in ACCEPTED:
            yield note(f"{name_of(part.evidence)} did not count: {part.reason}")
    records = [signed.record for part in good for signed in part.records]
    if records or said.mode is Mode.BITWISE:
        yield _chain(said, records)
    if said.mode is Mode.BITWISE:
        yield _result(good)


def _records(said: Certificate, part: WindowPart, machine: AttemptPart | None) -> Finding:
    """That the window's leaves are of these records, and that the machine signed each."""
    name = name_of(part.evidence)
    if machine is None:
        return wrong(f"{name}: its attempt is not among those named.")
    if tuple(signed.record.leaf().hex() for signed in part.records) != part.evidence.leaves:
        return wrong(f"{name}: its records are not those that were committed.")
    if part.evidence.ends_job != any(signed.record.step_to == said.steps for signed in part.records):
        return wrong(f"{name}: it is not said rightly whether the job ends in it.")
    domain = Domain.registry(said.market.chain_id, said.market.registry)
    for signed in part.records:
        record = signed.record
        if (record.job_id, record.numeric_class) != (said.job_id, machine.numeric_class):
            return wrong(f"{name}: the record of segment {record.index} is of another job or kind of machine.")
        try:
            who = recover(domain, SEGMENT_RECORD_TYPE, record.typed(), signed.signature)
        except BadSignature:
            who = "nobody"
        if who != machine.node_key:
            return wrong(f"{name}: the record of segment {record.index} is not signed by {machine.node_key}.")
    return ok(f"{name}: {machine.provider_name!r} signed all of its {counted(len(part.records), 'record')}.")


def _chain(said: Certificate, records: list[SegmentRecord]) -> Finding:
    """That the records lead from the first state to the last without a gap."""
    if not records:
        return wrong("No window of it counts, so nothing shows that the steps were done.")
    ends = (records[0].step_from, records[-1].step_to, records[0].state_root_prev, records[-1].state_root)
    why = chain_break(records)
    if why is None and ends != (0, said.steps, said.initial_state_root, said.final_state_root):
        why = "they do not lead from the first state to the last"
    return held(
        why is None,
        f"{counted(len(records), 'record')} lead without a gap from the initial state to the final one, step 0 to "
        f"{said.steps}.",
        f"The records do not form one training run: {why}.",
    )


def _result(good: list[WindowPart]) -> Finding:
    """Whether anybody but the provider has made the files."""
    return held(
        any(made_again(part.evidence) for part in good),
        "A verifier ran the last segment and made the files again from it: they came out as certified.",
        "No verifier is named that made the files again from the last segment.",
    )


def _payment(said: Certificate) -> Iterator[Finding]:
    bill, lines = said.payment.bill, said.payment.lines
    if bill is None:
        yield note("Nothing was paid for it.")
        return
    parts = bill.provider_usd_micros + bill.verifier_usd_micros + bill.author_usd_micros + bill.treasury_usd_micros
    total = sum(line.amount_usd_micros for line in lines)
    yield held(
        bill.paid_usd_micros == parts == total,
        f"{usd(bill.paid_usd_micros)} was paid: {usd(bill.provider_usd_micros)} to providers, "
        f"{usd(bill.verifier_usd_micros)} to verifiers, {usd(bill.author_usd_micros)} to the recipe's author, "
        f"{usd(bill.treasury_usd_micros)} to the protocol.",
        f"The parts of the payment do not add up to {usd(bill.paid_usd_micros)}.",
    )


def _on_chain(said: Certificate, chain: ChainFacts | None) -> Iterator[Finding]:
    if chain is None:
        yield note(
            "That roots were anchored, beacons came later and the payment was made is not asked of the chain here."
        )
        return
    yield from chain.check_market(said.market)
    for part in said.windows:
        if part.evidence.state in ACCEPTED:
            yield from chain.check_anchor(
                part.evidence, registry=said.market.registry, coordinator=said.market.coordinator
            )
    yield from chain.check_payment(said.payment, said.market)
