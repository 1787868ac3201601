"""The tables. Times are unix seconds, money is micro-USD, digests are hex, JSON columns hold what pydantic dumps.

A row that stages work on has two more columns: due_s, before which no stage looks at it, and lock_token, which the
stage that claimed it must still find there when it writes back. Whoever changes such a row from outside clears the
token, and the late worker changes nothing.
"""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table, UniqueConstraint

from gristmill_coordinator.store.columns import (
    claim,
    flag,
    integer,
    json,
    key,
    maybe_integer,
    maybe_json,
    maybe_text,
    metadata,
    number,
    text,
    time,
)


def _job() -> Column[Any]:
    return Column("job_id", ForeignKey("jobs.job_id"), nullable=False, index=True)


def _transaction() -> Column[Any]:
    return Column("transaction_id", ForeignKey("transactions.transaction_id"), index=True)


nodes = Table(
    "nodes",
    metadata,
    key("node_id"),
    integer("provider"),
    text("key"),
    text("payout"),
    integer("bonded_usd_micros"),
    text("name"),
    text("version"),
    flag("connected"),
    time("heard_s"),
    time("changed_s"),
    maybe_json("offer"),  # market.book.Terms; none until the node has offered anything
    text("card", ""),  # domain.cards.card of that offer
    text("standing", "untested"),  # domain.cards.Standing of that card
    text("standing_text", ""),  # why, a sentence
    time("tested_s"),  # when its card was last asked to show what it can do
    time("proven_s"),  # when it last did
    text("network", ""),  # market.operators.network of the address that it dialled from
    time("refused_s"),  # when it last did not do a check that it was drawn for
)

standings = Table(
    "standings",
    metadata,
    Column("provider", BigInteger, primary_key=True, autoincrement=False),
    integer("clean_windows", 0),  # audited and passed since the last fault, not counting those among friends
    integer("frauds", 0),
)

bans = Table("bans", metadata, number("provider"), key("numeric_class"), time("until_s", None))

renters = Table("renters", metadata, key("renter"), integer("next_nonce", 0))

quotes = Table(
    "quotes",
    metadata,
    key("quote_id"),
    Column("renter", String, nullable=False, index=True),
    time("expires_s", None),
    json("quote"),
)

jobs = Table(
    "jobs",
    metadata,
    key("job_id"),
    text("renter"),
    text("request_id"),
    Column("quote_id", String, nullable=False, unique=True),
    text("recipe"),
    json("spec"),
    json("quote"),
    json("order"),  # signed
    integer("nonce"),
    integer("cap_usd_micros"),
    integer("steps"),
    time("created_s", None),
    Column("reason", String, nullable=False, index=True),  # domain.jobs.JobReason; the state is derived from it
    text("reason_text", ""),
    text("ending", ""),  # domain.jobs.Ending: how it will end whatever is still accepted
    text("ending_text", ""),
    time("queued_s"),
    integer("steps_accepted", 0),
    integer("segments_accepted", 0),
    maybe_text("state_root"),  # after the last accepted segment
    maybe_json("state"),  # ArtifactRef of that state
    maybe_json("sigma"),  # tolerance mode: domain.tolerance.Distance between two other kinds, {} if there were none
    integer("last_event", 0),
    maybe_json("wanted"),  # Statement that the renter is asked to sign
    time("wanted_s"),
    maybe_text("statement_id"),  # the one that pays
    _transaction(),  # the settlement that it is in
    maybe_text("settle_tx"),  # the transaction that paid, whoever sent it
    integer("paid_usd_micros", 0),
    *claim(),
    UniqueConstraint("renter", "request_id"),
)

attempts = Table(
    "attempts",
    metadata,
    key("attempt_id"),
    _job(),
    integer("number"),
    Column("node_id", String, nullable=False, index=True),
    text("node_key"),
    Column("provider", BigInteger, nullable=False, index=True),
    text("payout"),
    text("provider_name"),
    text("device"),
    text("sandbox"),
    text("numeric_class"),
    integer("verifier"),  # payee id of the verifier that the price's statement names
    integer("price_usd_micros"),
    integer("lock_usd_micros", 0),  # of the provider's bond, staked on this
    text("lease_id"),
    Column("state", String, nullable=False, index=True),  # AttemptState
    text("reason", ""),
    text("code", ""),
    integer("step_from"),
    integer("segment_from"),
    maybe_text("state_root"),  # where it starts; none at step 0
    maybe_json("start"),  # ArtifactRef of that state
    integer("step_to"),  # committed so far
    integer("step_seen"),  # reported so far
    integer("receipt_number", 0),
    integer("gpu_ms", 0),
    maybe_json("finished"),  # progress.Finished
    maybe_json("incidents"),  # incidents_json and signature as its node sent them when it was over
    time("created_s", None),
    time("sent_s"),
    time("stopped_s"),  # when the node was first told to stop
    time("ended_s"),
    flag("released"),
    # Its node has not been told yet what is payable.
    Column("payable_news", Boolean, nullable=False, default=False, index=True),
    *claim(),
    UniqueConstraint("job_id", "number"),
)

