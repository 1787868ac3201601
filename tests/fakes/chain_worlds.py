"""Two chains that must behave alike: the one in memory and a real EVM."""

from collections.abc import Callable
from typing import Protocol

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3.contract.contract import ContractFunction

from fakes import courts
from fakes.chain import FakeChain
from fakes.evm import Evm
from gristmill_contracts.anvil import drop, limit_gas, mine, pass_time, reorganise, set_automine
from gristmill_contracts.deploy import NewRecipe, register_recipe
from gristmill_contracts.node import Sender
from gristmill_coordinator.chain.evm import EvmChain
from gristmill_coordinator.chain.port import Chain

EVIDENCE = b"\x01" * 32  # of a provider's answer


class World(Protocol):
    """A chain and what others than the coordinator do on it. Blocks come by mine() only."""

    @property
    def chain(self) -> Chain: ...

    def open_account(self, key: LocalAccount, balance_usd_micros: int) -> None: ...

    def give(self, holder: str, usd_micros: int) -> None:
        """Let an address hold so much more, outside all accounts."""

    def pass_time(self, seconds: int) -> None: ...

    def now_s(self) -> int:
        """The chain's clock."""

    def add_payee(self) -> int: ...

    def add_provider(self, *, node_key: str, bonded_usd_micros: int) -> int: ...

    def add_recipe(self, *, royalty_bps: int, verifier_bps: int) -> int: ...

    # What providers that add_provider made do in disputes

    def enlist(self, provider: int) -> None: ...

    def resign(self, provider: int) -> None: ...

    def concede(self, provider: int, dispute: int) -> None: ...

    def answer(self, provider: int, dispute: int) -> None: ...

    def rule(self, referee: int, dispute: int, *, guilty: bool) -> None: ...

    def credit(self, payee: int) -> int: ...

    def settled(self, key: str, nonce: int) -> int | None: ...

    def mine(self, blocks: int = 1) -> None: ...

    def reorganise(self, depth: int) -> None: ...

    def limit_gas(self, gas: int) -> None:
        """Let blocks have so much gas from now on, and make one."""

    def drop(self, tx_hash: str) -> None:
        """Have the node forget a transaction that waits for a block."""


class FakeWorld:
    def __init__(self) -> None:
        self._now_s = 1_800_000_000
        self.chain = FakeChain(minimum_bond_usd_micros=10_000_000, clock=lambda: self._now_s)
        self.give = self.chain.give
        self.mine = self.chain.mine
        self.reorganise = self.chain.reorganise
        self.add_payee = self.chain.add_payee
        self.settled = self.chain.settled

    def open_account(self, key: LocalAccount, balance_usd_micros: int) -> None:
        self.chain.open_account(key.address, balance_usd_micros)

    def pass_time(self, seconds: int) -> None:
        self._now_s += seconds
        self.mine()

    def now_s(self) -> int:
        return self._now_s

    def add_provider(self, *, node_key: str, bonded_usd_micros: int) -> int:
        return self.chain.add_provider(node_key=node_key, bonded_usd_micros=bonded_usd_micros)

    def add_recipe(self, *, royalty_bps: int, verifier_bps: int) -> int:
        return self.chain.add_recipe(royalty_bps=royalty_bps, verifier_bps=verifier_bps)

    def enlist(self, provider: int) -> None:
        self.chain.state.seats.append(provider)

    def resign(self, provider: int) -> None:
        self.chain.state.seats.remove(provider)

    def concede(self, provider: int, dispute: int) -> None:
        courts.concede(self.chain, dispute)

    def answer(self, provider: int, dispute: int) -> None:
        courts.answer(self.chain, dispute, EVIDENCE)

    def rule(self, referee: int, dispute: int, *, guilty: bool) -> None:
        courts.rule(self.chain, dispute, referee, guilty=guilty)

    def credit(self, payee: int) -> int:
        return self.chain.credits.get(payee, 0)

    def limit_gas(self, gas: int) -> None:
        self.chain.gas_limit = gas
        self.mine()

    def drop(self, tx_hash: str) -> None:
        del self.chain.pool[tx_hash]


class EvmWorld:
    """While others act, each transaction is in a block at once; after that, only mine() makes blocks."""

    def __init__(self, evm: Evm) -> None:
        self._evm = evm
        self._senders: dict[int, Sender] = {}  # of providers
        self.chain = EvmChain.connect(evm.rpc_url, evm.deployment, evm.operator)
        set_automine(evm.w3, False)

    def open_account(self, key: LocalAccount, balance_usd_micros: int) -> None:
        self._others(lambda: self._evm.open_account(key, balance_usd_micros))

    def give(self, holder: str, usd_micros: int) -> None:
        self._others(lambda: self._evm.relayer.run(self._evm.token.mint(holder, usd_micros)) and None)

    def pass_time(self, seconds: int) -> None:
        pass_time(self._evm.w3, seconds)

    def now_s(self) -> int:
        return self._evm.now()

    def add_payee(self) -> int:
        ledger, relayer = self._evm.ledger, self._evm.relayer
        return self._others(lambda: ledger.added_id(relayer.run(ledger.add_payee(Account.create().address))))

    def add_provider(self, *, node_key: str, bonded_usd_micros: int) -> int:
        sender, bond = self._evm.sender(), bonded_usd_micros
        add = self._evm.add_provider
        id_ = self._others(lambda: add(node_key=node_key, bonded_usd_micros=bond, provider=sender))
        self._senders[id_] = sender
        return id_

    def add_recipe(self, *, royalty_bps: int, verifier_bps: int) -> int:
        recipe = NewRecipe(Account.create().address, royalty_bps, verifier_bps)
        return self._others(lambda: register_recipe(self._evm.relayer, self._evm.recipes, recipe))

    def enlist(self, provider: int) -> None:
        self._by(provider, self._evm.registry.enlist(provider))

    def resign(self, provider: int) -> None:
        self._by(provider, self._evm.registry.resign(provider))

    def concede(self, provider: int, dispute: int) -> None:
        self._by(provider, self._evm.disputes.concede(dispute))

    def answer(self, provider: int, dispute: int) -> None:
        evm, bond = self._evm, self._evm.disputes.dispute(dispute).bond_usd_micros
        self.give(self._senders[provider].address, bond)
        self._by(provider, evm.token.approve(evm.disputes.address, bond))
        self._by(provider, evm.disputes.answer(dispute, EVIDENCE))

    def rule(self, referee: int, dispute: int, *, guilty: bool) -> None:
        self._by(referee, self._evm.disputes.rule(dispute, referee=referee, guilty=guilty))

    def _by(self, provider: int, call: ContractFunction) -> None:
        self._others(lambda: self._senders[provider].run(call) and None)

    def credit(self, payee: int) -> int:
        return self._evm.ledger.payee(payee).credit_usd_micros

    def settled(self, key: str, nonce: int) -> int | None:
        event = self._evm.ledger.contract.events.StatementSettled()
        [*logs] = event.get_logs(argument_filters={"key": key, "nonce": nonce}, from_block=0)
        return int(logs[0]["args"]["total"]) if logs else None

    def mine(self, blocks: int = 1) -> None:
        mine(self._evm.w3, blocks)

    def reorganise(self, depth: int) -> None:
        reorganise(self._evm.w3, depth)

    def limit_gas(self, gas: int) -> None:
        limit_gas(self._evm.w3, gas)

    def drop(self, tx_hash: str) -> None:
        drop(self._evm.w3, tx_hash)

    def _others(self, act: Callable[[], int | None]) -> int:
        set_automine(self._evm.w3, True)
        done = act()
        set_automine(self._evm.w3, False)
        return done or 0
