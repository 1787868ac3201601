"""All that a node is doing: takes what the coordinator asks, within the owner's rules and the node's slots."""

import asyncio
from collections.abc import Callable, Coroutine
from hashlib import sha256
from typing import Any

import structlog

from gristmill_protocol.certificate import sign
from gristmill_protocol.errors import BadRequest, Conflict, GristmillError, NotAllowed, Unavailable
from gristmill_protocol.incidents import Incident
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.attempt import Attempt, State, Workshop
from gristmill_provider.audits import Audits, refused
from gristmill_provider.bench import Bench
from gristmill_provider.certifying import require_true
from gristmill_provider.challenges import Challenges
from gristmill_provider.config import NodeConfig
from gristmill_provider.defence import Defence
from gristmill_provider.lookout import boot_id
from gristmill_provider.owner import read_asked, require_terms, require_welcome
from gristmill_provider.payables import Lease
from gristmill_provider.station import Station

logger = structlog.get_logger(__name__)

# States that nobody releases are kept this long at least.
_KEEP_AT_LEAST_S = 86_400

# After the grace: to take in the last state and remove the container.
_TIDY_UP_S = 15

_WORK_CAME = "The machine was given other work."
_BUSY = "All slots of this node are taken."
_REBOOTED = "The machine was started anew since the node ran last."
_KILLED = "The node was ended without a chance to stop in order: killed, or out of memory."
_RESTARTED = "The node was restarted while it was at this; what it had signed until then still counts."


