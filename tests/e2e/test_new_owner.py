"""From nothing to earning: one command, no questions, an offer in the market, a job, a payment."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from e2e.conftest import PATIENCE_S

from gristmill import Client
from gristmill_contracts.registry import Registry
from gristmill_localnet.net import Localnet
from gristmill_protocol.api import OfferView
from gristmill_provider.config import load_config

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]

NODE = str(Path(sys.executable).with_name("gristmill-node"))
AT_ONCE = "0.0001"  # USD an hour: cheaper than anybody


@contextmanager
def owner(folder: Path, net: Localnet, *flags: str) -> Iterator[list[str]]:
    """A new owner's node, set up and run with defaults; what it says so far."""
    command = [NODE, "up", "--config", folder / "node.toml", "--coordinator-url", net.url, "--cpu", "--yes", *flags]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as node:
        said: list[str] = []
        assert node.stderr is not None
        reader = threading.Thread(target=lambda: said.extend(node.stderr or ()))
        reader.start()
        yield said
        node.send_signal(signal.SIGTERM)
        reader.join(60)
    assert node.returncode == 0, "".join(said)


def offer_of(renter: Client, provider_id: int) -> OfferView:
    """The provider's offer, once its device is trusted."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        for offer in renter.market():
            if offer.provider == provider_id and offer.standing in ("proven", "provisional"):
                return offer
        assert time.monotonic() < deadline, "the offer did not come into the market"
        time.sleep(0.2)


def config_of(folder: Path, said: list[str]) -> Path:
    deadline = time.monotonic() + PATIENCE_S
    while not (folder / "node.toml").exists():
        assert time.monotonic() < deadline, "".join(said)
        time.sleep(0.1)
    return folder / "node.toml"


def test_a_new_owner_earns_within_minutes(net: Localnet, renter: Client, digits: Path, tmp_path: Path) -> None:
    folder, mine = tmp_path / "node", net.books.addresses["renter"]
    with owner(folder, net, "--own-renter", mine, "--ask", AT_ONCE) as said:
        config = load_config(config_of(folder, said))
        offer_of(renter, config.provider_id)
        job = renter.train("image-sorter", data=digits, quality="quick", budget="0.05")
        job.result(timeout_s=PATIENCE_S)

        registry = Registry(net.books.w3, net.books.deployment.registry)
        assert [attempt.provider for attempt in job.view().attempts] == [config.provider_id]
        assert registry.is_active(config.provider_id)

    earned = subprocess.run(
        [NODE, "earnings", "--config", folder / "node.toml", "--json"], check=True, capture_output=True, text=True
    )
    assert '"earned_usd_micros": 0' not in earned.stdout
    again = subprocess.run([NODE, "doctor", "--config", folder / "node.toml"], capture_output=True, text=True)
    assert again.returncode == 0, again.stdout
