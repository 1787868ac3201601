"""A provider's machine that follows a script: it speaks the node's protocol and trains by hashing."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import accumulate
from typing import Any, Literal

from eth_account import Account
from eth_account.signers.local import LocalAccount

from fakes import courts
from fakes.chain import FakeChain
from fakes.prover import Prover
from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain.cards import ChallengeState, Standing, Verdict
from gristmill_coordinator.domain.disputes import Phase
from gristmill_coordinator.links import Outbox
from gristmill_coordinator.market import nodes
from gristmill_coordinator.stages import audit, certifying, challenges, dispatch, disputes, hearings, metering, payables
from gristmill_protocol import certificate
from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.challenges import Draw, Sizes
from gristmill_protocol.commitments import SegmentRecord, SignedRecord, answer_digest
from gristmill_protocol.errors import NotAllowed
from gristmill_protocol.ids import id_bytes32
from gristmill_protocol.incidents import Incident, sign_incidents
from gristmill_protocol.jobs import ArtifactRef, TrainTask
from gristmill_protocol.progress import Evaluated, Finished, Replayed
from gristmill_protocol.signing import AUDIT_COMMITMENT_TYPE, RECEIPT_TYPE, SEGMENT_RECORD_TYPE, sign
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.bench import digest_of, judge

CLASS = "ab" * 32
SALT = b"s" * 32

States = Callable[[bytes, int], bytes]  # the state before a step, the step -> the state after it


def honest(state: bytes, step: int) -> bytes:
    """A step of training: deterministic, and nobody can guess its outcome without doing it."""
    return sha256(state + step.to_bytes(8, "big")).digest()


def lazy(state: bytes, step: int) -> bytes:
    """What a cheat writes down instead."""
    return sha256(b"not trained" + state + step.to_bytes(8, "big")).digest()


def root(state: bytes) -> str:
    return sha256(b"root" + state).hexdigest()


def initial(job_id: str) -> bytes:
    return sha256(b"initial" + job_id.encode()).digest()


async def prove_card(co: Coordinator, node_id: str) -> None:
    """As after a test that the node's card has passed."""
    async with co.store.write() as tx:
        await nodes.card_judged(co, tx, node_id, Verdict(ChallengeState.PASSED, Standing.PROVEN))


@dataclass
class _Run:
    lease: pb.LeaseOffer
    task: TrainTask
    state: bytes
    step: int
    index: int
    said: int = 0  # how many of the attempt's messages are acknowledged
    journal: list[tuple[str, object]] = field(default_factory=list)
    over: bool = False


