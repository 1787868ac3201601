"""A real EVM node for tests: anvil, started for one test session, with the contracts on it."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3

from gristmill_contracts import onboarding
from gristmill_contracts.anvil import anvil_command, find_anvil, give_gas, listening_at
from gristmill_contracts.deploy import Deployment, NewRecipe, deploy
from gristmill_contracts.ledger import Ledger
from gristmill_contracts.node import Sender, connect
from gristmill_contracts.registry import Registry
from gristmill_contracts.test_usd import TestUSD
from gristmill_protocol.errors import MissingPart


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
        try:
            yield next(address for line in process.stdout if (address := listening_at(line)))
        finally:
            # What it has printed since must be read, or it would wait for a full pipe for ever.
            drain = threading.Thread(target=process.stdout.read)
            drain.start()
            process.terminate()
            drain.join()


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
    def token(self) -> TestUSD:
        return TestUSD(self.w3, self.deployment.token)

    def sender(self) -> Sender:
        """A fresh key with gas."""
        account = Account.create()
        give_gas(self.w3, account.address)
        return Sender(self.w3, account)

    def open_account(self, key: LocalAccount, balance_usd_micros: int) -> None:
        onboarding.open_and_fund(self.relayer, self.deployment, key, balance_usd_micros)

    def add_provider(self, *, node_key: str, bonded_usd_micros: int = 100_000_000) -> int:
        provider = self.sender()
        self.relayer.run(self.token.mint(provider.address, bonded_usd_micros))
        return onboarding.register_provider(
            provider, self.deployment, node_key=node_key, bond_usd_micros=bonded_usd_micros
        )


@contextmanager
def evm_market() -> Iterator[Evm]:
    """A fresh chain with a coordinator and two recipes on it."""
    with running_anvil() as rpc_url:
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
        yield Evm(rpc_url, w3, deployment, relayer, operator)
