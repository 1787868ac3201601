"""Putting the contracts on a chain, and remembering where they are.

python -m gristmill_contracts.deploy --help
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from eth_account.signers.local import LocalAccount
from pydantic import BaseModel, ConfigDict, ValidationError
from web3 import Web3

from gristmill_contracts.artifacts import artifact
from gristmill_contracts.commons import CommonsFund
from gristmill_contracts.ledger import TREASURY, Ledger
from gristmill_contracts.node import Sender
from gristmill_contracts.recipes import NewVersion, RecipeRegistry, Share
from gristmill_contracts.roles import ADMIN_DELAY_S, GRANT_DELAY_S, PERMISSIONS, Authority, Held, Role
from gristmill_protocol.errors import BadSettings, NotFound
from gristmill_protocol.money import USD_MICROS

MINIMUM_BOND_USD_MICROS = 10 * USD_MICROS
LEAST_DISPUTE_BOND_USD_MICROS = USD_MICROS
COMMONS_BPS = 2000  # of the protocol's fees
NO_WHEEL = sha256().digest()  # content of a recipe that comes with gristmill itself
_BPS = 10_000


@dataclass(frozen=True)
class NewRecipe:
    """A recipe, to be published for ever."""

    author: str  # payout address; the royalty is its, less what others get
    royalty_bps: int
    verifier_bps: int
    content: bytes = NO_WHEEL  # SHA-256 of its wheel
    others: Mapping[str, int] = field(default_factory=dict)  # further authors' payout addresses -> bps of the royalty
    parent: int = 0  # recipe id of what it was forked from
    fork_bps: int = 0  # of its forks' royalties


@dataclass(frozen=True)
class Powers:
    """Who governs; guardian, arbiter and granter are the admin unless given.

    Without an admin the deployer keeps that role and nothing has a delay: for local chains.
    """

    admin: str | None = None  # a multisig; gets the role with a delay of 7 days, and the deployer gives it up
    guardian: str | None = None  # may pause what is new
    arbiter: str | None = None  # rules where referees can't
    granter: str | None = None  # gives away the commons, with a delay of 2 days


class Collectors(BaseModel):
    """Where deposits by signature are handed in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    erc3009: str
    permit: str
    permit2: str | None = None  # none where the chain has no Permit2


class Deployment(BaseModel):
    """Where the contracts are, and as which coordinator they were set up: deployment.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain_id: int
    ledger: str
    registry: str
    disputes: str
    cover: str
    recipe_registry: str
    commons: str  # CommonsFund
    commons_payee: int  # what is credited to this payee is the commons'
    fee_splitter: str  # the treasury's payout address
    collectors: Collectors
    token: str
    manager: str  # AccessManager
    coordinator_id: int
    challenger_payee: int  # as which the operator opens disputes; paid to the operator
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
    permit2: str | None = None,
    minimum_bond_usd_micros: int = MINIMUM_BOND_USD_MICROS,
    powers: Powers = Powers(),
) -> Deployment:
    """Deploy everything, register one coordinator and its recipes, and hand the roles out.

    The deployer pays for gas.

    Args:
        treasury: who maintains this; gets the protocol fees, less what the commons get.
        operator: the coordinator's key; it settles, anchors, and opens disputes, whose bonds it has to hold.
        token: a dollar with six decimals, EIP-2612 and EIP-3009; a TestUSD is deployed unless given.
        permit2: address of Uniswap's Permit2; no collector for it unless given.
    """
    sender = Sender(w3, deployer)
    start_block = w3.eth.block_number
    manager = _create(sender, "AccessManager", sender.address)
    token = Web3.to_checksum_address(token) if token else _create(sender, "TestUSD")
    # The deployer stands in until there is a splitter, which needs the Ledger.
    ledger = Ledger(w3, _create(sender, "Ledger", token, sender.address, manager))
    registry = _create(sender, "Registry", ledger.address, minimum_bond_usd_micros, manager)
    commons = CommonsFund(w3, _create(sender, "CommonsFund", ledger.address, manager))
    terms = (Web3.to_checksum_address(treasury), COMMONS_BPS, manager)
    splitter = _create(sender, "FeeSplitter", ledger.address, commons.address, *terms)
    sender.run(ledger.set_payout(TREASURY, splitter))
    dispute_terms = (commons.payee(), LEAST_DISPUTE_BOND_USD_MICROS, manager)
    recipe_registry = RecipeRegistry(w3, _create(sender, "RecipeRegistry", ledger.address))
    deployment = Deployment(
        chain_id=w3.eth.chain_id,
        ledger=ledger.address,
        registry=registry,
        disputes=_create(sender, "Disputes", registry, *dispute_terms),
        cover=_create(sender, "Cover", ledger.address, commons.payee()),
        recipe_registry=recipe_registry.address,
        commons=commons.address,
        commons_payee=commons.payee(),
        fee_splitter=splitter,
        collectors=_collectors(sender, ledger.address, permit2),
        token=token,
        manager=manager,
        coordinator_id=_add_coordinator(sender, ledger, operator),
        challenger_payee=ledger.added_id(sender.run(ledger.add_payee(Web3.to_checksum_address(operator)))),
        recipes={name: register_recipe(sender, recipe_registry, recipe) for name, recipe in recipes.items()},
        start_block=start_block,
    )
    _hand_out(sender, deployment, roles_of(deployment, powers, deployer=sender.address))
    return deployment


def register_recipe(sender: Sender, registry: RecipeRegistry, recipe: NewRecipe) -> int:
    """Publish a recipe, its authors as new payees; gives the Ledger's recipe id."""
    ledger = registry.ledger()
    shares = {recipe.author: _BPS - sum(recipe.others.values()), **recipe.others}
    authors = [Share(ledger.added_id(sender.run(ledger.add_payee(payout))), bps) for payout, bps in shares.items()]
    version = NewVersion(
        recipe.content,
        recipe.royalty_bps,
        recipe.verifier_bps,
        tuple(authors),
        parent=recipe.parent,
        fork_bps=recipe.fork_bps,
    )
    return registry.published_id(sender.run(registry.publish(version)))


