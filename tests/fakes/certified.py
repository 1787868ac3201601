"""A small model with a true certificate, made without a market: six segments, one window, two files and a card."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from gristmill_protocol.api import Inclusion, WindowEvidence
from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.certificate import (
    FILE,
    Asked,
    AttemptPart,
    Certificate,
    CertificateStatement,
    DataUsed,
    Digest,
    Envelope,
    Market,
    Payment,
    RecipeUsed,
    Subject,
    WindowPart,
    sign,
)
from gristmill_protocol.commitments import (
    PPM,
    SegmentRecord,
    SignedRecord,
    draw_seconds,
    draw_seed,
    draw_segments,
    window_root,
)
from gristmill_protocol.jobs import AttemptState, AuditView, Bill, SampleBasis, StatementLine, WindowState
from gristmill_protocol.merkle import merkle_root, prove
from gristmill_protocol.model_card import attach
from gristmill_protocol.modes import GUARANTEES, Mode
from gristmill_protocol.signing import SEGMENT_RECORD_TYPE, Domain
from gristmill_protocol.signing import sign as sign_typed

OPERATOR: LocalAccount = Account.from_key("0x" + "0a" * 32)
NODE: LocalAccount = Account.from_key("0x" + "0d" * 32)
STRANGER: LocalAccount = Account.from_key("0x" + "0c" * 32)

MARKET = Market(
    chain_id=31337, ledger="0x" + "11" * 20, registry="0x" + "22" * 20, coordinator=1, operator=OPERATOR.address
)
SEGMENTS, SEGMENT_STEPS = 6, 4
SETTINGS = {"rounds": 5}
BEACON = "be" * 32


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def lock() -> bytes:
    named = {
        "recipe": "image-sorter",
        "recipe_version": "1.0",
        "data_sha256": digest("data"),
        "data_root": digest("data root"),
        "seed": 7,
        "steps": SEGMENTS * SEGMENT_STEPS,
        "settings": SETTINGS,
    }
    return json.dumps(named).encode()


@dataclass(frozen=True)
class Certified:
    """A job's result, and what is signed of it."""

    job_id: str = "job_1"
    files: Mapping[str, bytes] = field(
        default_factory=lambda: {
            "model.safetensors": b"a model",
            "config.json": b"{}",
            "recipe.lock": lock(),
            "MODEL_CARD.md": b"# A model\n\nIt gets 97 of 100 right.\n",
        }
    )
    provider_name: str = "willow"

    def records(self) -> list[SignedRecord]:
        domain = Domain.registry(MARKET.chain_id, MARKET.registry)
        records = [self._record(index) for index in range(SEGMENTS)]
        return [
            SignedRecord(record=one, signature=sign_typed(NODE, domain, SEGMENT_RECORD_TYPE, one.typed()))
            for one in records
        ]

    def _record(self, index: int) -> SegmentRecord:
        return SegmentRecord(
            job_id=self.job_id,
            index=index,
            step_from=index * SEGMENT_STEPS,
            step_to=(index + 1) * SEGMENT_STEPS,
            state_root_prev=digest(f"state {index}"),
            state_root=digest(f"state {index + 1}"),
            data_root=digest(f"data {index}"),
            metrics_root=digest(f"metrics {index}"),
            micro_root=digest(f"micro {index}"),
            started_ms=1000 * index,
            ended_ms=1000 * index + 900,
            numeric_class="ab" * 32,
        )

    def evidence(self) -> WindowEvidence:
        records = [signed.record for signed in self.records()]
        root, other = window_root(records), sha256(b"another job's window").digest()
        proof = prove([other, root], 1)
        seed = draw_seed(beacon=bytes.fromhex(BEACON), job_id=self.job_id, window_id="window_1", root=root)
        drawn = draw_segments(seed, first_index=0, count=SEGMENTS, samples_ppm=2 * PPM, ends_job=True)
        basis = SampleBasis(
            price_usd_micros=100, lock_usd_micros=100, clean_windows=12, assurance=0, second_ppm=PPM // 10
        )  # fmt: skip
        return WindowEvidence(
            window_id="window_1",
            attempt_id="attempt_1",
            state=WindowState.PAID,
            first_index=0,
            leaves=tuple(record.leaf().hex() for record in records),
            root=root.hex(),
            anchor_root=merkle_root([other, root]).hex(),
            inclusion=Inclusion(index=1, count=2, siblings=tuple(one.hex() for one in proof.siblings)),
            anchor_tx="0x" + "a1" * 32,
            beacon=BEACON,
            ends_job=True,
            samples_ppm=2 * PPM,
            basis=basis,
            drawn=drawn,
            doubled=draw_seconds(seed, drawn, second_ppm=basis.second_ppm),
            audits=tuple(
                AuditView(
                    window_id="window_1", segment=index, verifier=4, verifier_name="oak", outcome="passed",
                    why_drawn={0: "first", SEGMENTS - 1: "last"}.get(index, "drawn"),
                )
                for index in drawn
            ),
        )  # fmt: skip

    def predicate(self) -> Certificate:
        locked = self.files.get("recipe.lock")
        return Certificate(
            job_id=self.job_id,
            mode=Mode.BITWISE,
            guarantee=GUARANTEES[Mode.BITWISE],
            data=DataUsed(sha256=digest("data"), size_bytes=1000, root=digest("data root")),
            recipe=RecipeUsed(
                id="image-sorter",
                version="1.0",
                ledger_id=1,
                lock_sha256=None if locked is None else sha256(locked).hexdigest(),
            ),
            base_model=None,
            seed=7,
            settings_sha256=sha256_json(SETTINGS).hex(),
            steps=SEGMENTS * SEGMENT_STEPS,
            initial_state_root=digest("state 0"),
            final_state_root=digest(f"state {SEGMENTS}"),
            attempts=(self._attempt(),),
            windows=(WindowPart(evidence=self.evidence(), records=tuple(self.records()), reason=""),),
            slashes=(),
            payment=Payment(
                bill=Bill(
                    paid_usd_micros=100, provider_usd_micros=80, verifier_usd_micros=10, author_usd_micros=7,
                    treasury_usd_micros=3, settle_tx="0x" + "5e" * 32,
                ),
                nonce=5,
                lines=(StatementLine(provider=3, verifier=4, recipe=1, amount_usd_micros=100),),
            ),
            market=MARKET,
            asked=(Asked(node_id="node_1", key=NODE.address, provider=3, signed=True, reason=""),),
            not_verified=("Names and devices are what the machines say of themselves.",),
            issued_s=1_800_000_000,
        )  # fmt: skip

    def _attempt(self) -> AttemptPart:
        return AttemptPart(
            attempt_id="attempt_1",
            number=1,
            state=AttemptState.FINISHED,
            reason="",
            provider=3,
            provider_name=self.provider_name,
            node_id="node_1",
            node_key=NODE.address,
            device="CPU",
            sandbox="docker",
            numeric_class="ab" * 32,
            step_from=0,
            step_to=SEGMENTS * SEGMENT_STEPS,
        )

    def statement(self, **changes: Any) -> CertificateStatement:
        """The true statement, or one whose predicate lies in these fields."""
        subject = tuple(
            Subject(name=name, digest=Digest(sha256=sha256(content).hexdigest()))
            for name, content in sorted(self.files.items())
        )
        return CertificateStatement(subject=subject, predicate=self.predicate().model_copy(update=changes))

    def write(self, folder: Path) -> Path:
        """The folder as `gristmill pull` leaves it."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        attach(folder, signed(self.statement()))
        return folder


def signed(statement: CertificateStatement, *keys: LocalAccount) -> bytes:
    """The file of a statement, signed with these keys, by default those that it names."""
    payload, keys = statement.payload(), keys or (OPERATOR, NODE)
    return Envelope.of(payload, [(key.address, sign(key, payload)) for key in keys]).file()


def put(folder: Path, file: bytes) -> None:
    (folder / FILE).write_bytes(file)
