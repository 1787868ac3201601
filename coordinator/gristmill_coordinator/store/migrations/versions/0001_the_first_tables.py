"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _market()
    _jobs()


def _market() -> None:
    op.create_table(
        "alarms",
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("expected", sa.BigInteger(), nullable=False),
        sa.Column("found", sa.BigInteger(), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("raised_s", sa.Float(precision=53), nullable=False),
        sa.Column("cleared_s", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_alarms")),
    )
    op.create_table(
        "blocks",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("parent", sa.String(), nullable=False),
        sa.Column("at_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_blocks")),
    )
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(), nullable=True),
        sa.Column("moved_s", sa.Float(precision=53), nullable=False),
        sa.Column("trouble", sa.String(), nullable=False),
        sa.Column("lock_token", sa.String(), nullable=True),
        sa.Column("due_s", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cursors")),
    )
    op.create_table(
        "grants",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", "subject", name=op.f("pk_grants")),
    )
    op.create_table(
        "ledger_events",
        sa.Column("block", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("log_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("block_hash", sa.String(), nullable=False),
        sa.Column("tx_hash", sa.String(), nullable=False),
        sa.Column("contract", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("args", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("key", sa.String(), nullable=True),
        sa.Column("payee", sa.BigInteger(), nullable=True),
        sa.Column("nonce", sa.BigInteger(), nullable=True),
        sa.Column("amount_usd_micros", sa.BigInteger(), nullable=True),
        sa.Column("at_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("block", "log_index", name=op.f("pk_ledger_events")),
    )
    op.create_index("ix_ledger_events_key_nonce", "ledger_events", ["key", "nonce"], unique=False)
    op.create_index(op.f("ix_ledger_events_name"), "ledger_events", ["name"], unique=False)
    op.create_index(op.f("ix_ledger_events_payee"), "ledger_events", ["payee"], unique=False)
    op.create_table(
        "nodes",
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("provider", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("payout", sa.String(), nullable=False),
        sa.Column("bonded_usd_micros", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("connected", sa.Boolean(), nullable=False),
        sa.Column("heard_s", sa.Float(precision=53), nullable=False),
        sa.Column("changed_s", sa.Float(precision=53), nullable=False),
        sa.Column("offer", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("card", sa.String(), nullable=False),
        sa.Column("standing", sa.String(), nullable=False),
        sa.Column("standing_text", sa.String(), nullable=False),
        sa.Column("tested_s", sa.Float(precision=53), nullable=False),
        sa.Column("proven_s", sa.Float(precision=53), nullable=False),
        sa.Column("network", sa.String(), nullable=False),
        sa.Column("refused_s", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_nodes")),
    )
    op.create_table(
        "challenges",
        sa.Column("challenge_id", sa.String(), nullable=False),
        sa.Column("cohort_id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("payout", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("driver", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("seed", sa.String(), nullable=False),
        sa.Column("sizes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("commitment", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("draw", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("asked_s", sa.Float(precision=53), nullable=False),
        sa.Column("started_s", sa.Float(precision=53), nullable=False),
        sa.Column("elapsed_ms", sa.BigInteger(), nullable=False),
        sa.Column("finding", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("challenge_id", name=op.f("pk_challenges")),
    )
    op.create_index("ix_challenges_kind_state", "challenges", ["kind", "state"], unique=False)
    op.create_index(op.f("ix_challenges_node_id"), "challenges", ["node_id"], unique=False)
    op.create_index(op.f("ix_challenges_state"), "challenges", ["state"], unique=False)
    op.create_table(
        "quotes",
        sa.Column("quote_id", sa.String(), nullable=False),
        sa.Column("renter", sa.String(), nullable=False),
        sa.Column("expires_s", sa.Float(precision=53), nullable=False),
        sa.Column("quote", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("quote_id", name=op.f("pk_quotes")),
    )
    op.create_index(op.f("ix_quotes_renter"), "quotes", ["renter"], unique=False)
    op.create_table(
        "renters",
        sa.Column("renter", sa.String(), nullable=False),
        sa.Column("next_nonce", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("renter", name=op.f("pk_renters")),
    )
    op.create_table(
        "standings",
        sa.Column("provider", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("clean_windows", sa.BigInteger(), nullable=False),
        sa.Column("frauds", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("provider", name=op.f("pk_standings")),
    )
    op.create_table(
        "bans",
        sa.Column("provider", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("numeric_class", sa.String(), nullable=False),
        sa.Column("until_s", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("provider", "numeric_class", name=op.f("pk_bans")),
    )
    op.create_table(
        "transactions",
        sa.Column("transaction_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("payload", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("worth_usd_micros", sa.BigInteger(), nullable=True),
        sa.Column("sender", sa.String(), nullable=True),
        sa.Column("nonce", sa.BigInteger(), nullable=True),
        sa.Column("gas", sa.BigInteger(), nullable=False),
        sa.Column("sends", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("tx_hash", sa.String(), nullable=True),
        sa.Column("block", sa.BigInteger(), nullable=True),
        sa.Column("block_hash", sa.String(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("created_s", sa.Float(precision=53), nullable=False),
        sa.Column("due_s", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("transaction_id", name=op.f("pk_transactions")),
        sa.UniqueConstraint("sender", "nonce", name=op.f("uq_transactions_sender_nonce")),
    )
    op.create_index(op.f("ix_transactions_outcome"), "transactions", ["outcome"], unique=False)
    op.create_table(
        "relays",
        sa.Column("relay_id", sa.String(), nullable=False),
        sa.Column("renter", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("transaction_id", sa.String(), nullable=False),
        sa.Column("created_s", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["transactions.transaction_id"], name=op.f("fk_relays_transaction_id_transactions")
        ),
        sa.PrimaryKeyConstraint("relay_id", name=op.f("pk_relays")),
    )
    op.create_index("ix_relays_renter_kind", "relays", ["renter", "kind"], unique=False)
    op.create_table(
        "anchors",
        sa.Column("anchor_id", sa.String(), nullable=False),
        sa.Column("root", sa.String(), nullable=False),
        sa.Column("transaction_id", sa.String(), nullable=True),
        sa.Column("beacon", sa.String(), nullable=True),
        sa.Column("lock_token", sa.String(), nullable=True),
        sa.Column("due_s", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["transactions.transaction_id"], name=op.f("fk_anchors_transaction_id_transactions")
        ),
        sa.PrimaryKeyConstraint("anchor_id", name=op.f("pk_anchors")),
    )
    op.create_index(op.f("ix_anchors_transaction_id"), "anchors", ["transaction_id"], unique=False)
    op.create_index("ix_anchors_waiting", "anchors", ["beacon", "due_s"], unique=False)


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("renter", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("quote_id", sa.String(), nullable=False),
        sa.Column("recipe", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("quote", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("order", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("cap_usd_micros", sa.BigInteger(), nullable=False),
        sa.Column("steps", sa.BigInteger(), nullable=False),
        sa.Column("created_s", sa.Float(precision=53), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("reason_text", sa.String(), nullable=False),
        sa.Column("ending", sa.String(), nullable=False),
        sa.Column("ending_text", sa.String(), nullable=False),
        sa.Column("queued_s", sa.Float(precision=53), nullable=False),
        sa.Column("steps_accepted", sa.BigInteger(), nullable=False),
        sa.Column("segments_accepted", sa.BigInteger(), nullable=False),
        sa.Column("state_root", sa.String(), nullable=True),
        sa.Column("state", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("sigma", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("last_event", sa.BigInteger(), nullable=False),
        sa.Column("wanted", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("wanted_s", sa.Float(precision=53), nullable=False),
        sa.Column("statement_id", sa.String(), nullable=True),
        sa.Column("transaction_id", sa.String(), nullable=True),
        sa.Column("settle_tx", sa.String(), nullable=True),
        sa.Column("paid_usd_micros", sa.BigInteger(), nullable=False),
        sa.Column("lock_token", sa.String(), nullable=True),
        sa.Column("due_s", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["transactions.transaction_id"], name=op.f("fk_jobs_transaction_id_transactions")
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("quote_id", name=op.f("uq_jobs_quote_id")),
        sa.UniqueConstraint("renter", "request_id", name=op.f("uq_jobs_renter_request_id")),
    )
    op.create_index(op.f("ix_jobs_reason"), "jobs", ["reason"], unique=False)
    op.create_index(op.f("ix_jobs_transaction_id"), "jobs", ["transaction_id"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("attempt_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("node_key", sa.String(), nullable=False),
        sa.Column("provider", sa.BigInteger(), nullable=False),
        sa.Column("payout", sa.String(), nullable=False),
        sa.Column("provider_name", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("sandbox", sa.String(), nullable=False),
        sa.Column("numeric_class", sa.String(), nullable=False),
        sa.Column("verifier", sa.BigInteger(), nullable=False),
        sa.Column("price_usd_micros", sa.BigInteger(), nullable=False),
        sa.Column("lock_usd_micros", sa.BigInteger(), nullable=False),
        sa.Column("lease_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("step_from", sa.BigInteger(), nullable=False),
        sa.Column("segment_from", sa.BigInteger(), nullable=False),
        sa.Column("state_root", sa.String(), nullable=True),
        sa.Column("start", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("step_to", sa.BigInteger(), nullable=False),
        sa.Column("step_seen", sa.BigInteger(), nullable=False),
        sa.Column("receipt_number", sa.BigInteger(), nullable=False),
        sa.Column("gpu_ms", sa.BigInteger(), nullable=False),
        sa.Column("finished", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("incidents", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_s", sa.Float(precision=53), nullable=False),
        sa.Column("sent_s", sa.Float(precision=53), nullable=False),
        sa.Column("stopped_s", sa.Float(precision=53), nullable=False),
        sa.Column("ended_s", sa.Float(precision=53), nullable=False),
        sa.Column("released", sa.Boolean(), nullable=False),
        sa.Column("payable_news", sa.Boolean(), nullable=False),
        sa.Column("lock_token", sa.String(), nullable=True),
        sa.Column("due_s", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_attempts_job_id_jobs")),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_attempts")),
        sa.UniqueConstraint("job_id", "number", name=op.f("uq_attempts_job_id_number")),
    )
    op.create_index(op.f("ix_attempts_job_id"), "attempts", ["job_id"], unique=False)
    op.create_index(op.f("ix_attempts_node_id"), "attempts", ["node_id"], unique=False)
    op.create_index(op.f("ix_attempts_payable_news"), "attempts", ["payable_news"], unique=False)
    op.create_index(op.f("ix_attempts_state"), "attempts", ["state"], unique=False)
    op.create_table(
        "disputes",
        sa.Column("window_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("attempt_id", sa.String(), nullable=False),
        sa.Column("segment", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.BigInteger(), nullable=False),
        sa.Column("provider_name", sa.String(), nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("documents", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("opened_s", sa.Float(precision=53), nullable=False),
        sa.Column("amount_usd_micros", sa.BigInteger(), nullable=False),
        sa.Column("slashed_usd_micros", sa.BigInteger(), nullable=False),
        sa.Column("dispute", sa.BigInteger(), nullable=True),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("course", sa.String(), nullable=False),
        sa.Column("told_s", sa.Float(precision=53), nullable=False),
        sa.Column("digests", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("steps", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("parted_step", sa.BigInteger(), nullable=True),
        sa.Column("transaction_id", sa.String(), nullable=True),
        sa.Column("tx_hash", sa.String(), nullable=True),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("lock_token", sa.String(), nullable=True),
        sa.Column("due_s", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.attempt_id"], name=op.f("fk_disputes_attempt_id_attempts")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_disputes_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["transactions.transaction_id"], name=op.f("fk_disputes_transaction_id_transactions")
        ),
        sa.PrimaryKeyConstraint("window_id", name=op.f("pk_disputes")),
    )
    op.create_index(op.f("ix_disputes_attempt_id"), "disputes", ["attempt_id"], unique=False)
    op.create_index(op.f("ix_disputes_job_id"), "disputes", ["job_id"], unique=False)
    op.create_index(op.f("ix_disputes_transaction_id"), "disputes", ["transaction_id"], unique=False)
    op.create_table(
        "events",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("fields", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_events_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", "seq", name=op.f("pk_events")),
    )
    op.create_table(
        "certificates",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("payload", sa.String(), nullable=True),
        sa.Column("asked_s", sa.Float(precision=53), nullable=False),
        sa.Column("signatures", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("unsigned", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("envelope", sa.String(), nullable=True),
        sa.Column("issued", sa.Boolean(), nullable=False),
        sa.Column("lock_token", sa.String(), nullable=True),
        sa.Column("due_s", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_certificates_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_certificates")),
    )
    op.create_index("ix_certificates_waiting", "certificates", ["issued", "due_s"], unique=False)
    op.create_table(
        "statements",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("statement_id", sa.String(), nullable=False),
        sa.Column("signed", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_statements_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", "statement_id", name=op.f("pk_statements")),
    )
    op.create_table(
        "windows",
        sa.Column("window_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("attempt_id", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("finding", sa.String(), nullable=False),
        sa.Column("first_index", sa.BigInteger(), nullable=False),
        sa.Column("capacity", sa.BigInteger(), nullable=False),
        sa.Column("segments", sa.BigInteger(), nullable=False),
        sa.Column("steps", sa.BigInteger(), nullable=False),
        sa.Column("ends_job", sa.Boolean(), nullable=False),
        sa.Column("root", sa.String(), nullable=True),
        sa.Column("anchor_id", sa.String(), nullable=True),
        sa.Column("proof", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("beacon", sa.String(), nullable=True),
        sa.Column("sampled_s", sa.Float(precision=53), nullable=False),
        sa.Column("samples_ppm", sa.BigInteger(), nullable=True),
        sa.Column("basis", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("verifier", sa.BigInteger(), nullable=True),
        sa.Column("lock_token", sa.String(), nullable=True),
        sa.Column("due_s", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["anchor_id"], ["anchors.anchor_id"], name=op.f("fk_windows_anchor_id_anchors")),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.attempt_id"], name=op.f("fk_windows_attempt_id_attempts")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_windows_job_id_jobs")),
        sa.PrimaryKeyConstraint("window_id", name=op.f("pk_windows")),
        sa.UniqueConstraint("attempt_id", "number", name=op.f("uq_windows_attempt_id_number")),
    )
    op.create_index(op.f("ix_windows_anchor_id"), "windows", ["anchor_id"], unique=False)
    op.create_index(op.f("ix_windows_job_id"), "windows", ["job_id"], unique=False)
    op.create_index(op.f("ix_windows_state"), "windows", ["state"], unique=False)
    op.create_table(
        "audits",
        sa.Column("audit_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("window_id", sa.String(), nullable=False),
        sa.Column("attempt_id", sa.String(), nullable=False),
        sa.Column("segment", sa.BigInteger(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=True),
        sa.Column("verifier", sa.BigInteger(), nullable=True),
        sa.Column("verifier_name", sa.String(), nullable=False),
        sa.Column("assigned_s", sa.Float(precision=53), nullable=False),
        sa.Column("sent_s", sa.Float(precision=53), nullable=False),
        sa.Column("refused", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("refusals", sa.BigInteger(), nullable=False),
        sa.Column("committed", sa.String(), nullable=True),
        sa.Column("commitment_signature", sa.String(), nullable=True),
        sa.Column("reveal_s", sa.Float(precision=53), nullable=False),
        sa.Column("told_s", sa.Float(precision=53), nullable=False),
        sa.Column("salt", sa.String(), nullable=True),
        sa.Column("replayed", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("distance", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("lock_token", sa.String(), nullable=True),
        sa.Column("due_s", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.attempt_id"], name=op.f("fk_audits_attempt_id_attempts")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_audits_job_id_jobs")),
        sa.ForeignKeyConstraint(["window_id"], ["windows.window_id"], name=op.f("fk_audits_window_id_windows")),
        sa.PrimaryKeyConstraint("audit_id", name=op.f("pk_audits")),
        sa.UniqueConstraint("window_id", "segment", "why", name=op.f("uq_audits_window_id_segment_why")),
    )
    op.create_index(op.f("ix_audits_job_id"), "audits", ["job_id"], unique=False)
    op.create_index(op.f("ix_audits_node_id"), "audits", ["node_id"], unique=False)
    op.create_index(op.f("ix_audits_outcome"), "audits", ["outcome"], unique=False)
    op.create_table(
        "segments",
        sa.Column("attempt_id", sa.String(), nullable=False),
        sa.Column("segment", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("window_id", sa.String(), nullable=False),
        sa.Column("signed", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("leaf", sa.String(), nullable=False),
        sa.Column("state", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("uploaded", sa.Boolean(), nullable=False),
        sa.Column("checked", sa.Boolean(), nullable=False),
        sa.Column("asked_s", sa.Float(precision=53), nullable=False),
        sa.Column("told_s", sa.Float(precision=53), nullable=False),
        sa.Column("refused", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.attempt_id"], name=op.f("fk_segments_attempt_id_attempts")),
        sa.ForeignKeyConstraint(["window_id"], ["windows.window_id"], name=op.f("fk_segments_window_id_windows")),
        sa.PrimaryKeyConstraint("attempt_id", "segment", name=op.f("pk_segments")),
    )
    op.create_index(op.f("ix_segments_window_id"), "segments", ["window_id"], unique=False)
    # ### end Alembic commands ###


def downgrade() -> None:
    op.drop_index(op.f("ix_segments_window_id"), table_name="segments")
    op.drop_table("segments")
    op.drop_index(op.f("ix_audits_outcome"), table_name="audits")
    op.drop_index(op.f("ix_audits_node_id"), table_name="audits")
    op.drop_index(op.f("ix_audits_job_id"), table_name="audits")
    op.drop_table("audits")
    op.drop_index(op.f("ix_windows_state"), table_name="windows")
    op.drop_index(op.f("ix_windows_job_id"), table_name="windows")
    op.drop_index(op.f("ix_windows_anchor_id"), table_name="windows")
    op.drop_table("windows")
    op.drop_table("statements")
    op.drop_table("events")
    op.drop_index(op.f("ix_disputes_transaction_id"), table_name="disputes")
    op.drop_index(op.f("ix_disputes_job_id"), table_name="disputes")
    op.drop_index(op.f("ix_disputes_attempt_id"), table_name="disputes")
    op.drop_table("disputes")
    op.drop_index(op.f("ix_attempts_state"), table_name="attempts")
    op.drop_index(op.f("ix_attempts_node_id"), table_name="attempts")
    op.drop_index(op.f("ix_attempts_job_id"), table_name="attempts")
    op.drop_table("attempts")
    op.drop_index(op.f("ix_jobs_transaction_id"), table_name="jobs")
    op.drop_index(op.f("ix_jobs_reason"), table_name="jobs")
    op.drop_table("jobs")
    op.drop_index("ix_anchors_waiting", table_name="anchors")
    op.drop_index(op.f("ix_anchors_transaction_id"), table_name="anchors")
    op.drop_table("anchors")
    op.drop_index("ix_relays_renter_kind", table_name="relays")
    op.drop_table("relays")
    op.drop_index(op.f("ix_transactions_outcome"), table_name="transactions")
    op.drop_table("transactions")
    op.drop_table("standings")
    op.drop_table("renters")
    op.drop_index(op.f("ix_quotes_renter"), table_name="quotes")
    op.drop_table("quotes")
    op.drop_index(op.f("ix_challenges_state"), table_name="challenges")
    op.drop_index(op.f("ix_challenges_node_id"), table_name="challenges")
    op.drop_index("ix_challenges_kind_state", table_name="challenges")
    op.drop_table("challenges")
    op.drop_table("nodes")
    op.drop_index(op.f("ix_ledger_events_payee"), table_name="ledger_events")
    op.drop_index(op.f("ix_ledger_events_name"), table_name="ledger_events")
    op.drop_index("ix_ledger_events_key_nonce", table_name="ledger_events")
    op.drop_table("ledger_events")
    op.drop_table("grants")
    op.drop_table("cursors")
    op.drop_table("blocks")
    op.drop_table("alarms")
    # ### end Alembic commands ###
