"""contracts/src/collectors in Python: deposits by a holder's signature, for anybody to hand in.

The signatures are made in gristmill_protocol.consents.
"""

from web3 import Web3
from web3.contract.contract import ContractFunction

from gristmill_contracts.artifacts import artifact
from gristmill_protocol.signing import Domain
from gristmill_protocol.wallet import Authorization, Permit, Permit2


class Erc3009Collector:
    """One deployed Erc3009Collector."""

    def __init__(self, w3: Web3, address: str) -> None:
        self.address = Web3.to_checksum_address(address)
        self.contract = w3.eth.contract(address=self.address, abi=artifact("Erc3009Collector").abi)

    def deposit(self, key: str, by: Authorization) -> ContractFunction:
        """Pay into key's account."""
        window = (by.valid_after_s, by.valid_before_s)
        fields = (by.payer, by.amount_usd_micros, *window, bytes.fromhex(by.salt[2:]), *_vrs(by.signature))
        return self.contract.functions.deposit(Web3.to_checksum_address(key), fields)


class PermitCollector:
    """One deployed PermitCollector."""

    def __init__(self, w3: Web3, address: str) -> None:
        self.w3 = w3
        self.address = Web3.to_checksum_address(address)
        self.contract = w3.eth.contract(address=self.address, abi=artifact("PermitCollector").abi)

    def domain(self) -> Domain:
        """The EIP-712 domain of the second signature, which says for which account."""
        return Domain("Gristmill Deposit", self.w3.eth.chain_id, self.address)

    def nonce(self, payer: str) -> int:
        """The number that the payer's next deposit must carry."""
        return int(self.contract.functions.nonces(Web3.to_checksum_address(payer)).call())

    def deposit(self, key: str, by: Permit) -> ContractFunction:
        """Pay into key's account."""
        permit = (by.payer, by.amount_usd_micros, by.deadline_s, *_vrs(by.permit_signature))
        signature = bytes.fromhex(by.deposit_signature[2:])
        return self.contract.functions.deposit(Web3.to_checksum_address(key), permit, signature)


class Permit2Collector:
    """One deployed Permit2Collector. The payer must have approved Permit2 for the token, once."""

    def __init__(self, w3: Web3, address: str) -> None:
        self.address = Web3.to_checksum_address(address)
        self.contract = w3.eth.contract(address=self.address, abi=artifact("Permit2Collector").abi)

    def permit2(self) -> str:
        return str(self.contract.functions.permit2().call())

    def deposit(self, key: str, by: Permit2) -> ContractFunction:
        """Pay into key's account."""
        signature = bytes.fromhex(by.signature[2:])
        return self.contract.functions.deposit(
            Web3.to_checksum_address(key), by.payer, by.amount_usd_micros, int(by.nonce, 16), by.deadline_s, signature
        )


def _vrs(signature: str) -> tuple[int, bytes, bytes]:
    raw = bytes.fromhex(signature[2:])
    return raw[64], raw[:32], raw[32:64]
