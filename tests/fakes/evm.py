"""A real EVM node for tests: anvil, started for one test session, with the contracts on it."""

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3

from gristmill_contracts import onboarding
from gristmill_contracts.anvil import anvil_command, find_anvil, give_gas, listening_at
from gristmill_contracts.cover import Cover
from gristmill_contracts.deploy import Deployment, NewRecipe, deploy
from gristmill_contracts.disputes import Disputes
from gristmill_contracts.ledger import Ledger
from gristmill_contracts.node import Sender, connect
from gristmill_contracts.recipes import RecipeRegistry
from gristmill_contracts.registry import Registry
from gristmill_contracts.test_usd import TestUSD
from gristmill_protocol.errors import MissingPart
from gristmill_protocol.jobs import Reservation, SignedReservation, SignedStatement, Statement, StatementLine
from gristmill_protocol.signing import (
    RESERVATION_TYPE,
    STATEMENT_TYPE,
    reservation_message,
    sign,
    statement_message,
)


def have_anvil() -> bool:
    try:
        return find_anvil().exists()
    except MissingPart:
        return False


@contextmanager
def running_anvil() -> Iterator[str]:
    """Start a fresh chain; gives its RPC address."""
    with subprocess.Popen(anvil_command(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        # It prints a line a request. They must be read, or it would soon wait for a full pipe for ever.
        drain = threading.Thread(target=process.stdout.read)
        try:
            address = next(address for line in process.stdout if (address := listening_at(line)))
            drain.start()
            yield address
        finally:
            process.terminate()
            if drain.is_alive():
                drain.join()


class Anvil:
    """A chain that can be killed and come back at the same address; blocks come by mine() only.

    Args:
        state: the file that it keeps its blocks in. It is written when the node ends; what is mined between that and a
            kill -9 is lost.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._process: subprocess.Popen[str] | None = None
        self.rpc_url = ""
        self.start()

    def start(self) -> None:
        port = int(self.rpc_url.rpartition(":")[2] or 0)
        command = [*anvil_command(port=port, state=self._state), "--no-mining", "--preserve-historical-states"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.rpc_url = next(address for line in self._process.stdout if (address := listening_at(line)))
        # What it prints is read on, or it would wait for a full pipe for ever.
        self._drain = threading.Thread(target=self._process.stdout.read, daemon=True)
        self._drain.start()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal; SIGTERM lets it write its state."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait()
        self._drain.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


@dataclass(frozen=True)
class Evm:
    """A chain with a deployed market on it; the relayer pays everybody's gas."""

    rpc_url: str
    w3: Web3
    deployment: Deployment
    relayer: Sender
    operator: LocalAccount

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.w3, self.deployment.ledger)

    @property
    def registry(self) -> Registry:
        return Registry(self.w3, self.deployment.registry)

    @property
    def recipes(self) -> RecipeRegistry:
        return RecipeRegistry(self.w3, self.deployment.recipe_registry)

    @property
    def disputes(self) -> Disputes:
        return Disputes(self.w3, self.deployment.disputes)

    @property
    def cover(self) -> Cover:
        return Cover(self.w3, self.deployment.cover)

    @property
    def token(self) -> TestUSD:
        return TestUSD(self.w3, self.deployment.token)

    def sender(self) -> Sender:
        """A fresh key with gas."""
        account = Account.create()
        give_gas(self.w3, account.address)
        return Sender(self.w3, account)

    def now(self) -> int:
        """The chain's clock."""
        return int(self.w3.eth.get_block("latest")["timestamp"])

    def sign_statement(
        self, renter: LocalAccount, nonce: int, *lines: StatementLine, deadline_s: int = 2**39
    ) -> SignedStatement:
        statement = Statement(nonce=nonce, deadline_s=deadline_s, lines=lines)
        signature = sign(renter, self.ledger.domain(), STATEMENT_TYPE, statement_message(statement))
        return SignedStatement(statement=statement, signature=signature)

    def sign_reservation(
        self,
        renter: LocalAccount,
        nonce: int,
        *,
        provider: int,
        cap_usd_micros: int,
        accepted_usd_micros: int = 0,
        forced_from_s: int | None = None,
    ) -> SignedReservation:
        """The operator's promise about the nonce, to be forced from now on unless a time is given."""
        reservation = Reservation(
            key=renter.address,
            coordinator=self.deployment.coordinator_id,
            provider=provider,
            nonce=nonce,
            cap_usd_micros=cap_usd_micros,
            accepted_usd_micros=accepted_usd_micros,
            forced_from_s=self.now() if forced_from_s is None else forced_from_s,
        )
        signature = sign(self.operator, self.ledger.domain(), RESERVATION_TYPE, reservation_message(reservation))
        return SignedReservation(reservation=reservation, signature=signature)

    def open_account(self, key: LocalAccount, balance_usd_micros: int) -> None:
        onboarding.open_and_fund(self.relayer, self.deployment, key, balance_usd_micros)

    def add_provider(
        self, *, node_key: str, bonded_usd_micros: int = 100_000_000, provider: Sender | None = None
    ) -> int:
        """A provider's id; it is paid at a fresh key unless a sender is given."""
        provider = provider or self.sender()
        self.relayer.run(self.token.mint(provider.address, bonded_usd_micros))
        return onboarding.register_provider(
            provider, self.deployment, node_key=node_key, bond_usd_micros=bonded_usd_micros
        )


@contextmanager
def evm_market() -> Iterator[Evm]:
    """A fresh chain with a coordinator and two recipes on it."""
    with running_anvil() as rpc_url:
        yield open_market(rpc_url)


def open_market(rpc_url: str) -> Evm:
    """A coordinator and two recipes on a fresh chain."""
    w3 = connect(rpc_url)
    relayer, operator = Sender(w3, Account.create()), Account.create()
    for address in (relayer.address, operator.address):
        give_gas(w3, address)
    deployment = deploy(
        w3,
        relayer.account,
        treasury=Account.create().address,
        operator=operator.address,
        recipes={
            "image-sorter": NewRecipe(Account.create().address, royalty_bps=300, verifier_bps=200),
            "text-sorter": NewRecipe(Account.create().address, royalty_bps=0, verifier_bps=2000),
        },
    )
    return Evm(rpc_url, w3, deployment, relayer, operator)