@dataclass
class Machine:
    """Takes what it is offered, a segment a turn. Set the flags to misbehave.

    Args:
        train: how it gets from one state to the next.
        verify: the same, when it re-runs others' work.
        uploads: whether it uploads boundary states by itself; else only when asked.
        proven: whether its card counts as tested when it first connects.
        prover: answers the tests of its card, after thinks_s seconds; None: it refuses them.
    """

    name: str
    node_id: str
    key: LocalAccount
    provider: int
    offer: pb.Offer
    train: States = honest
    verify: States = honest
    dawdles: bool = False  # with what it is to verify
    changes_mind: bool = False  # says another answer than it committed to
    accepts: bool = True
    uploads: bool = True
    uploads_result: bool = True
    serves_states: bool = True
    spoils: bool = False  # hands over other states than it signed
    checks: bool = True  # whether it takes audits
    pleads: Literal["concede", "answer", ""] = "concede"  # when challenged on chain; "": says nothing
    silent: bool = False  # gone without a word
    leaves_after: int | None = None  # its owner comes back after so many segments
    dies_after: int | None = None  # power cut after so many segments
    fails_with: str = ""  # the renter's fault
    incidents: tuple[Incident, ...] = ()  # what happens to it during every attempt
    proven: bool = True
    prover: Callable[[bytes, Sizes], Prover] | None = Prover
    thinks_s: float = 0.0
    tested: list[str] = field(default_factory=list)  # the tests that it was asked for
    verdicts: list[pb.CardVerdict] = field(default_factory=list)
    sizes: dict[str, Sizes] = field(default_factory=dict)
    thinking: dict[str, tuple[float, bytes]] = field(default_factory=dict)  # test -> when it answers, and to which seed
    provers: dict[str, Prover] = field(default_factory=dict)
    certifies: bool | str = True  # signs certificates; else why not, or False for no answer
    makes: dict[str, bytes] = field(default_factory=dict)  # files of its result besides model.bin, or in its place
    scorecard: dict[str, Any] = field(default_factory=lambda: {"accuracy": 0.97})
    audits_done: int = 0
    outbox: Outbox | None = None
    runs: dict[str, _Run] = field(default_factory=dict)
    states: dict[str, bytes] = field(default_factory=dict)
    told_to_stop: set[str] = field(default_factory=set)
    released: list[str] = field(default_factory=list)
    audits: dict[str, pb.AuditRequest] = field(default_factory=dict)
    answers: dict[str, Replayed | Evaluated] = field(default_factory=dict)  # committed to
    network: str = ""  # that the coordinator sees it dial from
    payables: list[pb.Payable] = field(default_factory=list)
    accusations: list[pb.DisputeOpened] = field(default_factory=list)
    hearings: dict[int, Replayed] = field(default_factory=dict)

    @staticmethod
    def on(
        chain: FakeChain, name: str, *, ask: int = 200_000, slots: int = 2, funder: str = "", **flags: object
    ) -> "Machine":
        key = Account.from_key(sha256(name.encode()).digest())
        payout = Account.from_key(sha256(b"payout " + name.encode()).digest()).address
        provider = chain.add_provider(node_key=key.address, payout=payout, funder=funder)
        offer = pb.Offer(
            device="Test card",
            memory_bytes=8 * 2**30,
            numeric_class=bytes.fromhex(CLASS),
            flops_per_s=10**12,
            ask_usd_micros_per_gpu_hour=ask,
            slots=slots,
            sandbox="docker",
            recipes=["text-sorter", "script"],
        )
        return Machine(name, f"node-{name}", key, provider, offer, **flags)  # type: ignore[arg-type]

    async def connect(self, co: Coordinator) -> None:
        hello = pb.Hello(node_id=self.node_id, key=self.key.address, provider=self.provider, name=self.name)
        await nodes.node_connected(co, hello, self.network)
        self.outbox = co.links.register(self.node_id)
        await payables.node_returned(co, self.node_id)
        await nodes.offer_received(co, self.node_id, self.offer)
        if self.proven:
            await prove_card(co, self.node_id)
            self.proven = False
        await self._beat(co)
        for run in self.runs.values():
            run.said = 0  # everything that was not acknowledged is sent again; here: everything

    def cut(self) -> None:
        """The coordinator went away."""
        self.outbox = None

    async def vanish(self, co: Coordinator) -> None:
        """The machine's power goes."""
        self.silent = True
        if self.outbox is not None and co.links.unregister(self.node_id, self.outbox):
            await nodes.node_disconnected(co, self.node_id)
        self.outbox = None

    async def work(self, co: Coordinator) -> None:
        """One turn: read what came, train a segment of everything that runs, answer audits, beat."""
        if self.silent:
            return
        try:
            if self.outbox is None:
                await self.connect(co)
        except NotAllowed:
            self.silent = True
            return
        await self._beat(co)
        while self.outbox is not None and not self.outbox.empty():
            message = self.outbox.get_nowait()
            if message is not None:
                await self._read(co, message)
        for challenge_id in [one for one, (at_s, _) in self.thinking.items() if at_s <= co.clock()]:
            await self._commit_challenge(co, challenge_id)
        for audit_id in [] if self.dawdles else list(self.audits):
            await self._answer(co, self.audits[audit_id])
            del self.audits[audit_id]
        for run in list(self.runs.values()):
            if not run.over:
                await self._train(co, run)
            await self._say(co, run)
            if self.silent:
                return

    async def _beat(self, co: Coordinator) -> None:
        running = [attempt_id for attempt_id, run in self.runs.items() if not run.over]
        await nodes.heartbeat(co, self.node_id, pb.Heartbeat(attempt_ids=running))

    async def _read(self, co: Coordinator, message: pb.CoordinatorMessage) -> None:
        kind = message.WhichOneof("body") or ""
        body: Any = getattr(message, kind)
        handlers = {
            "lease": self._consider,
            "reveal": self._reveal,
            "state_request": self._serve,
            **({"certificate": self._certify} if self.certifies else {}),
            "challenge_request": self._get_ready,
            "challenge_start": self._think,
            "challenge_open": self._open,
            "dispute": self._plead,
            "referee": self._hear,
            "referee_reveal": self._rule,
        }
        if kind in handlers:
            await handlers[kind](co, body)
        elif kind == "stop":
            self.told_to_stop.add(body.attempt_id)
        elif kind == "release":
            self.released.append(body.attempt_id)
        elif kind == "audit":
            self.audits[body.audit_id] = body
        elif kind == "payable":
            self.payables.append(body)
        elif kind == "card":
            self.verdicts.append(body)

    async def _think(self, co: Coordinator, start: pb.ChallengeStart) -> None:
        self.thinking[start.challenge_id] = (co.clock() + self.thinks_s, start.seed)

    async def _open(self, co: Coordinator, request: pb.ChallengeOpen) -> None:
        opening = self.provers[request.challenge_id].open(Draw.model_validate_json(request.draw_json))
        reply = pb.ChallengeReply(opening_json=opening.model_dump_json())
        await self._reply(co, request.challenge_id, reply)

    async def _get_ready(self, co: Coordinator, request: pb.ChallengeRequest) -> None:
        self.tested.append(request.challenge_id)
        self.sizes[request.challenge_id] = Sizes.model_validate_json(request.sizes_json)
        refusal = pb.ChallengeReply(refused="Its owner is gaming.")
        await self._reply(co, request.challenge_id, refusal if self.prover is None else pb.ChallengeReply(ready=True))

    async def _commit_challenge(self, co: Coordinator, challenge_id: str) -> None:
        assert self.prover is not None
        _, seed = self.thinking.pop(challenge_id)
        self.provers[challenge_id] = self.prover(seed, self.sizes[challenge_id])
        commitment = self.provers[challenge_id].commit()
        await self._reply(co, challenge_id, pb.ChallengeReply(commitment_json=commitment.model_dump_json()))

    async def _reply(self, co: Coordinator, challenge_id: str, reply: pb.ChallengeReply) -> None:
        reply.challenge_id = challenge_id
        await challenges.challenge_replied(co, self.node_id, reply)

    async def _consider(self, co: Coordinator, lease: pb.LeaseOffer) -> None:
        reply = pb.LeaseReply(lease_id=lease.lease_id, attempt_id=lease.attempt_id, accepted=self.accepts)
        if self.accepts and lease.attempt_id not in self.runs:
            task = TrainTask.model_validate_json(lease.task_json)
            state = initial(task.job_id) if task.state is None else await self._fetch(co, task.state)
            run = _Run(lease, task, state, task.step_from, task.segment_index)
            run.journal.append(
                ("attempt", pb.AttemptUpdate(attempt_id=lease.attempt_id, state=pb.AttemptUpdate.RUNNING))
            )
            self.runs[lease.attempt_id] = run
        if not self.accepts:
            reply.reason = "Its owner is gaming."
        await dispatch.lease_replied(co, self.node_id, reply)

    async def _train(self, co: Coordinator, run: _Run) -> None:
        if self.fails_with:
            self._end(run, pb.AttemptUpdate.FAILED, reason=self.fails_with, renters_fault=True)
            return
        if run.lease.attempt_id in self.told_to_stop:
            self._end(run, pb.AttemptUpdate.YIELDED, reason="It was told to stop.")
            return
        if run.step < run.task.steps:
            await self._segment(co, run)
        done = run.index - run.task.segment_index
        if self.dies_after is not None and done >= self.dies_after:
            await self._say(co, run)
            await self.vanish(co)
        elif self.leaves_after is not None and done >= self.leaves_after:
            self._end(run, pb.AttemptUpdate.YIELDED, reason="Its owner came back.")
        elif run.step == run.task.steps:
            await self._finish(co, run)

    async def _segment(self, co: Coordinator, run: _Run) -> None:
        step_to = run.task.grid.end_after(run.step)
        state = run.state
        for step in range(run.step, step_to):
            state = self.train(state, step)
        record = SegmentRecord(
            job_id=run.task.job_id,
            index=run.index,
            step_from=run.step,
            step_to=step_to,
            state_root_prev=root(run.state),
            state_root=root(state),
            data_root=_digest("data", run.step, step_to),
            metrics_root=_digest("metrics", run.step, step_to),
            micro_root=_digest("micro", run.step, step_to),
            started_ms=0,
            ended_ms=1,
            numeric_class=self.offer.numeric_class.hex(),
        )
        kept = b"spoilt" + state if self.spoils else state
        ref = ArtifactRef(sha256=sha256(kept).hexdigest(), size_bytes=len(kept))
        self.states[ref.sha256] = kept
        if self.uploads:
            await self._upload(co, ref.sha256)
        run.state, run.step, run.index = state, step_to, run.index + 1
        run.journal.append(("segment", self._report(co, run, record, ref)))
        run.journal.append(("receipt", self._receipt(co, run)))

    def _report(self, co: Coordinator, run: _Run, record: SegmentRecord, ref: ArtifactRef) -> pb.SegmentReport:
        signature = sign(self.key, co.chain.info.registry_domain, SEGMENT_RECORD_TYPE, record.typed())
        return pb.SegmentReport(
            attempt_id=run.lease.attempt_id,
            signed_record_json=SignedRecord(record=record, signature=signature).model_dump_json(),
            state=pb.Artifact(sha256=ref.sha256, size_bytes=ref.size_bytes),
            uploaded=self.uploads,
        )

    def _receipt(self, co: Coordinator, run: _Run) -> pb.Receipt:
        number = run.index - run.task.segment_index
        message = {
            "attempt": id_bytes32(run.lease.attempt_id),
            "number": number,
            "steps": run.step,
            "gpuMs": 1000 * number,
        }
        signature = sign(self.key, co.chain.info.registry_domain, RECEIPT_TYPE, message)
        return pb.Receipt(
            attempt_id=run.lease.attempt_id, number=number, steps=run.step, gpu_ms=1000 * number, signature=signature
        )

    async def _finish(self, co: Coordinator, run: _Run) -> None:
        contents = {"model.bin": b"model of " + run.state, **self.makes}
        files = _hashes(contents)
        for name, digest in files.items():
            self.states[digest] = contents[name]
            if self.uploads_result:
                await self._upload(co, digest)
        finished = Finished(step=run.step, state_root=root(run.state), scorecard=self.scorecard, files=files)
        self._end(run, pb.AttemptUpdate.FINISHED, finished_json=finished.model_dump_json())

    def _end(self, run: _Run, state: "pb.AttemptUpdate.State.ValueType", **fields: object) -> None:
        update = pb.AttemptUpdate(attempt_id=run.lease.attempt_id, state=state, **fields)  # type: ignore[arg-type]
        update.incidents_json, update.incidents_signature = sign_incidents(self.key, update.attempt_id, self.incidents)
        run.journal.append(("attempt", update))
        run.over = True

    async def _say(self, co: Coordinator, run: _Run) -> None:
        """Send what is not acknowledged yet, in order, as a node's journal does."""
        handlers = {
            "attempt": dispatch.attempt_updated,
            "segment": metering.segment_reported,
            "receipt": metering.receipt_reported,
        }
        while run.said < len(run.journal):
            kind, message = run.journal[run.said]
            await handlers[kind](co, self.node_id, message)  # type: ignore[operator]
            run.said += 1

    async def _answer(self, co: Coordinator, request: pb.AuditRequest) -> None:
        if not self.checks:
            reply = pb.AuditReply(audit_id=request.audit_id, accepted=False, reason="Its owner is gaming.")
            await audit.audit_replied(co, self.node_id, reply)
            return
        task = TrainTask.model_validate_json(request.task_json)
        said: Replayed | Evaluated = await (self._measure(co, task) if task.model else self._replay(co, task))
        self.audits_done += 1
        await self._commit(co, request.audit_id, said)

    async def _measure(self, co: Coordinator, task: TrainTask) -> Evaluated:
        """93 of 100 for a model that was trained in every step, else 20; as its verify sees it."""
        assert await self._fetch(co, task.data)
        trained = initial(task.job_id)
        for step in range(task.steps):
            trained = self.verify(trained, step)
        model = await self._fetch(co, task.model["model.bin"])
        return Evaluated(correct=93 if model == b"model of " + trained else 20, examples=100)

    async def _replay(self, co: Coordinator, task: TrainTask) -> Replayed:
        before = initial(task.job_id) if task.state is None else await self._fetch(co, task.state)
        state = before
        assert task.step_to is not None
        roots = []
        ends_job = task.step_to == task.steps
        for step in range(task.step_from, task.step_to):
            state = self.verify(state, step)
            roots.append(root(state))
        return Replayed(
            step_from=task.step_from,
            step_to=task.step_to,
            state_root_prev=root(before),
            state_root=root(state),
            data_root=_digest("data", task.step_from, task.step_to),
            metrics_root=_digest("metrics", task.step_from, task.step_to),
            step_roots=tuple(roots) if task.step_roots else (),
            files=_hashes({"model.bin": b"model of " + state, **self.makes}) if ends_job else {},
            scorecard_sha256=sha256_json(self.scorecard).hex() if ends_job else None,
        )

    async def _commit(self, co: Coordinator, audit_id: str, said: Replayed | Evaluated) -> None:
        self.answers[audit_id] = said
        digest = answer_digest(audit_id, SALT, said)
        signed = {"audit": id_bytes32(audit_id), "digest": digest}
        signature = sign(self.key, co.chain.info.registry_domain, AUDIT_COMMITMENT_TYPE, signed)
        commitment = pb.AuditCommitment(audit_id=audit_id, digest=digest, signature=signature)
        await audit.audit_committed(co, self.node_id, commitment)

    async def _reveal(self, co: Coordinator, request: pb.RevealRequest) -> None:
        audit_id = request.audit_id
        said = self.answers[audit_id]
        if self.changes_mind:
            said = said.model_copy(update={"state_root": "00" * 32})
        reply = pb.AuditReply(audit_id=audit_id, accepted=True, replayed_json=said.model_dump_json(), salt=SALT)
        await audit.audit_replied(co, self.node_id, reply)

    async def _hear(self, co: Coordinator, request: pb.RefereeRequest) -> None:
        task = TrainTask.model_validate_json(request.again.task_json)
        replayed = self.hearings[request.dispute_id] = await self._replay(co, task)
        reply = pb.RefereeReply(dispute_id=request.dispute_id, digest=digest_of(replayed))
        await hearings.digest_told(co, self.node_id, reply)

    async def _rule(self, co: Coordinator, reveal: pb.RefereeReveal) -> None:
        assert isinstance(co.chain, FakeChain)
        dispute = co.chain.state.disputes[reveal.dispute_id]
        ruling = judge(json.loads(reveal.documents_json), self.hearings[reveal.dispute_id])
        if ruling != "abstained" and dispute.phase is Phase.RULING:
            courts.rule(co.chain, reveal.dispute_id, self.provider, guilty=ruling == "guilty")
        own = self.hearings[reveal.dispute_id]
        reply = pb.RefereeReply(
            dispute_id=reveal.dispute_id, digest=digest_of(own), ruled=ruling, replayed_json=own.model_dump_json()
        )
        await hearings.digest_told(co, self.node_id, reply)

    async def _plead(self, co: Coordinator, opened: pb.DisputeOpened) -> None:
        assert isinstance(co.chain, FakeChain)
        self.accusations.append(opened)
        roots = self._claimed_steps(opened)
        reply = pb.DisputeReply(dispute_id=opened.dispute_id, pleaded="answered", step_roots=roots)
        if self.pleads == "answer":
            await disputes.stance_told(co, self.node_id, reply)
        if co.chain.state.disputes[opened.dispute_id].phase is not Phase.ANSWERING:
            return
        if self.pleads == "concede":
            courts.concede(co.chain, opened.dispute_id)
        elif self.pleads == "answer":
            courts.answer(co.chain, opened.dispute_id, sha256_json(roots))

    def _claimed_steps(self, opened: pb.DisputeOpened) -> list[str]:
        """The state roots that it says its segment went through."""
        run = self.runs[opened.attempt_id]
        record = SignedRecord.model_validate(json.loads(opened.documents_json)[0]).record
        state = self.states[opened.start.sha256] if opened.start.sha256 else initial(run.task.job_id)
        states = accumulate(range(record.step_from, record.step_to), self.train, initial=state)
        return [root(state) for state in states][1:]

    async def _serve(self, co: Coordinator, request: pb.StateRequest) -> None:
        known = self.serves_states and request.sha256 in self.states
        if known:
            await self._upload(co, request.sha256)
        reason = "" if known else "The state is gone."
        reply = pb.StateReply(attempt_id=request.attempt_id, sha256=request.sha256, uploaded=known, reason=reason)
        await audit.state_replied(co, self.node_id, reply)

    async def _certify(self, co: Coordinator, request: pb.CertificateRequest) -> None:
        reply = pb.CertificateReply(job_id=request.job_id, statement_sha256=sha256(request.statement).digest())
        if isinstance(self.certifies, str):
            reply.reason = self.certifies
        else:
            reply.signature = certificate.sign(self.key, request.statement)
        await certifying.certificate_replied(co, self.node_id, reply)

    async def _upload(self, co: Coordinator, digest: str) -> None:
        ref = await co.artifacts.put_bytes(self.states[digest])
        await co.store.grant(ref.sha256, f"node:{self.node_id}")

    async def _fetch(self, co: Coordinator, ref: ArtifactRef) -> bytes:
        """As over HTTP: 404 without a grant."""
        if not await co.store.allowed(ref.sha256, f"node:{self.node_id}"):
            raise AssertionError(f"{self.name} was not granted {ref.sha256}")
        return co.artifacts.read(ref.sha256)


def _hashes(contents: dict[str, bytes]) -> dict[str, str]:
    return {name: sha256(content).hexdigest() for name, content in contents.items()}


def _digest(what: str, step_from: int, step_to: int) -> str:
    return sha256(json.dumps([what, step_from, step_to]).encode()).hexdigest()
