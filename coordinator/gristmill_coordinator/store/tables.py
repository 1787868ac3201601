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


def _maybe_int(name: str) -> Column[Any]:
    return Column(name, BigInteger)


def _number(name: str) -> Column[Any]:
    return Column(name, BigInteger, primary_key=True, autoincrement=False)


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


def _transaction() -> Column[Any]:
    return Column("transaction_id", ForeignKey("transactions.transaction_id"), index=True)


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
    _text("card", ""),  # domain.cards.card of that offer
    _text("standing", "untested"),  # domain.cards.Standing of that card
    _text("standing_text", ""),  # why, a sentence
    _time("tested_s"),  # when its card was last asked to show what it can do
    _time("proven_s"),  # when it last did
    _text("network", ""),  # market.operators.network of the address that it dialled from
    _time("refused_s"),  # when it last did not do a check that it was drawn for
)

standings = Table(
    "standings",
    metadata,
    Column("provider", BigInteger, primary_key=True, autoincrement=False),
    _int("clean_windows", 0),  # audited and passed since the last fault, not counting those among friends
    _int("frauds", 0),
)

bans = Table("bans", metadata, _number("provider"), _key("numeric_class"), _time("until_s", None))

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
    _maybe_json("sigma"),  # tolerance mode: domain.tolerance.Distance between two other kinds, {} if there were none
    _int("last_event", 0),
    _maybe_json("wanted"),  # Statement that the renter is asked to sign
    _time("wanted_s"),
    _maybe_text("statement_id"),  # the one that pays
    _transaction(),  # the settlement that it is in
    _maybe_text("settle_tx"),  # the transaction that paid, whoever sent it
    _int("paid_usd_micros", 0),
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
    _int("lock_usd_micros", 0),  # of the provider's bond, staked on this
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
    _maybe_json("incidents"),  # incidents_json and signature as its node sent them when it was over
    _time("created_s", None),
    _time("sent_s"),
    _time("stopped_s"),  # when the node was first told to stop
    _time("ended_s"),
    _flag("released"),
    # Its node has not been told yet what is payable.
    Column("payable_news", Boolean, nullable=False, default=False, index=True),
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
    _text("leaf"),  # of that record: anybody may ask for it, and it takes a millisecond to make
    _json("state"),  # ArtifactRef of the boundary state after it
    _flag("uploaded"),
    _flag("checked"),  # it has the root that the record names
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
    _flag("ends_job"),  # whether their last one reaches the job's last step
    _maybe_text("root"),
    Column("anchor_id", ForeignKey("anchors.anchor_id"), index=True),
    _maybe_json("proof"),  # merkle.InclusionProof of root in the anchor's root
    _maybe_text("beacon"),
    _time("sampled_s"),
    _maybe_int("samples_ppm"),  # how many were drawn, besides the job's first and last segment
    _maybe_json("basis"),  # jobs.SampleBasis: what that was computed from
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
    _maybe_text("committed"),  # commitments.answer_digest, signed by the verifier's node before it says its answer
    _maybe_text("commitment_signature"),
    _time("reveal_s"),  # when it was first asked for its answer
    _time("told_s"),  # when it was last asked so
    _maybe_text("salt"),
    _maybe_json("replayed"),  # progress.Replayed
    _maybe_json("distance"),  # tolerance mode: domain.tolerance.Distance from the provider's state
    *_claim(),
    UniqueConstraint("window_id", "segment", "why"),
)

