"""contracts/src/Ledger.sol in Python: reads give dataclasses, writes give calls for a Sender to send."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.logs import DISCARD
from web3.types import TxReceipt

from gristmill_contracts.artifacts import artifact
from gristmill_protocol.jobs import SignedStatement
from gristmill_protocol.signing import Domain, encode_statement

TREASURY = 0  # payee id
_LOG_BLOCKS = 10_000  # what nodes commonly let one query span


@dataclass(frozen=True)
class Account:
    """A renter's account; owner is the zero address while nobody has opened it."""

    balance_usd_micros: int
    pending_usd_micros: int  # asked to be withdrawn
    unlock_at_s: int  # 0: no withdrawal is pending
    coordinator: int
    requests: int  # the owner's withdrawal requests so far
    owner: str


@dataclass(frozen=True)
class Payee:
    payout: str
    credit_usd_micros: int


@dataclass(frozen=True)
class Recipe:
    author: int  # payee id
    royalty_bps: int
    verifier_bps: int
    registered: bool


@dataclass(frozen=True)
class Authorization:
    """A token holder's EIP-3009 signature over a payment into one account."""

    payer: str
    amount_usd_micros: int
    valid_after_s: int
    valid_before_s: int
    salt: bytes  # 32
    signature: str  # r || s || v


@dataclass(frozen=True)
class Award:
    """Money for a renter's account (its key) or a payee (its id)."""

    to: str | int
    amount_usd_micros: int

    def encoded(self) -> tuple[str, int, int]:
        """LedgerTypes.Award."""
        if isinstance(self.to, str):
            return (Web3.to_checksum_address(self.to), 0, self.amount_usd_micros)
        return ("0x" + "00" * 20, self.to, self.amount_usd_micros)


