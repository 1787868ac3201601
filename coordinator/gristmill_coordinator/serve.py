"""The composition root: builds a coordinator from its configuration and runs it until it is told to stop."""

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.config import Config


async def build(config: Config) -> Coordinator:
    """A coordinator with an up-to-date database, a filled order book and a chain client; nothing runs yet."""
    raise NotImplementedError


async def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        PortInUse: another program listens on a configured port.
    """
    raise NotImplementedError