anchors = Table(
    "anchors",
    metadata,
    _key("anchor_id"),
    _text("root"),
    _transaction(),
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

certificates = Table(
    "certificates",
    metadata,
    Column("job_id", ForeignKey("jobs.job_id"), primary_key=True),
    _maybe_text("payload"),  # certificate.CertificateStatement as it is signed
    _time("asked_s"),  # since when its machines are asked to sign this payload
    _json("signatures"),  # node id -> its signature of the payload
    _json("unsigned"),  # node id -> why it does not sign
    _maybe_text("envelope"),  # certificate.Envelope, once it is issued
    _flag("issued"),
    *_claim(),
    Index("ix_certificates_waiting", "issued", "due_s"),
)

# Work that did not hold, and what its provider's stake is in dispute for.
disputes = Table(
    "disputes",
    metadata,
    _key("window_id"),  # one window, one dispute
    _job(),
    Column("attempt_id", ForeignKey("attempts.attempt_id"), nullable=False, index=True),
    _int("segment"),  # the first that does not hold
    _int("provider"),
    _text("provider_name"),
    _text("tier"),  # domain.disputes.Tier
    _text("reason"),
    _json("documents"),  # what shows it: signed records, verifiers' answers
    _text("evidence"),  # SHA-256 of their canonical JSON
    _time("opened_s"),  # when it was found
    _int("amount_usd_micros", 0),  # of stake in question
    _int("slashed_usd_micros", 0),
    _maybe_int("dispute"),  # its id on chain
    _text("phase", ""),  # domain.disputes.Phase and what else of it the renter was told
    _text("course", ""),  # how it stands, in a sentence
    _time("told_s"),  # when those whose turn it is were last told
    _json("digests"),  # referee -> SHA-256 of what its own re-run gave
    _maybe_json("steps"),  # the provider's state roots after each step, by its own re-run
    _maybe_int("parted_step"),  # the first after which a referee's differ from them
    _transaction(),
    _maybe_text("tx_hash"),  # of what happened last
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

# The chain: what we send there (chain/sender.py), what we saw there (chain/watcher.py), what does not add up.

transactions = Table(
    "transactions",
    metadata,
    _key("transaction_id"),
    _text("kind"),  # of the call
    _json("payload"),  # chain.port.Call
    _maybe_int("worth_usd_micros"),  # what its gas may cost at most; none: whatever it takes
    _maybe_text("sender"),  # the operator's address, once it has a nonce
    _maybe_int("nonce"),  # of that address; assigned once, stored before anything is sent
    _int("gas", 0),
    _json("sends"),  # chain.sender.Send, the oldest first: the same nonce at rising fees
    _maybe_text("tx_hash"),  # the send that is in a block
    _maybe_int("block"),
    _maybe_text("block_hash"),
    Column("outcome", String, nullable=False, index=True, default=""),  # domain.gas.Outcome, once it is final
    _text("reason", ""),
    _time("created_s", None),
    _time("due_s"),
    UniqueConstraint("sender", "nonce"),
)

# What the operator pays the gas of for an account.
relays = Table(
    "relays",
    metadata,
    _key("relay_id"),  # SHA-256 of the call and, for a withdrawal's end, of the request that it ends
    _text("renter"),  # whose account
    _text("kind"),
    Column("transaction_id", ForeignKey("transactions.transaction_id"), nullable=False),
    _time("created_s", None),
    Index("ix_relays_renter_kind", "renter", "kind"),
)

blocks = Table(
    "blocks",
    metadata,
    _number("number"),
    _text("hash"),
    _text("parent"),
    _int("at_s"),
)

ledger_events = Table(
    "ledger_events",
    metadata,
    _number("block"),
    _number("log_index"),
    _text("block_hash"),
    _text("tx_hash"),
    _text("contract"),  # ledger, registry or disputes
    Column("name", String, nullable=False, index=True),  # as in the ABI
    _json("args"),  # by the ABI's names; bytes are 0x-prefixed hex, numbers of more than 63 bits decimal text
    _maybe_text("key"),  # the checksummed address of the account or node key that it is about
    Column("payee", BigInteger, index=True),  # the payee or provider that it is about
    _maybe_int("nonce"),  # of a statement; in events of disputes the dispute's id
    _maybe_int("amount_usd_micros"),  # its amount, total or sum paid
    _int("at_s"),
    Index("ix_ledger_events_key_nonce", "key", "nonce"),
)

cursors = Table(
    "cursors",
    metadata,
    _key("name"),  # who works from here: one at a time, whatever the number of replicas
    _int("block", 0),  # done up to this block
    _maybe_text("hash"),
    _time("moved_s"),
    _text("trouble", ""),  # what is wrong with the node that it works from
    *_claim(),
)

alarms = Table(
    "alarms",
    metadata,
    _key("subject"),
    _text("text"),
    _int("expected"),
    _int("found"),
    _int("block"),
    _time("raised_s", None),
    _time("cleared_s"),  # 0 while the difference stands
)

# What cards were asked to show, and what came of it.
challenges = Table(
    "challenges",
    metadata,
    _key("challenge_id"),
    _text("cohort_id"),  # those with the same one start at the same instant
    Column("node_id", String, nullable=False, index=True),
    _text("payout"),
    _text("kind"),  # domain.cards.kind: whose times are compared
    _text("driver"),
    Column("state", String, nullable=False, index=True),  # domain.cards.ChallengeState
    _text("seed"),
    _json("sizes"),
    _maybe_json("commitment"),
    _maybe_json("draw"),
    _time("asked_s", None),
    _time("started_s"),
    _int("elapsed_ms", 0),
    _text("finding", ""),
    Index("ix_challenges_kind_state", "kind", "state"),
)