class Work:
    """The attempts and audits at hand.

    Args:
        station: the device, and whether it may work.
        config: the owner's settings right now.
        flops_per_s: as measured.
        tasks: parent of every attempt and audit.
    """

    def __init__(
        self,
        workshop: Workshop,
        station: Station,
        *,
        config: Callable[[], NodeConfig],
        flops_per_s: int,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._shop = workshop
        self._station = station
        self._config = config
        self._flops_per_s = flops_per_s
        self._tasks = tasks
        self._attempts: dict[str, Attempt] = {}
        self._audits = Audits(workshop)
        self._challenges = Challenges(workshop)
        self._defence = Defence(workshop, config, idle=self._idle)
        self._bench = Bench(workshop, config, idle=self._idle)
        self._under_way: set[asyncio.Task[None]] = set()
        self._leaving = False
        self.card_trouble = ""  # why the coordinator gives this card no work of others
        self._takes: dict[str, Callable[[Any], None]] = {
            "lease": self._take_lease,
            "audit": self._take_audit,
            "reveal": self._reveal,
            "stop": self._stop,
            "state_request": lambda request: self._spawn(self._hand_over(request)),
            "payable": self._take_payable,
            "challenge_request": self._take_challenge,
            "challenge_start": self._challenges.start,
            "challenge_open": self._challenges.open,
            "card": self._note_standing,
            "certificate": self._certify,
            "dispute": lambda opened: self._spawn(self._defence.consider(opened)),
            "referee": lambda request: self._spawn(self._bench.hear(request)),
            "referee_reveal": lambda reveal: self._spawn(self._bench.rule(reveal)),
            "release": self._release,
        }

    def take(self, message: pb.CoordinatorMessage) -> None:
        """Act on a message of the coordinator; nothing here waits."""
        kind = message.WhichOneof("body")
        take = self._takes.get(kind or "")
        if take is None:
            logger.warning("message_ignored", kind=kind)
        else:
            take(getattr(message, kind or ""))

    def heartbeat(self) -> pb.Heartbeat:
        """What is at hand; an attempt whose result is still being uploaded counts, or it would be given up as lost."""
        journal = self._shop.journal
        return pb.Heartbeat(attempt_ids=journal.unreported("attempt"), audit_ids=journal.unreported("audit"))

    @property
    def taken(self) -> int:
        """How many slots it uses."""
        return len(self._attempts) + bool(self._audits.audit_ids) + self._defence.running + self._bench.running

    def recover(self) -> None:
        """After a start: report what an earlier life left unfinished."""
        interrupted = self._shop.journal.interrupted()
        self._record_end_of_earlier_life([work_id for work_id, _ in interrupted])
        for work_id, kind in interrupted:
            logger.warning("work_was_interrupted", work_id=work_id, kind=kind)
            if kind == "attempt":
                failed = pb.AttemptUpdate(
                    attempt_id=work_id, state=State.FAILED, reason=_RESTARTED, code=Unavailable.code
                )
                message = pb.NodeMessage(attempt=self._shop.with_incidents(failed))
            else:
                message = pb.NodeMessage(audit=refused(work_id, _RESTARTED))
            self._shop.link.deliver(message, ends=work_id, now_s=self._shop.clock())
        self.tidy()

    def tidy(self) -> None:
        """Drop states whose time has come, and what the cache holds beyond the owner's limit."""
        self._shop.journal.release_expired(self._shop.clock())
        self._shop.journal.payables.forget_expired(self._shop.clock())
        self._shop.journal.accusations.forget_old(self._shop.clock())
        self._shop.journal.history.forget_old(self._shop.clock())
        pruning = self._shop.cache.prune(keep=self._shop.journal.needed, max_bytes=self._config().limits.cache_bytes)
        self._spawn(pruning)

    def judged(self) -> None:
        """Free the device if work must not run now."""
        verdict = self._station.verdict
        if verdict.works and not self._leaving:
            self._shop.reruns.allow()
        elif not verdict.works:
            self._free(verdict.told)

    async def leave(self, reason: str) -> None:
        """Let every attempt save and yield, break off all else; returns when nothing runs any more."""
        self._leaving = True
        grace_s = self._config().limits.stop_grace_s
        self._free(reason)
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=grace_s + _TIDY_UP_S)
            for task in late:
                task.cancel()

    def _free(self, reason: str) -> None:
        """Have everything off the device within the owner's limit."""
        self._shop.reruns.forbid(reason)
        self._spawn(self._challenges.leave(reason))
        for attempt in self._attempts.values():
            self._spawn(attempt.stop(reason, self._config().limits.stop_grace_s))

    def _record_end_of_earlier_life(self, work_ids: list[str]) -> None:
        history, now_s, boot = self._shop.journal.history, int(self._shop.clock()), boot_id()
        before = history.mark("boot_id")
        if before and before != boot:
            history.record(Incident(kind="reboot", at_s=now_s, text=_REBOOTED), work_ids)
        elif work_ids:
            history.record(Incident(kind="killed", at_s=now_s, text=_KILLED), work_ids)
        history.set_mark("boot_id", boot)

    def _take_lease(self, lease: pb.LeaseOffer) -> None:
        reply = pb.LeaseReply(lease_id=lease.lease_id, attempt_id=lease.attempt_id, accepted=True)
        try:
            if lease.attempt_id not in self._attempts:  # else the offer was repeated
                self._accept(lease)
        except GristmillError as err:
            reply.accepted, reply.reason = False, err.what
        logger.info("lease_answered", attempt_id=lease.attempt_id, accepted=reply.accepted, reason=reply.reason)
        self._shop.link.send(pb.NodeMessage(lease_reply=reply))

    def _accept(self, lease: pb.LeaseOffer) -> None:
        config, market = self._config(), self._shop.link.market
        self._require_allowed()
        asked = read_asked(lease, market)
        require_welcome(asked, lease.image, config)
        promise = require_terms(
            lease, asked, config=config, market=market, flops_per_s=self._flops_per_s, now_s=self._shop.clock()
        )
        if self._shop.journal.knows(lease.attempt_id):
            raise Conflict("This attempt is over on this node.")
        self._require_slot()
        deadline_s = asked.order.order.deadline_s
        self._shop.journal.payables.expect(Lease(market.ledger, lease.job_id, lease.attempt_id, deadline_s, promise))
        self._shop.journal.accusations.remember(asked.task, deadline_s=deadline_s)
        self._shop.journal.begin(lease.attempt_id, "attempt", keep_s=max(lease.keep_states_s, _KEEP_AT_LEAST_S))
        self._spawn(self._challenges.leave(_WORK_CAME))
        attempt = Attempt(self._shop, asked.task, deadline_s=deadline_s)
        self._attempts[lease.attempt_id] = attempt
        self._station.slots_changed()
        self._spawn(self._see_through(attempt))

    async def _see_through(self, attempt: Attempt) -> None:
        try:
            await attempt.run()
        finally:
            del self._attempts[attempt.attempt_id]
            self._station.slots_changed()
            self.tidy()

    def _take_payable(self, told: pb.Payable) -> None:
        try:
            kept = self._shop.journal.payables.take(told, self._shop.link.market)
        except BadRequest as err:
            logger.warning("payable_refused", attempt_id=told.attempt_id, reason=err.what)
            return
        self._shop.journal.payables.note_earned(kept, self._shop.clock())
        logger.info("payable_kept", attempt_id=told.attempt_id, accepted_usd_micros=kept.share_usd_micros)

    def _reveal(self, request: pb.RevealRequest) -> None:
        self._shop.link.send(pb.NodeMessage(audit=self._audits.reveal(request.audit_id)))

    def _release(self, request: pb.ReleaseAttempt) -> None:
        self._shop.journal.release(request.attempt_id)
        self.tidy()

    def _certify(self, request: pb.CertificateRequest) -> None:
        shop = self._shop
        reply = pb.CertificateReply(job_id=request.job_id, statement_sha256=sha256(request.statement).digest())
        try:
            require_true(request.statement, shop.journal, shop.link.market, node_id=shop.link.node_id)
            reply.signature = sign(shop.key, request.statement)
        except GristmillError as err:
            reply.reason = err.what
        logger.info("certificate_answered", job_id=request.job_id, signed=bool(reply.signature), reason=reply.reason)
        shop.link.send(pb.NodeMessage(certificate=reply))

    def _take_audit(self, request: pb.AuditRequest) -> None:
        audit_id = request.audit_id
        if audit_id in self._audits.audit_ids or self._audits.commit_again(audit_id):  # the request was repeated
            return
        try:
            asked = read_asked(request, self._shop.link.market)
            require_welcome(asked, request.image, self._config())
            self._require_allowed()
            if not self._audits.audit_ids:
                self._require_slot()
        except GristmillError as err:
            logger.info("audit_declined", audit_id=audit_id, reason=err.what)
            self._shop.link.deliver(pb.NodeMessage(audit=refused(audit_id, err.what)))
            return
        self._spawn(self._challenges.leave(_WORK_CAME))
        if self._audits.add(audit_id, asked.task):
            self._spawn(self._audits.work())

    def _take_challenge(self, request: pb.ChallengeRequest) -> None:
        """A test of the card is worth nothing while it is at something else."""
        if not self._station.verdict.works:
            self._challenges.refuse(request.challenge_id, self._station.verdict.told)
        elif self._leaving or self._station.taken:
            self._challenges.refuse(request.challenge_id, _WORK_CAME)
        else:
            self._spawn(self._challenges.answer(request))

    def _idle(self) -> bool:
        """Whether work may begin, and a slot is free."""
        return not self._leaving and self._station.has_room

    def _require_allowed(self) -> None:
        if not self._station.verdict.works:
            raise NotAllowed(self._station.verdict.told)

    def _require_slot(self) -> None:
        if not self._idle():
            raise Conflict(_BUSY)

    def _stop(self, stop: pb.StopAttempt) -> None:
        attempt = self._attempts.get(stop.attempt_id)
        if attempt is not None:
            grace_s = min(stop.grace_s or self._config().limits.stop_grace_s, self._config().limits.stop_grace_s)
            self._spawn(attempt.stop(stop.reason, grace_s))

    async def _hand_over(self, request: pb.StateRequest) -> None:
        reply = pb.StateReply(attempt_id=request.attempt_id, sha256=request.sha256)
        try:
            if not self._shop.journal.keeps(request.attempt_id, request.sha256):
                raise Conflict("This node does not keep that state.")
            await self._shop.artifacts.upload(request.sha256)
            reply.uploaded = True
        except GristmillError as err:
            reply.reason = str(err)
        self._shop.link.send(pb.NodeMessage(state=reply))

    def _note_standing(self, verdict: pb.CardVerdict) -> None:
        """Nothing is said as long as the card gets jobs of others."""
        good = verdict.standing in ("proven", "provisional")
        log = logger.info if good else logger.warning
        log("card_judged", standing=verdict.standing, reason=verdict.reason)
        self.card_trouble = "" if good else f"The coordinator holds the card for {verdict.standing}: {verdict.reason}"
        if not good:
            lost = Incident(kind="standing", at_s=int(self._shop.clock()), text=self.card_trouble[:300])
            self._shop.journal.history.record(lost)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        try:
            task = self._tasks.create_task(work)
        except RuntimeError:  # the node is ending, and ends everything with it
            work.close()
            return
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
