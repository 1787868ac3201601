"""contracts/src/dev/TestUSD.sol in Python: the dollar of local networks."""

from web3 import Web3
from web3.contract.contract import ContractFunction

from gristmill_contracts.artifacts import artifact
from gristmill_protocol.signing import Domain


class TestUSD:
    """One deployed TestUSD."""

    __test__ = False  # not a test class, whatever pytest reads into the name

    def __init__(self, w3: Web3, address: str) -> None:
        self.w3 = w3
        self.address = Web3.to_checksum_address(address)
        self.contract = w3.eth.contract(address=self.address, abi=artifact("TestUSD").abi)

    def domain(self) -> Domain:
        """The EIP-712 domain of its EIP-3009 authorizations and EIP-2612 permits."""
        return Domain("Test USD", self.w3.eth.chain_id, self.address)

    def balance_usd_micros(self, holder: str) -> int:
        return int(self.contract.functions.balanceOf(Web3.to_checksum_address(holder)).call())

    def mint(self, to: str, amount_usd_micros: int) -> ContractFunction:
        """Make money, sent by anybody."""
        return self.contract.functions.mint(Web3.to_checksum_address(to), amount_usd_micros)

    def approve(self, spender: str, amount_usd_micros: int) -> ContractFunction:
        return self.contract.functions.approve(Web3.to_checksum_address(spender), amount_usd_micros)
