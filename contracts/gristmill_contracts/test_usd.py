"""contracts/src/dev/TestUSD.sol in Python: the dollar of local networks; and what any token signs in."""

from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import BadFunctionCallOutput, ContractLogicError

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

    def permit_nonce(self, holder: str) -> int:
        """The number that the holder's next EIP-2612 permit must carry."""
        return int(self.contract.functions.nonces(Web3.to_checksum_address(holder)).call())

    def mint(self, to: str, amount_usd_micros: int) -> ContractFunction:
        """Make money, sent by anybody."""
        return self.contract.functions.mint(Web3.to_checksum_address(to), amount_usd_micros)

    def approve(self, spender: str, amount_usd_micros: int) -> ContractFunction:
        return self.contract.functions.approve(Web3.to_checksum_address(spender), amount_usd_micros)

    def transfer(self, to: str, amount_usd_micros: int) -> ContractFunction:
        return self.contract.functions.transfer(Web3.to_checksum_address(to), amount_usd_micros)


def token_domain(w3: Web3, address: str) -> Domain:
    """The EIP-712 domain that a token's holders sign in: as EIP-5267 tells it, else by its name and version."""
    token = w3.eth.contract(address=Web3.to_checksum_address(address), abi=[*artifact("TestUSD").abi, _VERSION])
    try:
        _, name, version, *_ = token.functions.eip712Domain().call()
    except (ContractLogicError, BadFunctionCallOutput):
        name, version = token.functions.name().call(), token.functions.version().call()
    return Domain(str(name), w3.eth.chain_id, str(token.address), str(version))


# Of USDC, which is older than EIP-5267.
_VERSION = {
    "type": "function",
    "name": "version",
    "inputs": [],
    "outputs": [{"name": "", "type": "string"}],
    "stateMutability": "view",
}
