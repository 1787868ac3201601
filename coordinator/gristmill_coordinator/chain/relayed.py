"""What others signed, as calls of the contracts that take it."""

from web3.contract.contract import ContractFunction

from gristmill_contracts.collectors import (
    Authorization,
    Erc3009Collector,
    Permit2Collector,
    Permit2Transfer,
    PermitCollector,
    PermittedDeposit,
)
from gristmill_contracts.ledger import Ledger
from gristmill_coordinator.chain.port import (
    ChainInfo,
    DepositCall,
    OpenCall,
    RelayCall,
    RequestWithdrawalCall,
    WithdrawCall,
)
from gristmill_protocol import wallet
from gristmill_protocol.errors import Conflict


def relayed(ledger: Ledger, info: ChainInfo, call: RelayCall) -> ContractFunction:
    """The contract's function and its arguments.

    Raises:
        Conflict: there is no collector for this kind of signature.
    """
    match call:
        case OpenCall(key=key, opening=by):
            return ledger.open(key, owner=by.owner, coordinator=info.coordinator_id, signature=by.signature)
        case RequestWithdrawalCall(signed=by):
            return ledger.request_withdrawal_signed(by.key, by.amount_usd_micros, by.signature)
        case WithdrawCall(key=key):
            return ledger.withdraw(key)
        case DepositCall(key=key, by=by):
            collector = info.collectors.get(by.kind)
            if collector is None:
                raise Conflict(
                    f"There is no collector of {by.kind} deposits on this chain.", effect="Nothing was sent."
                )
            return _deposit(ledger, collector, key, by)


def _deposit(ledger: Ledger, collector: str, key: str, by: wallet.SignedDeposit) -> ContractFunction:
    w3, payer, amount = ledger.w3, by.payer, by.amount_usd_micros
    match by:
        case wallet.Authorization():
            window, salt = (by.valid_after_s, by.valid_before_s), bytes.fromhex(by.salt[2:])
            signed = Authorization(payer, amount, *window, salt, by.signature)
            return Erc3009Collector(w3, collector).deposit(key, signed)
        case wallet.Permit():
            permit = PermittedDeposit(payer, amount, by.deadline_s, by.permit_signature, by.deposit_signature)
            return PermitCollector(w3, collector).deposit(key, permit)
        case wallet.Permit2():
            transfer = Permit2Transfer(payer, amount, int(by.nonce, 16), by.deadline_s, by.signature)
            return Permit2Collector(w3, collector).deposit(key, transfer)
