"""Ids: a short prefix that names the kind, and 96 random bits."""

import secrets
from collections.abc import Callable
from hashlib import sha256

NewId = Callable[[str], str]


def new_id(kind: str) -> str:
    """A fresh id such as job_3f9a5c0d2b7e41f68a90c1d2."""
    return f"{kind}_{secrets.token_hex(12)}"


def id_bytes32(any_id: str) -> bytes:
    """The id as 32 bytes for signed messages: its SHA-256."""
    return sha256(any_id.encode()).digest()


def node_prefix(key: str) -> str:
    """What every node id of a signing key (an address) starts with, so that no other key can pose as its nodes."""
    return f"node_{key.removeprefix('0x').lower()}_"
