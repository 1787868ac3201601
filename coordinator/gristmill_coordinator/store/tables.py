"""The tables. Times are unix seconds, money is micro-USD, digests are hex, JSON columns hold what pydantic dumps.

A row that stages work on has two more columns: due_s, before which no stage looks at it, and lock_token, which the
stage that claimed it must still find there when it writes back. Whoever changes such a row from outside clears the
token, and the late worker changes nothing.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _key(name: str) -> Column[Any]:
    return Column(name, String, primary_key=True)


def _text(name: str, default: str | None = None) -> Column[Any]:
    return Column(name, String, nullable=False, default=default)


def _maybe_text(name: str) -> Column[Any]:
    return Column(name, String)


def _int(name: str, default: int | None = None) -> Column[Any]:
    return Column(name, BigInteger, nullable=False, default=default)


def _time(name: str, default: float | None = 0.0) -> Column[Any]:
    return Column(name, Float(53), nullable=False, default=default)


def _flag(name: str) -> Column[Any]:
    return Column(name, Boolean, nullable=False, default=False)


def _json(name: str) -> Column[Any]:
    return Column(name, JSON(none_as_null=True), nullable=False)


def _maybe_json(name: str) -> Column[Any]:
    return Column(name, JSON(none_as_null=True))


def _job() -> Column[Any]:
    return Column("job_id", ForeignKey("jobs.job_id"), nullable=False, index=True)


def _claim() -> tuple[Column[Any], Column[Any]]:
    return Column("lock_token", String), _time("due_s")


nodes = Table(
    "nodes",
    metadata,
    _key("node_id"),
    _int("provider"),
    _text("key"),
    _text("payout"),
    _int("bonded_usd_micros"),
    _text("name"),
    _text("version"),
    _flag("connected"),
    _time("heard_s"),
    _time("changed_s"),
    _maybe_json("offer"),  # market.book.Terms; none until the node has offered anything
)

standings = Table(
    "standings",
    metadata,
    Column("provider", BigInteger, primary_key=True, autoincrement=False),
    _int("clean_windows", 0),  # audited windows since the last fraud
    _int("frauds", 0),
)

renters = Table("renters", metadata, _key("renter"), _int("next_nonce", 0))

quotes = Table(
    "quotes",
    metadata,
    _key("quote_id"),
    Column("renter", String, nullable=False, index=True),
    _time("expires_s", None),
    _json("quote"),
)

jobs = Table(
    "jobs",
    metadata,
    _key("job_id"),
    _text("renter"),
    _text("request_id"),
    Column("quote_id", String, nullable=False, unique=True),
    _text("recipe"),
    _json("spec"),
    _json("quote"),
    _json("order"),  # signed
    _int("nonce"),
    _int("cap_usd_micros"),
    _int("steps"),
    _time("created_s", None),
    Column("reason", String, nullable=False, index=True),  # domain.jobs.JobReason; the state is derived from it
    _text("reason_text", ""),
    _text("ending", ""),  # domain.jobs.Ending: how it will end whatever is still accepted
    _text("ending_text", ""),
    _time("queued_s"),
    _int("steps_accepted", 0),
    _int("segments_accepted", 0),
    _maybe_text("state_root"),  # after the last accepted segment
    _maybe_json("state"),  # ArtifactRef of that state
    _int("last_event", 0),
    _maybe_json("wanted"),  # Statement that the renter is asked to sign
    _time("wanted_s"),
    _maybe_text("statement_id"),  # the one that pays
    Column("settlement_id", ForeignKey("settlements.settlement_id"), index=True),
    *_claim(),
    UniqueConstraint("renter", "request_id"),
)

attempts = Table(
    "attempts",
    metadata,
    _key("attempt_id"),
    _job(),
    _int("number"),
    Column("node_id", String, nullable=False, index=True),
    _text("node_key"),
    _int("provider"),
    _text("payout"),
    _text("provider_name"),
    _text("device"),
    _text("sandbox"),
    _text("numeric_class"),
    _int("verifier"),  # payee id of the verifier that the price's statement names
    _int("price_usd_micros"),
    _text("lease_id"),
    Column("state", String, nullable=False, index=True),  # AttemptState
    _text("reason", ""),
    _text("code", ""),
    _int("step_from"),
    _int("segment_from"),
    _maybe_text("state_root"),  # where it starts; none at step 0
    _maybe_json("start"),  # ArtifactRef of that state
    _int("step_to"),  # committed so far
    _int("step_seen"),  # reported so far
    _int("receipt_number", 0),
    _int("gpu_ms", 0),
    _maybe_json("finished"),  # progress.Finished
    _time("created_s", None),
    _time("sent_s"),
    _time("stopped_s"),  # when the node was first told to stop
    _time("ended_s"),
    _flag("released"),
    *_claim(),
    UniqueConstraint("job_id", "number"),
)

segments = Table(
    "segments",
    metadata,
    Column("attempt_id", ForeignKey("attempts.attempt_id"), primary_key=True),
    Column("segment", BigInteger, primary_key=True, autoincrement=False),
    Column("window_id", ForeignKey("windows.window_id"), nullable=False, index=True),
    _json("signed"),  # SignedRecord
    _json("state"),  # ArtifactRef of the boundary state after it
    _flag("uploaded"),
    _time("asked_s"),  # when the state was first wanted from the node
    _time("told_s"),  # when the node was last told so
    _text("refused", ""),  # why the node cannot serve it
)

windows = Table(
    "windows",
    metadata,
    _key("window_id"),
    _job(),
    Column("attempt_id", ForeignKey("attempts.attempt_id"), nullable=False),
    _int("number"),
    Column("state", String, nullable=False, index=True),  # WindowState
    _text("reason", ""),
    _text("finding", ""),  # domain.windows.Finding, once void
    _int("first_index"),
    _int("capacity"),  # segments after which it closes
    _int("segments", 0),  # that count, once closed
    _int("steps", 0),  # that they cover
    _maybe_text("root"),
    Column("anchor_id", ForeignKey("anchors.anchor_id"), index=True),
    _maybe_json("proof"),  # merkle.InclusionProof of root in the anchor's root
    _maybe_text("beacon"),
    _time("sampled_s"),
    Column("verifier", BigInteger),  # payee id that the statement's line names, once passed
    *_claim(),
    UniqueConstraint("attempt_id", "number"),
)

audits = Table(
    "audits",
    metadata,
    _key("audit_id"),
    _job(),
    Column("window_id", ForeignKey("windows.window_id"), nullable=False),
    Column("attempt_id", ForeignKey("attempts.attempt_id"), nullable=False),
    _int("segment"),
    _text("why"),  # AuditView.why_drawn
    Column("outcome", String, nullable=False, index=True, default="pending"),
    Column("node_id", String, index=True),
    Column("verifier", BigInteger),
    _text("verifier_name", ""),
    _time("assigned_s"),
    _time("sent_s"),
    _json("refused"),  # node id -> unix time of its refusal or time-out
    _int("refusals", 0),
    _maybe_json("replayed"),  # progress.Replayed
    *_claim(),
    UniqueConstraint("window_id", "segment", "why"),
)

anchors = Table(
    "anchors",
    metadata,
    _key("anchor_id"),
    _text("root"),
    _maybe_text("tx_hash"),
    _time("sent_s"),
    _maybe_text("beacon"),
    *_claim(),
    Index("ix_anchors_waiting", "beacon", "due_s"),
)

statements = Table(
    "statements",
    metadata,
    Column("job_id", ForeignKey("jobs.job_id"), primary_key=True),
    _key("statement_id"),  # SHA-256 of the statement's canonical JSON
    _json("signed"),
)

settlements = Table(
    "settlements",
    metadata,
    _key("settlement_id"),
    _maybe_text("tx_hash"),
    _time("sent_s"),
    _flag("closed"),
    *_claim(),
)

slashes = Table(
    "slashes",
    metadata,
    _key("window_id"),  # one window, one slash
    _job(),
    _int("provider"),
    _text("provider_name"),
    _int("amount_usd_micros", 0),
    _json("verifiers"),  # payee ids that found the fraud
    _text("evidence"),  # SHA-256 of what proves it
    _text("reason"),
    _maybe_text("tx_hash"),
    _time("sent_s"),
    _flag("closed"),
    *_claim(),
)

events = Table(
    "events",
    metadata,
    Column("job_id", ForeignKey("jobs.job_id"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    _int("at_ms"),
    _text("kind"),
    _text("text"),
    _json("fields"),
)

grants = Table("grants", metadata, _key("sha256"), _key("subject"))