segments = Table(
    "segments",
    metadata,
    Column("attempt_id", ForeignKey("attempts.attempt_id"), primary_key=True),
    Column("segment", BigInteger, primary_key=True, autoincrement=False),
    Column("window_id", ForeignKey("windows.window_id"), nullable=False, index=True),
    json("signed"),  # SignedRecord
    text("leaf"),  # of that record: anybody may ask for it, and it takes a millisecond to make
    json("state"),  # ArtifactRef of the boundary state after it
    flag("uploaded"),
    flag("checked"),  # it has the root that the record names
    time("asked_s"),  # when the state was first wanted from the node
    time("told_s"),  # when the node was last told so
    text("refused", ""),  # why the node cannot serve it
)

windows = Table(
    "windows",
    metadata,
    key("window_id"),
    _job(),
    Column("attempt_id", ForeignKey("attempts.attempt_id"), nullable=False),
    integer("number"),
    Column("state", String, nullable=False, index=True),  # WindowState
    text("reason", ""),
    text("finding", ""),  # domain.windows.Finding, once void
    integer("first_index"),
    integer("capacity"),  # segments after which it closes
    integer("segments", 0),  # that count, once closed
    integer("steps", 0),  # that they cover
    flag("ends_job"),  # whether their last one reaches the job's last step
    maybe_text("root"),
    Column("anchor_id", ForeignKey("anchors.anchor_id"), index=True),
    maybe_json("proof"),  # merkle.InclusionProof of root in the anchor's root
    maybe_text("beacon"),
    time("sampled_s"),
    maybe_integer("samples_ppm"),  # how many were drawn, besides the job's first and last segment
    maybe_json("basis"),  # jobs.SampleBasis: what that was computed from
    Column("verifier", BigInteger),  # payee id that the statement's line names, once passed
    *claim(),
    UniqueConstraint("attempt_id", "number"),
)

audits = Table(
    "audits",
    metadata,
    key("audit_id"),
    _job(),
    Column("window_id", ForeignKey("windows.window_id"), nullable=False),
    Column("attempt_id", ForeignKey("attempts.attempt_id"), nullable=False),
    integer("segment"),
    text("why"),  # AuditView.why_drawn
    Column("outcome", String, nullable=False, index=True, default="pending"),
    Column("node_id", String, index=True),
    Column("verifier", BigInteger, index=True),
    text("verifier_name", ""),
    time("assigned_s"),
    time("sent_s"),
    json("refused"),  # node id -> unix time of its refusal or time-out
    integer("refusals", 0),
    maybe_text("committed"),  # commitments.answer_digest, signed by the verifier's node before it says its answer
    maybe_text("commitment_signature"),
    time("reveal_s"),  # when it was first asked for its answer
    time("told_s"),  # when it was last asked so
    maybe_text("salt"),
    maybe_json("replayed"),  # progress.Replayed
    maybe_json("distance"),  # tolerance mode: domain.tolerance.Distance from the provider's state
    *claim(),
    UniqueConstraint("window_id", "segment", "why"),
)

anchors = Table(
    "anchors",
    metadata,
    key("anchor_id"),
    text("root"),
    _transaction(),
    maybe_text("beacon"),
    *claim(),
    Index("ix_anchors_waiting", "beacon", "due_s"),
)

statements = Table(
    "statements",
    metadata,
    Column("job_id", ForeignKey("jobs.job_id"), primary_key=True),
    key("statement_id"),  # SHA-256 of the statement's canonical JSON
    json("signed"),
)

certificates = Table(
    "certificates",
    metadata,
    Column("job_id", ForeignKey("jobs.job_id"), primary_key=True),
    maybe_text("payload"),  # certificate.CertificateStatement as it is signed
    time("asked_s"),  # since when its machines are asked to sign this payload
    json("signatures"),  # node id -> its signature of the payload
    json("unsigned"),  # node id -> why it does not sign
    maybe_text("envelope"),  # certificate.Envelope, once it is issued
    flag("issued"),
    *claim(),
    Index("ix_certificates_waiting", "issued", "due_s"),
)

