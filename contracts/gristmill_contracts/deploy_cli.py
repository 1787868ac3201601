"""python -m gristmill_contracts.deploy: what an operator types, once. It asks nothing."""

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from web3 import Web3

from gristmill_contracts.artifacts import artifact
from gristmill_contracts.commons import FeeSplitter, Terms
from gristmill_contracts.deploy import COMMONS_BPS, Deployment, NewRecipe, Powers, address_of, deploy, roles_of
from gristmill_contracts.ledger import TREASURY, Ledger
from gristmill_contracts.node import connect
from gristmill_contracts.roles import PERMISSIONS, Authority
from gristmill_protocol.errors import BadSettings, Conflict, GristmillError, NotFound
from gristmill_protocol.keystore import load_key

Optional = Annotated[str | None, typer.Option()]


def run(
    rpc: Annotated[str, typer.Option(help="The chain's JSON-RPC endpoint.")],
    keystore: Annotated[Path, typer.Option(help="Keystore of the deployer, who pays for gas.")],
    password_file: Annotated[Path, typer.Option()],
    treasury: Annotated[str, typer.Option(help="Who maintains this: gets the fees less the commons' part.")],
    operator: Annotated[str, typer.Option(help="The coordinator's key.")],
    out: Annotated[Path, typer.Option(help="Where to write deployment.json.")],
    token: Annotated[str | None, typer.Option(help="The dollar, 6 decimals.")] = None,
    test_usd: Annotated[bool, typer.Option("--test-usd", help="Deploy a worthless dollar instead.")] = False,
    recipes: Annotated[Path | None, typer.Option(help="JSON: name -> author, royalty_bps, verifier_bps.")] = None,
    admin: Annotated[str | None, typer.Option(help="Multisig; governs with 7 days' delay.")] = None,
    guardian: Optional = None,
    arbiter: Optional = None,
    granter: Optional = None,
    permit2: Optional = None,
) -> None:
    """Put all contracts on a chain and write where they are."""
    try:
        w3, password = connect(rpc), _read(password_file).rstrip("\n")
        deployer = load_key(keystore, password)
        _require_token(w3, token, test_usd=test_usd)
        powers = Powers(admin, guardian, arbiter, granter)
        published = _recipes(recipes)
        made = deploy(
            w3,
            deployer,
            treasury=treasury,
            operator=operator,
            recipes=published,
            token=token,
            permit2=permit2,
            powers=powers,
        )
        made.save(out)
        check(w3, made, powers, deployer=str(deployer.address), treasury=treasury, operator=operator)
    except GristmillError as err:
        typer.echo(f"error: {err}", err=True)
        raise typer.Exit(err.exit_code) from err
    typer.echo(made.model_dump_json(indent=1))


def check(w3: Web3, made: Deployment, powers: Powers, *, deployer: str, treasury: str, operator: str) -> None:
    """Raises:
    Conflict: the chain does not hold what was meant.
    """
    authority, ledger = Authority(w3, made.manager), Ledger(w3, made.ledger)
    wanted = roles_of(made, powers, deployer=deployer)
    found = {
        "roles": authority.holders(made.start_block) == wanted,
        "permissions": all(
            authority.permission(address_of(made, name), name, function) == role for role, name, function in PERMISSIONS
        ),
        "treasury": ledger.payee(TREASURY).payout == made.fee_splitter,
        "fee terms": FeeSplitter(w3, made.fee_splitter).terms()
        == Terms(Web3.to_checksum_address(treasury), COMMONS_BPS),
        "operator": ledger.operator_of(made.coordinator_id) == Web3.to_checksum_address(operator),
        "challenger": ledger.payee(made.challenger_payee).payout == Web3.to_checksum_address(operator),
        "recipes": all(ledger.recipe(recipe).registered for recipe in made.recipes.values()),
    }
    wrong = [name for name, right in found.items() if not right]
    if wrong:
        raise Conflict(f"The chain does not hold what was meant: {', '.join(wrong)}.", todo="Do not use it.")


def main() -> None:
    typer.run(run)


def _require_token(w3: Web3, token: str | None, *, test_usd: bool) -> None:
    if test_usd != (token is None):
        raise BadSettings("Give either --token or --test-usd.", effect="Nothing was deployed.")
    if token is None:
        return
    address = Web3.to_checksum_address(token)
    if not w3.eth.get_code(address):
        raise BadSettings(f"There is no token at {token} on this chain.", effect="Nothing was deployed.")
    if w3.eth.contract(address=address, abi=artifact("TestUSD").abi).functions.decimals().call() != 6:
        raise BadSettings(f"The token at {token} has not six decimals.", effect="Nothing was deployed.")


def _recipes(path: Path | None) -> dict[str, NewRecipe]:
    if path is None:
        return {}
    try:
        return TypeAdapter(dict[str, NewRecipe]).validate_python(_with_bytes(json.loads(_read(path))))
    except (ValidationError, ValueError) as err:
        raise BadSettings(f"{path} does not describe recipes: {err}.", effect="Nothing was deployed.") from err


def _with_bytes(recipes: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    """Content is written in hex."""
    return {
        name: {**one, "content": bytes.fromhex(str(one["content"]))} if "content" in one else one
        for name, one in recipes.items()
    }


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError as err:
        raise NotFound(f"There is no file at {path}.", todo="Name the right file.") from err
