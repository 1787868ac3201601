"""What others signed, as calls of the contracts that take it."""

from web3 import Web3
from web3.contract.contract import ContractFunction

from gristmill_contracts.collectors import Erc3009Collector, Permit2Collector, PermitCollector
from gristmill_contracts.ledger import Ledger
from gristmill_coordinator.chain.port import (
    ChainInfo,
    DepositCall,
    OpenCall,
    RelayCall,
    RequestWithdrawalCall,
    WithdrawCall,
)
from gristmill_protocol.errors import Conflict
from gristmill_protocol.wallet import Authorization, Permit, Permit2, SignedDeposit


def relayed(ledger: Ledger, info: ChainInfo, call: RelayCall) -> ContractFunction:
    """The contract's function and its arguments.

    Raises:
        Conflict: there is no collector for this kind of signature.
    """
    match call:
        case OpenCall(key=key, opening=by):
            return ledger.open(key, by, coordinator=info.coordinator_id)
        case RequestWithdrawalCall(signed=by):
            return ledger.request_withdrawal_signed(by)
        case WithdrawCall(key=key):
            return ledger.withdraw(key)
        case DepositCall(key=key, by=by):
            collector = info.collectors.get(by.kind)
            if collector is None:
                raise Conflict(
                    f"There is no collector of {by.kind} deposits on this chain.", effect="Nothing was sent."
                )
            return _deposit(ledger.w3, collector, key, by)


def _deposit(w3: Web3, collector: str, key: str, by: SignedDeposit) -> ContractFunction:
    match by:
        case Authorization():
            return Erc3009Collector(w3, collector).deposit(key, by)
        case Permit():
            return PermitCollector(w3, collector).deposit(key, by)
        case Permit2():
            return Permit2Collector(w3, collector).deposit(key, by)