# Work that did not hold, and what its provider's stake is in dispute for.
disputes = Table(
    "disputes",
    metadata,
    key("window_id"),  # one window, one dispute
    _job(),
    Column("attempt_id", ForeignKey("attempts.attempt_id"), nullable=False, index=True),
    integer("segment"),  # the first that does not hold
    integer("provider"),
    text("provider_name"),
    text("tier"),  # domain.disputes.Tier
    text("reason"),
    json("documents"),  # what shows it: signed records, verifiers' answers
    text("evidence"),  # SHA-256 of their canonical JSON
    time("opened_s"),  # when it was found
    integer("amount_usd_micros", 0),  # of stake in question
    integer("slashed_usd_micros", 0),
    maybe_integer("dispute"),  # its id on chain
    text("phase", ""),  # domain.disputes.Phase and what else of it the renter was told
    text("course", ""),  # how it stands, in a sentence
    time("told_s"),  # when those whose turn it is were last told
    json("digests"),  # referee -> SHA-256 of what its own re-run gave
    maybe_json("steps"),  # the provider's state roots after each step, by its own re-run
    maybe_integer("parted_step"),  # the first after which a referee's differ from them
    _transaction(),
    maybe_text("tx_hash"),  # of what happened last
    flag("closed"),
    *claim(),
)

events = Table(
    "events",
    metadata,
    Column("job_id", ForeignKey("jobs.job_id"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    integer("at_ms"),
    text("kind"),
    text("text"),
    json("fields"),
)

grants = Table("grants", metadata, key("sha256"), key("subject"))

# The chain: what we send there (chain/sender.py), what we saw there (chain/watcher.py), what does not add up.

transactions = Table(
    "transactions",
    metadata,
    key("transaction_id"),
    text("kind"),  # of the call
    json("payload"),  # chain.port.Call
    maybe_integer("worth_usd_micros"),  # what its gas may cost at most; none: whatever it takes
    maybe_text("sender"),  # the operator's address, once it has a nonce
    maybe_integer("nonce"),  # of that address; assigned once, stored before anything is sent
    integer("gas", 0),
    json("sends"),  # chain.sender.Send, the oldest first: the same nonce at rising fees
    maybe_text("tx_hash"),  # the send that is in a block
    maybe_integer("block"),
    maybe_text("block_hash"),
    Column("outcome", String, nullable=False, index=True, default=""),  # domain.gas.Outcome, once it is final
    text("reason", ""),
    time("created_s", None),
    time("due_s"),
    UniqueConstraint("sender", "nonce"),
)

# What the operator pays the gas of for an account.
relays = Table(
    "relays",
    metadata,
    key("relay_id"),  # SHA-256 of the call and, for a withdrawal's end, of the request that it ends
    text("renter"),  # whose account
    text("kind"),
    Column("transaction_id", ForeignKey("transactions.transaction_id"), nullable=False),
    time("created_s", None),
    Index("ix_relays_renter_kind", "renter", "kind"),
)

blocks = Table(
    "blocks",
    metadata,
    number("number"),
    text("hash"),
    text("parent"),
    integer("at_s"),
)

ledger_events = Table(
    "ledger_events",
    metadata,
    number("block"),
    number("log_index"),
    text("block_hash"),
    text("tx_hash"),
    text("contract"),  # ledger, registry or disputes
    Column("name", String, nullable=False, index=True),  # as in the ABI
    json("args"),  # by the ABI's names; bytes are 0x-prefixed hex, numbers of more than 63 bits decimal text
    maybe_text("key"),  # the checksummed address of the account or node key that it is about
    Column("payee", BigInteger, index=True),  # the payee or provider that it is about
    maybe_integer("nonce"),  # of a statement; in events of disputes the dispute's id
    maybe_integer("amount_usd_micros"),  # its amount, total or sum paid
    integer("at_s"),
    Index("ix_ledger_events_key_nonce", "key", "nonce"),
)

cursors = Table(
    "cursors",
    metadata,
    key("name"),  # who works from here: one at a time, whatever the number of replicas
    integer("block", 0),  # done up to this block
    maybe_text("hash"),
    time("moved_s"),
    text("trouble", ""),  # what is wrong with the node that it works from
    *claim(),
)

alarms = Table(
    "alarms",
    metadata,
    key("subject"),
    text("text"),
    integer("expected"),
    integer("found"),
    integer("block"),
    time("raised_s", None),
    time("cleared_s"),  # 0 while the difference stands
)

# What cards were asked to show, and what came of it.
challenges = Table(
    "challenges",
    metadata,
    key("challenge_id"),
    text("cohort_id"),  # those with the same one start at the same instant
    Column("node_id", String, nullable=False, index=True),
    text("payout"),
    text("kind"),  # domain.cards.kind: whose times are compared
    text("driver"),
    Column("state", String, nullable=False, index=True),  # domain.cards.ChallengeState
    text("seed"),
    json("sizes"),
    maybe_json("commitment"),
    maybe_json("draw"),
    time("asked_s", None),
    time("started_s"),
    integer("elapsed_ms", 0),
    text("finding", ""),
    Index("ix_challenges_kind_state", "kind", "state"),
)
