"""Gas per job, from receipts of a real EVM node: statements x lines in one settlement, in steady use.

A line is a job: it pays a provider, a verifier, a recipe's author and the treasury. The baseline is a plain ERC-20
transfer, which pays one. Peers' figures were measured once, with the same compiler and EVM version, and are quoted.
"""

import os
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3.contract.contract import ContractFunction

from gristmill_contracts import onboarding
from gristmill_contracts.anvil import anvil_command, give_gas, listening_at
from gristmill_contracts.deploy import Deployment, NewRecipe, deploy
from gristmill_contracts.ledger import Ledger
from gristmill_contracts.node import Sender, connect
from gristmill_contracts.test_usd import TestUSD
from gristmill_localnet.processes import Processes
from gristmill_protocol.jobs import SignedStatement, Statement, StatementLine
from gristmill_protocol.money import USD_MICROS
from gristmill_protocol.signing import STATEMENT_TYPE, sign, statement_message

SHAPES = ((1, 1), (100, 1), (100, 10), (50, 100), (1, 1000))  # statements, lines each
PROVIDERS = 8
PEERS = (
    ("iExec PoCo classic", 1_450_588, "1 payee"),
    ("iExec PoCo Boost", 422_746, "1 payee"),
    ("Sablier Flow, create and withdraw", 270_076, "1 payee"),
    ("Prime Intellect submitWork", 226_819, "no payee"),
    ("Livepeer redeem, alone", 159_532, "1 payee"),
    ("Livepeer redeem, batch of 100", 68_348, "1 payee"),
    ("x402 batch settlement, 1 channel", 44_953, "1 payee"),
    ("x402 batch settlement, 100 channels", 19_256, "1 payee"),
)


class Chain:
    """A fresh chain with a market whose slots have all been written before."""

    def __init__(self, rpc_url: str) -> None:
        w3 = connect(rpc_url)
        self.relayer, self.operator = Sender(w3, Account.create()), Sender(w3, Account.create())
        for sender in (self.relayer, self.operator):
            give_gas(w3, sender.address)
        author = Account.create().address
        self.deployment: Deployment = deploy(
            w3,
            self.relayer.account,
            treasury=Account.create().address,
            operator=self.operator.address,
            recipes={"recipe": NewRecipe(author, royalty_bps=300, verifier_bps=200)},
        )
        self.ledger, self.token = Ledger(w3, self.deployment.ledger), TestUSD(w3, self.deployment.token)
        self.payees = [self._added(self.ledger.add_payee(Account.create().address)) for _ in range(PROVIDERS + 1)]
        self.renters: list[LocalAccount] = [Account.create() for _ in range(max(shape[0] for shape in SHAPES))]
        for renter in self.renters:
            onboarding.open_and_fund(self.relayer, self.deployment, renter, 1_000 * USD_MICROS)
        self._nonces = count()
        self.settle(len(self.renters), 1)

    def settle(self, statements: int, lines: int) -> int:
        """Gas of one settlement; neighbours in the batch share a provider, as the coordinator orders it."""
        nonce = next(self._nonces)
        batch = [
            self._statement(self.renters[i], nonce, self.payees[i * PROVIDERS // statements], lines)
            for i in range(statements)
        ]
        return self._gas(self.operator, self.ledger.settle(self.deployment.coordinator_id, batch))

    def transfer(self) -> int:
        """Gas of an ERC-20 transfer between two who hold some already."""
        payee = Account.create().address
        for to in (payee, self.relayer.address):
            self.relayer.run(self.token.mint(to, USD_MICROS))
        return self._gas(self.relayer, self.token.contract.functions.transfer(payee, 1))

    def _statement(self, renter: LocalAccount, nonce: int, provider: int, lines: int) -> SignedStatement:
        line = StatementLine(
            provider=provider,
            verifier=self.payees[-1],
            recipe=self.deployment.recipes["recipe"],
            amount_usd_micros=1_234_567 // lines,
        )
        statement = Statement(nonce=nonce, deadline_s=2**33, lines=(line,) * lines)
        signature = sign(renter, self.ledger.domain(), STATEMENT_TYPE, statement_message(statement))
        return SignedStatement(statement=statement, signature=signature)

    def _added(self, call: ContractFunction) -> int:
        return self.ledger.added_id(self.relayer.run(call))

    @staticmethod
    def _gas(sender: Sender, call: ContractFunction) -> int:
        return int(sender.run(call)["gasUsed"])


def print_table(rows: Sequence[tuple[str, int, str]], baseline: int) -> None:
    for name, gas, pays in rows:
        print(f"{name:<42} {gas:>9,} {gas / baseline:>7.2f}x  {pays}")


def main() -> None:
    with tempfile.TemporaryDirectory() as logs, Processes(Path(logs), os.environ) as processes:
        anvil = processes.start("evm", anvil_command())
        anvil.wait_for(r"Listening on", 30)
        lines = (Path(logs) / "evm.log").read_text().splitlines()
        chain = Chain(next(address for line in lines if (address := listening_at(line))))
        baseline = chain.transfer()
        ours = [(f"Gristmill {n} x {m}", chain.settle(n, m) // (n * m), "4 payees") for n, m in SHAPES]
    print(f"{'gas per job':<42} {'gas':>9} {'ratio':>8}  pays")
    print_table([("ERC-20 transfer (baseline)", baseline, "1 payee"), *ours, *PEERS], baseline)


if __name__ == "__main__":
    main()
