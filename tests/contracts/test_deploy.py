"""The deployment script: who holds which role afterwards, and what it refuses."""

from pathlib import Path

import pytest
from eth_account import Account
from typer import Typer
from typer.testing import CliRunner

from fakes.evm import Evm
from gristmill_contracts.anvil import give_gas
from gristmill_contracts.deploy import Deployment
from gristmill_contracts.deploy_cli import run
from gristmill_contracts.roles import ADMIN_DELAY_S, GRANT_DELAY_S, Authority, Held, Role
from gristmill_protocol.keystore import create_key

pytestmark = [pytest.mark.chain, pytest.mark.slow]

app = Typer()
app.command()(run)


def arguments(evm: Evm, folder: Path, *more: str) -> list[str]:
    key = create_key(folder / "deployer.json", "secret", rounds=1000)
    give_gas(evm.w3, key.address)
    (folder / "password").write_text("secret\n")
    named = {"rpc": evm.rpc_url, "keystore": folder / "deployer.json", "password-file": folder / "password"}
    named |= {"treasury": Account.create().address, "operator": evm.operator.address, "out": folder / "out.json"}
    return [part for name, value in named.items() for part in (f"--{name}", str(value))] + list(more)


def test_an_admin_governs_after_its_delay_and_nobody_else(evm: Evm, tmp_path: Path) -> None:
    admin = Account.create().address
    flags = ("--test-usd", "--admin", admin)

    result = CliRunner().invoke(app, arguments(evm, tmp_path, *flags))

    assert result.exit_code == 0, result.output
    made = Deployment.load(tmp_path / "out.json")
    assert Authority(evm.w3, made.manager).holders(made.start_block) == {
        Held(Role.ADMIN, admin, ADMIN_DELAY_S),
        Held(Role.GUARDIAN, admin, 0),
        Held(Role.ARBITER, admin, 0),
        Held(Role.GRANTER, admin, GRANT_DELAY_S),
        Held(Role.SLASHER, made.disputes, 0),
        Held(Role.LOCKER, made.disputes, 0),
    }


def test_without_an_admin_the_deployer_stays_and_only_disputes_slash(evm: Evm) -> None:
    held = Authority(evm.w3, evm.deployment.manager).holders(evm.deployment.start_block)

    assert Held(Role.ADMIN, evm.relayer.address, 0) in held
    slashers = {one.account for one in held if one.role == Role.SLASHER}
    assert slashers == {evm.deployment.disputes}
    assert evm.ledger.payee(evm.deployment.challenger_payee).payout == evm.operator.address


@pytest.mark.parametrize("flags", [(), ("--token", "0x" + "12" * 20)])
def test_a_chain_without_the_token_is_refused(evm: Evm, tmp_path: Path, flags: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, arguments(evm, tmp_path, *flags))

    assert result.exit_code == 2
    assert not (tmp_path / "out.json").exists()
