"""Putting the contracts on a chain, and remembering where they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eth_account.signers.local import LocalAccount
from eth_utils.abi import function_abi_to_4byte_selector
from pydantic import BaseModel, ConfigDict, ValidationError
from web3 import Web3

from gristmill_contracts.artifacts import artifact
from gristmill_contracts.ledger import Ledger
from gristmill_contracts.node import Sender
from gristmill_contracts.registry import Registry
from gristmill_contracts.test_usd import TestUSD
from gristmill_protocol.errors import BadSettings, NotFound
from gristmill_protocol.money import USD_MICROS

SLASHER_ROLE = 1  # of the AccessManager; may slash stake, and nothing else
MINIMUM_BOND_USD_MICROS = 10 * USD_MICROS


@dataclass(frozen=True)
class NewRecipe:
    """A recipe's terms, to be registered for ever."""

    author: str  # payout address
    royalty_bps: int
    verifier_bps: int


class Deployment(BaseModel):
    """Where the contracts are, and as which coordinator they were set up: deployment.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain_id: int
    ledger: str
    registry: str
    token: str
    manager: str  # AccessManager
    coordinator_id: int
    recipes: dict[str, int]  # recipe -> the Ledger's recipe id
    start_block: int = 0  # nothing of ours is in an earlier block

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> "Deployment":
        """Raises:
        NotFound: no such file.
        BadSettings: it holds something else.
        """
        try:
            return Deployment.model_validate_json(path.read_text())
        except FileNotFoundError as err:
            raise NotFound(
                f"There is no deployment at {path}.", todo="Deploy the contracts, or name the right file."
            ) from err
        except ValidationError as err:
            raise BadSettings(f"{path} does not describe a deployment: {err}.") from err


def deploy(
    w3: Web3,
    deployer: LocalAccount,
    *,
    treasury: str,
    operator: str,
    recipes: Mapping[str, NewRecipe],
    token: str | None = None,
    minimum_bond_usd_micros: int = MINIMUM_BOND_USD_MICROS,
) -> Deployment:
    """Deploy everything, register one coordinator and its recipes, and let its operator slash.

    The deployer pays for gas and ends up as the AccessManager's admin.

    Args:
        treasury: where protocol fees go, payee 0.
        operator: the coordinator's key; it settles, anchors and slashes.
        token: a dollar with six decimals and EIP-3009; a TestUSD is deployed unless given.
    """
    sender = Sender(w3, deployer)
    start_block = w3.eth.block_number
    manager = _create(sender, "AccessManager", sender.address)
    token = token or TestUSD(w3, _create(sender, "TestUSD")).address
    ledger = Ledger(w3, _create(sender, "Ledger", token, Web3.to_checksum_address(treasury), manager))
    registry = Registry(w3, _create(sender, "Registry", ledger.address, minimum_bond_usd_micros, manager))
    _let_slash(sender, manager, registry, operator)
    coordinator = ledger.added_id(sender.run(ledger.add_coordinator()))
    sender.run(ledger.set_operator(coordinator, operator))
    return Deployment(
        chain_id=w3.eth.chain_id,
        ledger=ledger.address,
        registry=registry.address,
        token=Web3.to_checksum_address(token),
        manager=manager,
        coordinator_id=coordinator,
        recipes={name: register_recipe(sender, ledger, recipe) for name, recipe in recipes.items()},
        start_block=start_block,
    )


def register_recipe(sender: Sender, ledger: Ledger, recipe: NewRecipe) -> int:
    """Register a recipe and its author as a new payee; gives the recipe's id."""
    author = ledger.added_id(sender.run(ledger.add_payee(recipe.author)))
    added = ledger.add_recipe(author=author, royalty_bps=recipe.royalty_bps, verifier_bps=recipe.verifier_bps)
    return ledger.added_id(sender.run(added))


def _create(sender: Sender, name: str, *arguments: object) -> str:
    made = artifact(name)
    contract = sender.w3.eth.contract(abi=made.abi, bytecode=made.bytecode)
    address = sender.run(contract.constructor(*arguments))["contractAddress"]
    if address is None:
        raise ValueError(f"the transaction that should create {name} created nothing")
    return str(address)


def _let_slash(sender: Sender, manager_address: str, registry: Registry, operator: str) -> None:
    manager = sender.w3.eth.contract(
        address=Web3.to_checksum_address(manager_address), abi=artifact("AccessManager").abi
    )
    selector = function_abi_to_4byte_selector(registry.contract.get_function_by_name("slash").abi)
    sender.run(manager.functions.setTargetFunctionRole(registry.address, [selector], SLASHER_ROLE))
    sender.run(manager.functions.grantRole(SLASHER_ROLE, Web3.to_checksum_address(operator), 0))
