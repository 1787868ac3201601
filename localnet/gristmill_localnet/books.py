"""The chain side of a localnet: contracts deployed, everybody registered, and who holds how much."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount
from eth_typing import HexStr
from web3 import Web3

from gristmill_contracts.anvil import give_gas
from gristmill_contracts.commons import CommonsFund
from gristmill_contracts.deploy import Deployment, NewRecipe, deploy
from gristmill_contracts.ledger import TREASURY, Ledger
from gristmill_contracts.node import Sender, connect
from gristmill_contracts.onboarding import open_and_fund, register_provider
from gristmill_contracts.recipes import RecipeRegistry
from gristmill_contracts.registry import Registry
from gristmill_contracts.test_usd import TestUSD
from gristmill_protocol.money import USD_MICROS
from gristmill_trainer import catalog

BOND_USD_MICROS = 10 * USD_MICROS
RENTER_USD_MICROS = 5 * USD_MICROS
OPERATOR_USD_MICROS = 10 * USD_MICROS  # for the bonds of disputes


@dataclass(frozen=True)
class Books:
    """Reads of the contracts on the localnet's chain."""

    w3: Web3
    deployment: Deployment
    addresses: dict[str, str]  # name -> address
    provider_ids: dict[str, int]  # name -> payee id

    @staticmethod
    def open(rpc_url: str, keys: Mapping[str, LocalAccount], providers: Sequence[str]) -> "Books":
        """Deploy the contracts on a fresh chain, register providers and recipes, and fund the renter.

        Args:
            keys: by name: treasury, operator, renter, author and every provider.
        """
        w3 = connect(rpc_url)
        addresses = {name: str(key.address) for name, key in keys.items()}
        for name in ("treasury", "operator", *providers):
            give_gas(w3, addresses[name])
        relayer = Sender(w3, keys["treasury"])
        recipes = {
            recipe.info.id: NewRecipe(addresses["author"], recipe.info.royalty_bps, recipe.info.verifier_bps)
            for recipe in catalog.recipes()
        }
        deployment = deploy(
            w3, keys["treasury"], treasury=addresses["treasury"], operator=addresses["operator"], recipes=recipes
        )
        token = TestUSD(w3, deployment.token)
        relayer.run(token.mint(addresses["operator"], OPERATOR_USD_MICROS))
        ids = {}
        for name in providers:
            relayer.run(token.mint(addresses[name], BOND_USD_MICROS))
            ids[name] = register_provider(
                Sender(w3, keys[name]), deployment, node_key=addresses[name], bond_usd_micros=BOND_USD_MICROS
            )
        open_and_fund(relayer, deployment, keys["renter"], RENTER_USD_MICROS)
        return Books(w3, deployment, addresses, ids)

    def holdings(self) -> dict[str, int]:
        """Everybody's money in micro-USD, wherever it is: wallet, account, uncollected credit, bond."""
        ledger, registry = Ledger(self.w3, self.deployment.ledger), Registry(self.w3, self.deployment.registry)
        held = {"renter": ledger.account(self.addresses["renter"]).balance_usd_micros}
        for name, provider in self.provider_ids.items():
            stake = registry.stake(provider)
            credit = ledger.payee(provider).credit_usd_micros
            held[name] = credit + stake.bonded_usd_micros + stake.unbonding_usd_micros
        # What lies in Disputes are bonds; here only the coordinator ever posts one that is not decided at once.
        bonds = TestUSD(self.w3, self.deployment.token).balance_usd_micros(self.deployment.disputes)
        held["operator"] = bonds + ledger.payee(self.deployment.challenger_payee).credit_usd_micros
        held["author"] = self._royalties(ledger)
        held["treasury"] = self._fees(ledger)
        token = TestUSD(self.w3, self.deployment.token)
        return {name: amount + token.balance_usd_micros(self.addresses[name]) for name, amount in held.items()}

    def _royalties(self, ledger: Ledger) -> int:
        """Of all recipes, whether still with a recipe, in its pool, or divided to the author."""
        token, registry = (
            TestUSD(self.w3, self.deployment.token),
            RecipeRegistry(self.w3, self.deployment.recipe_registry),
        )
        total = 0
        for recipe in self.deployment.recipes.values():
            version = registry.version(recipe)
            pool = ledger.payee(version.payee)
            total += pool.credit_usd_micros + token.balance_usd_micros(pool.payout)
            total += sum(ledger.payee(share.payee).credit_usd_micros for share in version.authors)
        return total

    def _fees(self, ledger: Ledger) -> int:
        """Of the protocol, the commons' part included."""
        token, commons = TestUSD(self.w3, self.deployment.token), CommonsFund(self.w3, self.deployment.commons)
        credits = sum(ledger.payee(payee).credit_usd_micros for payee in (TREASURY, commons.payee()))
        return credits + sum(map(token.balance_usd_micros, (self.deployment.fee_splitter, commons.address)))

    def gas_used(self, tx_hash: str) -> int:
        """Gas of a transaction that is in a block."""
        return int(self.w3.eth.get_transaction_receipt(HexStr(tx_hash))["gasUsed"])
