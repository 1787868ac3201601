"""The store: transactions, and who may read which artifact."""

from sqlalchemy.ext.asyncio import AsyncEngine

from gristmill_coordinator.wake import Wake


class Store:
    """A database with our tables.

    Args:
        wake: told about topics after the transaction that concerns them is committed.
    """

    def __init__(self, engine: AsyncEngine, wake: Wake) -> None:
        self.engine = engine

    async def grant(self, sha256: str, subject: str) -> None:
        """Let a subject ("renter:<0xaddr lower>" or "node:<node_id>") read an artifact; again is harmless."""
        raise NotImplementedError

    async def allowed(self, sha256: str, subject: str) -> bool:
        """Whether a subject may read an artifact."""
        raise NotImplementedError
