"""What a node does whose provider was drawn to judge: it runs the segment, tells the digest, and only then looks.

It convicts nobody by its own bits alone: guilty is work that differs from its run where the verifiers' does not. A
machine of another numeric class agrees with neither side, and abstains.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace

import structlog
from eth_account.signers.local import LocalAccount
from pydantic import ValidationError

from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.commitments import SegmentRecord, SignedRecord
from gristmill_protocol.errors import Conflict, GristmillError
from gristmill_protocol.progress import Replayed
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.accusations import Hearing, Ruling
from gristmill_provider.attempt import Workshop
from gristmill_provider.audits import replay
from gristmill_provider.config import NodeConfig
from gristmill_provider.owner import read_asked, require_welcome

logger = structlog.get_logger(__name__)


class Bench:
    """The hearings of this node.

    Args:
        idle: whether the node has a free slot.
    """

    def __init__(self, workshop: Workshop, config: Callable[[], NodeConfig], *, idle: Callable[[], bool]) -> None:
        self._shop = workshop
        self._config = config
        self._idle = idle
        self._at = set[tuple[str, int]]()  # disputes that are being heard
        self.running = 0

    async def hear(self, request: pb.RefereeRequest) -> None:
        """Run the segment once, and tell the digest as often as it is asked for."""
        await self._alone(request, self._hear(request))

    async def rule(self, reveal: pb.RefereeReveal) -> None:
        """Compare what both sides say with our own run, and rule on chain."""
        await self._alone(reveal, self._rule(reveal))

    async def _alone(
        self, about: pb.RefereeRequest | pb.RefereeReveal, speaking: Coroutine[None, None, pb.RefereeReply]
    ) -> None:
        """Send what is to be said; one thing at a time about a dispute."""
        dispute, key = about.dispute_id, (about.disputes, about.dispute_id)
        if key in self._at:
            speaking.close()
            return
        self._at.add(key)
        try:
            reply = await speaking
        except GristmillError as err:
            reply = pb.RefereeReply(dispute_id=dispute, reason=str(err))
        except ImportError:
            reply = pb.RefereeReply(dispute_id=dispute, reason="The extra 'chain' is not installed.")
        except Exception:
            logger.exception("hearing_broke", dispute=dispute)
            return
        finally:
            self._at.discard(key)
        logger.info("referee_said", dispute=dispute, ruled=reply.ruled, reason=reply.reason)
        self._shop.link.send(pb.NodeMessage(referee=reply))

    async def _hear(self, request: pb.RefereeRequest) -> pb.RefereeReply:
        rows, dispute = self._shop.journal.accusations, request.dispute_id
        heard = rows.heard(request.disputes, dispute)
        if heard is None:
            asked = read_asked(request.again, self._shop.link.market)
            require_welcome(asked, request.again.image, self._config())
            if not self._idle():
                raise Conflict("All slots of this node are taken.")
            self.running += 1
            try:
                replayed = await replay(self._shop, f"hearing_{dispute}", asked.task)
            finally:
                self.running -= 1
            heard = Hearing(request.disputes, dispute, replayed)
            rows.hear(heard)
        return pb.RefereeReply(dispute_id=dispute, digest=digest_of(heard.replayed))

    async def _rule(self, reveal: pb.RefereeReveal) -> pb.RefereeReply:
        rows, dispute = self._shop.journal.accusations, reveal.dispute_id
        heard = rows.heard(reveal.disputes, dispute)
        if heard is None:
            raise Conflict("This node has not run the segment yet.")
        if not heard.ruled:
            documents = json.loads(reveal.documents_json)
            ruling = judge(documents, heard.replayed)
            await asyncio.to_thread(_on_chain, self._config(), self._shop.key, heard, ruling, sha256_json(documents))
            heard = replace(heard, ruled=ruling)
            rows.hear(heard)
        return pb.RefereeReply(
            dispute_id=dispute,
            digest=digest_of(heard.replayed),
            ruled=heard.ruled,
            replayed_json=heard.replayed.model_dump_json(),
        )


def digest_of(replayed: Replayed) -> str:
    """What is told of a run before anything is shown."""
    return sha256_json(replayed.model_dump(mode="json")).hex()


def judge(documents: list[object], own: Replayed) -> Ruling:
    """Whose word our own run bears out.

    Args:
        documents: the evidence: the provider's signed records and the verifiers' answers.
    """
    records, answers = list[SegmentRecord](), list[Replayed]()
    for document in documents:
        try:
            records.append(SignedRecord.model_validate(document).record)
        except ValidationError:
            answers.append(Replayed.model_validate(document))
    steps = (own.step_from, own.step_to)
    claims = [_roots(record) for record in records if (record.step_from, record.step_to) == steps]
    if _roots(own) in claims:
        return "clear"
    others = [_roots(answer) for answer in answers if (answer.step_from, answer.step_to) == steps]
    return "guilty" if claims and _roots(own) in others else "abstained"


def _roots(said: SegmentRecord | Replayed) -> tuple[str, str, str, str]:
    return said.state_root_prev, said.state_root, said.data_root, said.metrics_root


def _on_chain(config: NodeConfig, key: LocalAccount, heard: Hearing, ruling: Ruling, evidence: bytes) -> None:
    # web3 is large, and few nodes ever judge: it is loaded when it is needed.
    from gristmill_provider.pleading import rule

    rule(config, key, heard, ruling, evidence)
