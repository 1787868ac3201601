"""Conceding and answering disputes on chain. Only disputes that wait for us: whatever else stands there is reported."""

from dataclasses import dataclass

from eth_account.signers.local import LocalAccount
from web3 import Web3

from gristmill_contracts.disputes import Dispute, Disputes, Phase
from gristmill_contracts.ledger import Ledger
from gristmill_contracts.node import Sender, connect
from gristmill_contracts.test_usd import TestUSD
from gristmill_protocol.errors import BadRequest, BadSettings, Conflict
from gristmill_protocol.money import format_usd
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.accusations import Accusation, Hearing, Plea, Ruling
from gristmill_provider.config import NodeConfig


@dataclass(frozen=True)
class Court:
    """One dispute on chain, as the owner of a key sees it."""

    sender: Sender
    disputes: Disputes
    opened: pb.DisputeOpened

    @property
    def dispute(self) -> Dispute:
        return self.disputes.dispute(self.opened.dispute_id)

    def require_turn(self) -> None:
        """Raises:
        Conflict: it does not wait for an answer any more.
        BadRequest: it is for another key to speak.
        """
        dispute = self.dispute
        if dispute.phase is not Phase.ANSWERING:
            raise Conflict(f"Dispute {self.opened.dispute_id} waits for no answer: it is {dispute.phase.name.lower()}.")
        payout = self._ledger.payee(dispute.provider).payout
        if payout != self.sender.address:
            raise BadRequest(
                f"Provider {dispute.provider} is paid at {payout}, and only that key may speak in its disputes.",
                todo="Name its keystore with --key and --password-file.",
            )

    def concede(self) -> None:
        """Admit the fault; it costs the stake in question and nothing else."""
        self.sender.run(self.disputes.concede(self.opened.dispute_id))

    def answer(self, evidence: str) -> None:
        """Deny the fault with a bond, which is lost if the referees find otherwise.

        Raises:
            Conflict: the key does not hold the bond.
        """
        bond = self.dispute.bond_usd_micros
        token = TestUSD(self.sender.w3, str(self.disputes.contract.functions.token().call()))
        if token.balance_usd_micros(self.sender.address) < bond:
            raise Conflict(
                f"The bond is {format_usd(bond)} USD, which {self.sender.address} does not hold.",
                todo="Send it there.",
            )
        self.sender.run(token.approve(self.disputes.address, bond))
        self.sender.run(self.disputes.answer(self.opened.dispute_id, bytes.fromhex(evidence)))

    @property
    def _ledger(self) -> Ledger:
        return Ledger(self.sender.w3, str(self.disputes.contract.functions.ledger().call()))


def rule(config: NodeConfig, key: LocalAccount, heard: Hearing, ruling: Ruling, evidence: bytes) -> None:
    """Say guilty or clear on chain, once; nothing where we abstain.

    Args:
        evidence: the digest of what we judged by.
    Raises:
        BadRequest: the dispute was opened over something else.
        GristmillError: what is in the way.
    """
    _require_known(config, heard.disputes)
    disputes = Disputes(connect(_rpc(config)), heard.disputes)
    dispute = disputes.dispute(heard.dispute)
    if dispute.evidence != evidence:
        raise BadRequest("What was shown is not what the dispute was opened over.", effect="Nothing was ruled.")
    said = config.provider_id in (*dispute.guilty, *dispute.clear)
    if ruling in ("guilty", "clear") and dispute.phase is Phase.RULING and not said:
        call = disputes.rule(heard.dispute, referee=config.provider_id, guilty=ruling == "guilty")
        Sender(disputes.w3, key).run(call)


def court(config: NodeConfig, w3: Web3, key: LocalAccount, opened: pb.DisputeOpened) -> Court:
    """Raises:
    BadSettings, BadRequest: its contract is not the one that the owner named.
    """
    _require_known(config, opened.disputes)
    return Court(Sender(w3, key), Disputes(w3, opened.disputes), opened)


def plead(config: NodeConfig, key: LocalAccount, accusation: Accusation) -> Plea:
    """Concede what is wrong, answer what is right.

    Raises:
        GristmillError: what is in the way, and what the owner can do.
    """
    at = court(config, connect(_rpc(config)), key, accusation.opened)
    at.require_turn()
    if accusation.finding == "wrong":
        at.concede()
        return "conceded"
    at.answer(accusation.evidence)
    return "answered"


def _rpc(config: NodeConfig) -> str:
    if not config.rpc_url:
        raise BadSettings("No node of the chain is named.", todo="Set rpc_url.")
    return config.rpc_url


def _require_known(config: NodeConfig, contract: str) -> None:
    """A contract that a coordinator names could be its own, and the bond would go there."""
    if config.disputes is None:
        raise BadSettings(
            "The owner has not said which contract disputes are in.",
            todo="Set disputes to its address, as the deployment names it.",
        )
    if config.disputes.lower() != contract.lower():
        raise BadRequest(f"The dispute is in {contract}, and the owner's contract is {config.disputes}.")
