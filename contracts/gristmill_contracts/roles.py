"""OpenZeppelin's AccessManager in Python, and which roles there are: who may do what, and after which delay."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import cast

from eth_typing import ABIFunction
from eth_utils.abi import function_abi_to_4byte_selector
from web3 import Web3
from web3.contract.contract import Contract, ContractFunction

from gristmill_contracts.artifacts import artifact
from gristmill_contracts.node import block_spans

ADMIN_DELAY_S = 7 * 24 * 3600
GRANT_DELAY_S = 2 * 24 * 3600


class Role(IntEnum):
    """Each may call what PERMISSIONS names, and nothing else."""

    ADMIN = 0  # roles, and every parameter that no other role may change
    SLASHER = 1
    GUARDIAN = 2
    ARBITER = 3
    GRANTER = 4
    LOCKER = 5


# (role, a contract's artifact, its function); contracts/test/kit/Institutions.sol grants the same.
PERMISSIONS = (
    (Role.SLASHER, "Registry", "slash"),
    (Role.LOCKER, "Registry", "lock"),
    (Role.LOCKER, "Registry", "unlock"),
    (Role.GUARDIAN, "Ledger", "setPaused"),
    (Role.GUARDIAN, "Registry", "setPaused"),
    (Role.GUARDIAN, "Disputes", "setPaused"),
    (Role.ARBITER, "Disputes", "arbitrate"),
    (Role.GRANTER, "CommonsFund", "grant"),
)


@dataclass(frozen=True)
class Held:
    """One account's part in one role."""

    role: Role
    account: str
    delay_s: int  # between scheduling a call and executing it; 0: it calls at once


class Authority:
    """One deployed AccessManager."""

    def __init__(self, w3: Web3, address: str) -> None:
        self.w3 = w3
        self.address = Web3.to_checksum_address(address)
        self.contract = w3.eth.contract(address=self.address, abi=artifact("AccessManager").abi)

    # Reads

    def holders(self, start_block: int = 0) -> set[Held]:
        """Who holds which role now.

        Args:
            start_block: no role was granted before it.
        """
        granted = self.contract.events.RoleGranted()
        known = {
            (int(log["args"]["roleId"]), str(log["args"]["account"]))
            for first, last in block_spans(start_block, self.w3.eth.block_number)
            for log in granted.get_logs(from_block=first, to_block=last)
        }
        return {held for role, account in known for held in self._held(role, account)}

    def permission(self, contract: str, name: str, function: str) -> int:
        """The role that may call a function of the contract of that name at an address."""
        return int(self.contract.functions.getTargetFunctionRole(contract, selector(name, function)).call())

    # Roles, changed by the admin

    def let(self, role: Role, contract: str, name: str, *functions: str) -> ContractFunction:
        """Make functions of the contract of that name at an address the role's."""
        selectors = [selector(name, function) for function in functions]
        return self.contract.functions.setTargetFunctionRole(Web3.to_checksum_address(contract), selectors, role)

    def grant(self, held: Held) -> ContractFunction:
        return self.contract.functions.grantRole(held.role, Web3.to_checksum_address(held.account), held.delay_s)

    def revoke(self, role: Role, account: str) -> ContractFunction:
        return self.contract.functions.revokeRole(role, Web3.to_checksum_address(account))

    def renounce(self, role: Role, sender: str) -> ContractFunction:
        """Give a role up, sent by its holder."""
        return self.contract.functions.renounceRole(role, Web3.to_checksum_address(sender))

    # Calls of those whose role has a delay

    def schedule(self, call: ContractFunction) -> ContractFunction:
        """Announce a call that may be executed after the sender's delay."""
        return self.contract.functions.schedule(call.address, call_data(call), 0)

    def execute(self, call: ContractFunction) -> ContractFunction:
        """Make a call that the sender has scheduled."""
        return self.contract.functions.execute(call.address, call_data(call))

    def _held(self, role: int, account: str) -> Iterator[Held]:
        holds, delay_s = self.contract.functions.hasRole(role, account).call()
        if holds:
            yield Held(Role(role), account, int(delay_s))


def selector(name: str, function: str) -> bytes:
    """The selector of a published contract's function; its name must not be overloaded."""
    (entry,) = (item for item in artifact(name).abi if item["type"] == "function" and item["name"] == function)
    return function_abi_to_4byte_selector(cast(ABIFunction, entry))


def call_data(call: ContractFunction) -> bytes:
    """The call as the chain gets it."""
    contract: type[Contract] = Web3().eth.contract(abi=call.contract_abi)
    return bytes.fromhex(contract.encode_abi(call.abi_element_identifier, args=call.args)[2:])
