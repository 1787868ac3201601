"""The tables behind the pages: who teaches, with which examples, what was asked of a finished model."""

from sqlalchemy import Column, ForeignKey, Index, String, Table, UniqueConstraint

from gristmill_coordinator.store.columns import (
    claim,
    flag,
    integer,
    json,
    key,
    maybe_json,
    maybe_text,
    metadata,
    text,
    time,
)

makers = Table(
    "makers",
    metadata,
    key("maker_id"),
    Column("email", String, unique=True),  # none: a guest, with test money only
    Column("renter", String, nullable=False, unique=True),  # lower-case 0x address of the key that we hold for it
    json("sealed_key"),  # a keystore, whose password follows from our secret
    time("created_s", None),
)

sign_ins = Table(
    "sign_ins",
    metadata,
    key("digest"),  # SHA-256 of what the link holds
    text("email"),
    maybe_text("guest_id"),  # the guest who asked, whose work the e-mail address then gets
    time("expires_s", None),
    flag("used"),
)

# One thing that somebody teaches: from the examples to the order. A job is the rest of its life.
drafts = Table(
    "drafts",
    metadata,
    key("draft_id"),
    Column("maker_id", ForeignKey("makers.maker_id"), nullable=False),
    text("request_id"),  # of the form that made it: sent twice, it makes one
    text("goal"),  # a recipe's id
    text("name"),
    flag("example"),  # the recipe's own example data
    integer("size_bytes", 0),  # of what was brought, and perhaps of what was replaced or refused since
    json("roles"),  # which column plays which part, as somebody confirmed it
    json("repairs"),  # ids of what is mended at the next look
    Column("stage", String, nullable=False, index=True),  # studio.drafts.Stage
    maybe_json("look"),  # studio.looking.LookView
    maybe_json("trouble"),  # a Problem: why it could not be looked at
    json("choices"),  # studio.drafts.Choices
    maybe_json("data"),  # ArtifactRef of the packed examples
    maybe_json("spec"),
    maybe_json("quote"),
    Column("job_id", String, index=True),
    maybe_json("mistakes"),  # examples that the finished model got wrong: studio.look_process.SampleView
    time("created_s", None),
    time("changed_s", None),
    *claim(),
    UniqueConstraint("maker_id", "request_id"),
    Index("ix_drafts_maker_created", "maker_id", "created_s"),
)

payins = Table(
    "payins",
    metadata,
    key("payin_id"),
    Column("maker_id", ForeignKey("makers.maker_id"), nullable=False, index=True),
    text("request_id"),  # of the form that asked for it
    integer("amount_usd_micros"),
    flag("make"),  # test money that is made first
    Column("state", String, nullable=False, index=True),  # studio.paying_in.State
    maybe_text("relay_id"),  # of what was handed in last
    text("reason", ""),  # why it failed
    time("created_s", None),
    *claim(),
    UniqueConstraint("maker_id", "request_id"),
)

tries = Table(
    "tries",
    metadata,
    key("try_id"),
    Column("job_id", ForeignKey("jobs.job_id"), nullable=False, index=True),
    text("asked"),  # the text, or the file's name
    maybe_text("picture"),  # PNG in base64, small
    json("answers"),
    maybe_json("trouble"),
    time("at_s", None),
)