class Ledger:
    """One deployed Ledger."""

    def __init__(self, w3: Web3, address: str) -> None:
        self.w3 = w3
        self.address = Web3.to_checksum_address(address)
        self.contract = w3.eth.contract(address=self.address, abi=artifact("Ledger").abi)

    def domain(self) -> Domain:
        """The EIP-712 domain that statements are signed in."""
        return Domain.ledger(self.w3.eth.chain_id, self.address)

    # Reads

    def account(self, key: str) -> Account:
        return Account(*self.contract.functions.account(Web3.to_checksum_address(key)).call())

    def nonce_used(self, key: str, nonce: int) -> bool:
        return bool(self.contract.functions.nonceUsed(Web3.to_checksum_address(key), nonce).call())

    def settled_total(self, key: str, nonce: int, *, start_block: int = 0) -> int | None:
        """The total paid under a nonce, None while none is.

        Args:
            start_block: the Ledger's own; the search goes from the newest block back to it.
        """
        if not self.nonce_used(key, nonce):
            return None
        event = self.contract.events.StatementSettled()
        wanted = {"key": Web3.to_checksum_address(key), "nonce": nonce}
        for first, last in _spans(start_block, self.w3.eth.block_number):
            for log in event.get_logs(argument_filters=wanted, from_block=first, to_block=last):
                return int(log["args"]["total"])
        return None

    def payee(self, payee: int) -> Payee:
        return Payee(*self.contract.functions.payee(payee).call())

    def recipe(self, recipe: int) -> Recipe:
        return Recipe(*self.contract.functions.recipe(recipe).call())

    def operator_of(self, coordinator: int) -> str:
        return str(self.contract.functions.operatorOf(coordinator).call())

    # Accounts

    def open(self, key: str, *, owner: str, coordinator: int, signature: str) -> ContractFunction:
        """Open a key's account; the signature is the key's own (onboarding.sign_opening)."""
        key, owner = Web3.to_checksum_address(key), Web3.to_checksum_address(owner)
        return self.contract.functions.open(key, owner, coordinator, bytes.fromhex(signature[2:]))

    def deposit(self, key: str, amount_usd_micros: int) -> ContractFunction:
        """Pay in the sender's tokens; it must have approved them."""
        return self.contract.functions.deposit(Web3.to_checksum_address(key), amount_usd_micros)

    def deposit_with_authorization(self, key: str, by: Authorization) -> ContractFunction:
        """Pay in a holder's tokens by its signature (onboarding.authorize_deposit)."""
        signature = bytes.fromhex(by.signature[2:])
        window = (by.valid_after_s, by.valid_before_s)
        fields = (by.payer, by.amount_usd_micros, *window, by.salt, signature[64], signature[:32], signature[32:64])
        return self.contract.functions.depositWithAuthorization(Web3.to_checksum_address(key), fields)

    def award(self, awards: Sequence[Award]) -> ContractFunction:
        """Hand out the sender's tokens; it must have approved them."""
        return self.contract.functions.award([award.encoded() for award in awards])

    def request_withdrawal(self, key: str, amount_usd_micros: int) -> ContractFunction:
        """Ask to withdraw, sent by the account's owner; 0 takes an earlier request back."""
        ask: ContractFunction = self.contract.get_function_by_signature("requestWithdrawal(address,uint96)")(
            Web3.to_checksum_address(key), amount_usd_micros
        )
        return ask

    def request_withdrawal_signed(self, key: str, amount_usd_micros: int, signature: str) -> ContractFunction:
        """The same by the owner's signature (onboarding.sign_withdrawal), sent by anybody."""
        ask: ContractFunction = self.contract.get_function_by_signature("requestWithdrawal(address,uint96,bytes)")(
            Web3.to_checksum_address(key), amount_usd_micros, bytes.fromhex(signature[2:])
        )
        return ask

    def withdraw(self, key: str) -> ContractFunction:
        """Pay a withdrawal whose 24 hours are over to the account's owner."""
        return self.contract.functions.withdraw(Web3.to_checksum_address(key))

    # Payees, recipes, coordinators

    def add_payee(self, payout: str) -> ContractFunction:
        return self.contract.functions.addPayee(Web3.to_checksum_address(payout))

    def set_payout(self, payee: int, payout: str) -> ContractFunction:
        return self.contract.functions.setPayout(payee, Web3.to_checksum_address(payout))

    def collect(self, payee: int) -> ContractFunction:
        """Pay a payee's credit to its payout address."""
        return self.contract.functions.collect(payee)

    def add_recipe(self, *, author: int, royalty_bps: int, verifier_bps: int) -> ContractFunction:
        return self.contract.functions.addRecipe(author, royalty_bps, verifier_bps)

    def add_coordinator(self) -> ContractFunction:
        """Register a coordinator that the sender operates."""
        return self.contract.functions.addCoordinator()

    def set_operator(self, coordinator: int, operator: str) -> ContractFunction:
        return self.contract.functions.setOperator(coordinator, Web3.to_checksum_address(operator))

    def added_id(self, receipt: TxReceipt) -> int:
        """The id that add_payee, add_recipe or add_coordinator gave."""
        for name in ("PayeeAdded", "RecipeAdded", "CoordinatorAdded"):
            for log in self.contract.events[name]().process_receipt(receipt, errors=DISCARD):
                return int(log["args"]["id"])
        raise ValueError("this transaction added nothing to the Ledger")

    # Settlement

    def settle(self, coordinator: int, batch: Sequence[SignedStatement]) -> ContractFunction:
        """Pay statements, sent by the coordinator's operator.

        Raises:
            BadSignature: a signature is not 65 bytes r || s || v.
        """
        return self.contract.functions.settle(coordinator, b"".join(map(_encoded, batch)))

    def settle_reserved(
        self, coordinator: int, signed: SignedStatement, *, cap_usd_micros: int, reservation: str
    ) -> ContractFunction:
        """Pay one statement under the operator's reservation, sent by anybody."""
        proof = bytes.fromhex(reservation[2:])
        return self.contract.functions.settleReserved(coordinator, _encoded(signed), cap_usd_micros, proof)


def _encoded(signed: SignedStatement) -> bytes:
    return encode_statement(signed.statement, signed.signature)


def _spans(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most _LOG_BLOCKS blocks, newest first."""
    while last >= first:
        yield max(first, last - _LOG_BLOCKS + 1), last
        last -= _LOG_BLOCKS
