"""Deposits of a token that signs as USDC does, and not as TestUSD."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account

from fakes.evm import Evm
from gristmill_contracts.collectors import Erc3009Collector
from gristmill_contracts.deploy import deploy
from gristmill_contracts.ledger import Ledger
from gristmill_contracts.test_usd import TestUSD, token_domain
from gristmill_protocol.consents import authorize_deposit, sign_opening
from gristmill_protocol.errors import Conflict
from gristmill_protocol.signing import Domain

pytestmark = [pytest.mark.chain, pytest.mark.slow]

CONTRACTS = Path(__file__).parents[2] / "contracts"


@pytest.fixture
def old_usd(evm: Evm, tmp_path: Path) -> TestUSD:
    """A deployed contracts/test/kit/OldUSD.sol, which no package has the bytecode of."""
    forge = CONTRACTS / "node_modules" / ".bin" / "forge"
    folders = ("--out", tmp_path / "out", "--cache-path", tmp_path / "cache")
    subprocess.run([forge, "build", "test/kit/OldUSD.sol", *folders], cwd=CONTRACTS, check=True, capture_output=True)
    made = json.loads((tmp_path / "out" / "OldUSD.sol" / "OldUSD.json").read_text())
    contract = evm.w3.eth.contract(abi=made["abi"], bytecode=made["bytecode"]["object"])
    return TestUSD(evm.w3, str(evm.relayer.run(contract.constructor())["contractAddress"]))


def test_a_token_older_than_eip_5267_takes_deposits_by_signature(evm: Evm, old_usd: TestUSD) -> None:
    market = deploy(
        evm.w3,
        evm.relayer.account,
        treasury=evm.relayer.address,
        operator=evm.operator.address,
        recipes={},
        token=old_usd.address,
    )
    ledger, collector = Ledger(evm.w3, market.ledger), Erc3009Collector(evm.w3, market.collectors.erc3009)
    key = Account.create()
    opening = sign_opening(key, ledger.domain(), owner=key.address, coordinator=market.coordinator_id)
    evm.relayer.run(ledger.open(key.address, opening, coordinator=market.coordinator_id))
    evm.relayer.run(old_usd.mint(key.address, 700))

    def pay_in(domain: Domain) -> None:
        terms = {"key": key.address, "amount_usd_micros": 700, "valid_before_s": evm.now() + 3600}
        by = authorize_deposit(key, domain, collector.address, **terms)
        evm.relayer.run(collector.deposit(key.address, by))

    domain = token_domain(evm.w3, old_usd.address)
    with pytest.raises(Conflict, match="ERC3009InvalidSignature"):
        pay_in(replace(domain, version="1"))
    pay_in(domain)

    assert (domain.name, domain.version) == ("USD Coin", "2")
    assert ledger.account(key.address).balance_usd_micros == 700
    assert evm.w3.eth.get_balance(key.address) == 0


def test_a_token_of_now_tells_its_domain_itself(evm: Evm) -> None:
    assert token_domain(evm.w3, evm.token.address) == evm.token.domain()