def roles_of(deployment: Deployment, powers: Powers, *, deployer: str) -> set[Held]:
    """Who holds which role of a deployment when it is done, and nobody else any."""
    governor = powers.admin or deployer
    held = {
        Held(Role.ADMIN, governor, ADMIN_DELAY_S if powers.admin else 0),
        Held(Role.GUARDIAN, powers.guardian or governor, 0),
        Held(Role.ARBITER, powers.arbiter or governor, 0),
        Held(Role.GRANTER, powers.granter or governor, GRANT_DELAY_S if powers.admin else 0),
        Held(Role.SLASHER, deployment.disputes, 0),
        Held(Role.LOCKER, deployment.disputes, 0),
    }
    return {Held(one.role, Web3.to_checksum_address(one.account), one.delay_s) for one in held}


def address_of(deployment: Deployment, contract: str) -> str:
    """Where the contract of that name is, of those that roles rule."""
    return {
        "Ledger": deployment.ledger,
        "Registry": deployment.registry,
        "Disputes": deployment.disputes,
        "CommonsFund": deployment.commons,
    }[contract]


def _hand_out(sender: Sender, deployment: Deployment, roles: set[Held]) -> None:
    authority = Authority(sender.w3, deployment.manager)
    for role, contract, function in PERMISSIONS:
        sender.run(authority.let(role, address_of(deployment, contract), contract, function))
    # Roles by number, so the admin's comes first; it is the deployer's already where it stays so.
    for held in sorted(roles, key=lambda held: (held.role, held.account)):
        if held != Held(Role.ADMIN, sender.address, 0):
            sender.run(authority.grant(held))
    if not any(held.role == Role.ADMIN and held.account == sender.address for held in roles):
        sender.run(authority.renounce(Role.ADMIN, sender.address))


def _collectors(sender: Sender, ledger: str, permit2: str | None) -> Collectors:
    return Collectors(
        erc3009=_create(sender, "Erc3009Collector", ledger),
        permit=_create(sender, "PermitCollector", ledger),
        permit2=_create(sender, "Permit2Collector", ledger, Web3.to_checksum_address(permit2)) if permit2 else None,
    )


def _add_coordinator(sender: Sender, ledger: Ledger, operator: str) -> int:
    coordinator = ledger.added_id(sender.run(ledger.add_coordinator()))
    if Web3.to_checksum_address(operator) != sender.address:
        sender.run(ledger.set_operator(coordinator, operator))
    return coordinator


def _create(sender: Sender, name: str, *arguments: object) -> str:
    made = artifact(name)
    contract = sender.w3.eth.contract(abi=made.abi, bytecode=made.bytecode)
    address = sender.run(contract.constructor(*arguments))["contractAddress"]
    if address is None:
        raise ValueError(f"the transaction that should create {name} created nothing")
    return str(address)


if __name__ == "__main__":
    from gristmill_contracts.deploy_cli import main  # it imports this module

    main()
