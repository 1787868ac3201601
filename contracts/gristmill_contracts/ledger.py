"""contracts/src/Ledger.sol in Python: reads give dataclasses, writes give calls for a Sender to send."""

from collections.abc import Sequence
from dataclasses import dataclass

from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.logs import DISCARD
from web3.types import TxReceipt

from gristmill_contracts.artifacts import artifact
from gristmill_contracts.node import block_spans
from gristmill_protocol.jobs import SignedReservation, SignedStatement
from gristmill_protocol.signing import Domain, compact_signature, encode_statement
from gristmill_protocol.wallet import SignedOpening, SignedWithdrawal

TREASURY = 0  # payee id
_NO_ACCOUNT = "0x" + "00" * 20


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
class Award:
    """Money for a renter's account (its key) or a payee (its id)."""

    to: str | int
    amount_usd_micros: int

    def encoded(self) -> tuple[str, int, int]:
        """LedgerTypes.Award."""
        if isinstance(self.to, str):
            return (Web3.to_checksum_address(self.to), 0, self.amount_usd_micros)
        return (_NO_ACCOUNT, self.to, self.amount_usd_micros)

    @staticmethod
    def decoded(award: tuple[str, int, int]) -> "Award":
        """The Award of a LedgerTypes.Award."""
        account, payee, amount_usd_micros = award
        return Award(payee if account == _NO_ACCOUNT else account, amount_usd_micros)


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
        for first, last in block_spans(start_block, self.w3.eth.block_number):
            for log in event.get_logs(argument_filters=wanted, from_block=first, to_block=last):
                return int(log["args"]["total"])
        return None

    def collected_total(self, payee: int) -> int:
        """What a payee was paid out so far; the search goes from the newest block back to where it was added."""
        wanted, total = {"id": payee}, 0
        for first, last in block_spans(0, self.w3.eth.block_number):
            paid = self.contract.events.Collected().get_logs(argument_filters=wanted, from_block=first, to_block=last)
            total += sum(log["args"]["amount"] for log in paid)
            if self.contract.events.PayeeAdded().get_logs(argument_filters=wanted, from_block=first, to_block=last):
                break
        return total

    def payee(self, payee: int) -> Payee:
        return Payee(*self.contract.functions.payee(payee).call())

    def recipe(self, recipe: int) -> Recipe:
        return Recipe(*self.contract.functions.recipe(recipe).call())

    def operator_of(self, coordinator: int) -> str:
        return str(self.contract.functions.operatorOf(coordinator).call())

    def history(self, block: int | None = None) -> int:
        """Digest of all batches settled so far, or until the end of a block (history.py says how it is made)."""
        return int(self.contract.functions.history().call(block_identifier=block))

    def paused(self) -> bool:
        """Whether new accounts and deposits are stopped."""
        return bool(self.contract.functions.paused().call())

    # Accounts

    def open(self, key: str, by: SignedOpening, *, coordinator: int) -> ContractFunction:
        """Open a key's account by the key's own signature."""
        key, owner = Web3.to_checksum_address(key), Web3.to_checksum_address(by.owner)
        return self.contract.functions.open(key, owner, coordinator, bytes.fromhex(by.signature[2:]))

    def deposit(self, key: str, amount_usd_micros: int) -> ContractFunction:
        """Pay in the sender's tokens; it must have approved them. Who has no gas signs for one of collectors.py."""
        return self.contract.functions.deposit(Web3.to_checksum_address(key), amount_usd_micros)

    def award(self, awards: Sequence[Award]) -> ContractFunction:
        """Hand out the sender's tokens; it must have approved them."""
        return self.contract.functions.award([award.encoded() for award in awards])

    def request_withdrawal(self, key: str, amount_usd_micros: int) -> ContractFunction:
        """Ask to withdraw, sent by the account's owner; 0 takes an earlier request back."""
        ask: ContractFunction = self.contract.get_function_by_signature("requestWithdrawal(address,uint96)")(
            Web3.to_checksum_address(key), amount_usd_micros
        )
        return ask

    def request_withdrawal_signed(self, by: SignedWithdrawal) -> ContractFunction:
        """The same by the owner's signature, sent by anybody."""
        ask: ContractFunction = self.contract.get_function_by_signature("requestWithdrawal(address,uint96,bytes)")(
            Web3.to_checksum_address(by.key), by.amount_usd_micros, bytes.fromhex(by.signature[2:])
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
        return self.contract.functions.settle(coordinator, b"".join(map(encoded_statement, batch)))

    def settle_reserved(self, signed: SignedStatement, by: SignedReservation) -> ContractFunction:
        """Pay one statement under the operator's reservation, sent by anybody from its forced_from_s on."""
        return self.contract.functions.settleReserved(encoded_statement(signed), encoded_reservation(by))

    # Guard

    def set_paused(self, paused: bool) -> ContractFunction:
        """Stop or resume new accounts and deposits, sent by a holder of the guardian role."""
        return self.contract.functions.setPaused(paused)


def encoded_statement(signed: SignedStatement) -> bytes:
    """The statement's wire form.

    Raises:
        BadSignature: the signature is not 65 bytes r || s || v.
    """
    return encode_statement(signed.statement, signed.signature)


def encoded_reservation(signed: SignedReservation) -> tuple[int, int, int, int, bytes, bytes]:
    """LedgerTypes.Reservation; the statement that it goes with names key and nonce, and so the coordinator."""
    made = signed.reservation
    amounts = (made.cap_usd_micros, made.accepted_usd_micros)
    return (made.provider, *amounts, made.forced_from_s, *compact_signature(signed.signature))
