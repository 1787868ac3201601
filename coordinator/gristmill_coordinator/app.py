"""What a coordinator consists of. Stages and borders get all they use from here; see serve.py for how it runs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gristmill_coordinator.artifacts import distance
from gristmill_coordinator.artifacts.store import ArtifactStore
from gristmill_coordinator.chain.port import Chain
from gristmill_coordinator.config import Config
from gristmill_coordinator.domain import challenges
from gristmill_coordinator.links import Links
from gristmill_coordinator.market.book import OrderBook
from gristmill_coordinator.market.pulse import Pulse
from gristmill_coordinator.store.store import Store
from gristmill_coordinator.wake import Wake
from gristmill_protocol.challenges import Sizes
from gristmill_protocol.ids import NewId


@dataclass(frozen=True)
class Coordinator:
    """The parts of one coordinator process.

    Args:
        recipe_ids: recipe -> the Ledger's recipe id, from the deployment.
        secret: signs bearer tokens (api.auth).
        clock: unix seconds.
        started_s: when this process began; a node's silence is counted from here at the earliest, so that no attempt
            is lost because of our own outage.
        sizes: how much a machine's test asks for.
        root_of: the state root of a state's file, hex; BadData if it is none.
    """

    config: Config
    store: Store
    book: OrderBook
    chain: Chain
    links: Links
    artifacts: ArtifactStore
    recipe_ids: dict[str, int]
    secret: bytes
    clock: Callable[[], float]
    new_id: NewId
    wake: Wake
    started_s: float
    pulse: Pulse = field(default_factory=Pulse)
    sizes: Callable[[bool, int], Sizes] = challenges.sizes
    root_of: Callable[[Path], str] = distance.root_of
