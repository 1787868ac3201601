"""Tests of the card: when asked, the training program shows what it can do. One at a time, on an idle machine."""

import asyncio
from pathlib import Path

import structlog

from gristmill_protocol.errors import GristmillError, Unavailable
from gristmill_protocol.progress import ChallengeCommitted, ChallengeOpened, ChallengeReady, Failed
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.attempt import Workshop
from gristmill_provider.runner import Run
from gristmill_provider.task_dirs import new_task_dir, remove_task_dir

logger = structlog.get_logger(__name__)

_TIMEOUT_S = 600


class Challenges:
    """The test that runs, if any. What it says is worth nothing once late, so nothing is journaled."""

    def __init__(self, workshop: Workshop) -> None:
        self._shop = workshop
        self._id = ""
        self._folder: Path | None = None
        self._running: asyncio.Task[None] | None = None
        self._leaving = ""  # set: the reason why it is broken off

    async def answer(self, request: pb.ChallengeRequest) -> None:
        """See a test through; only cancellation gets out."""
        await self.leave("Another test was asked for.")
        self._id, self._leaving = request.challenge_id, ""
        self._running = asyncio.create_task(self._run(request))
        try:
            await self._running
        except asyncio.CancelledError:
            if not (self._leaving and self._running.cancelled()):
                self._running.cancel()
                raise
            self.refuse(request.challenge_id, self._leaving)
        except GristmillError as err:
            self.refuse(request.challenge_id, str(err))
        except TimeoutError:
            self.refuse(request.challenge_id, f"The test was not over within {_TIMEOUT_S} s.")
        except Exception:
            logger.exception("challenge_broke", challenge_id=request.challenge_id)
            self.refuse(request.challenge_id, "The node has a fault; its log has the details.")

    def start(self, start: pb.ChallengeStart) -> None:
        """Hand the seed to the training program."""
        self._put(start.challenge_id, "seed", start.seed.hex())

    def open(self, wanted: pb.ChallengeOpen) -> None:
        """Hand it what has to be opened."""
        self._put(wanted.challenge_id, "draw.json", wanted.draw_json)

    async def leave(self, reason: str) -> None:
        """Break off what runs; returns when the card is free again."""
        running = self._running
        if running is not None and not running.done():
            self._leaving = reason
            running.cancel()
            await asyncio.wait([running])

    def refuse(self, challenge_id: str, reason: str) -> None:
        logger.warning("challenge_not_answered", challenge_id=challenge_id, reason=reason)
        self._say(pb.ChallengeReply(challenge_id=challenge_id, refused=reason))

    async def _run(self, request: pb.ChallengeRequest) -> None:
        name = request.challenge_id
        folder = await new_task_dir(self._shop.runner, self._shop.tasks_dir, name)
        try:
            (folder / "challenge.json").write_text(request.sizes_json)
            async with asyncio.timeout(_TIMEOUT_S):
                run = await self._shop.runner.start(folder, "challenge")
                self._folder = folder
                try:
                    await self._follow(run, name)
                finally:
                    await run.close()
        finally:
            self._folder = None
            await remove_task_dir(self._shop.runner, folder)

    async def _follow(self, run: Run, challenge_id: str) -> None:
        async for event in run.events():
            reply = pb.ChallengeReply(challenge_id=challenge_id)
            match event:
                case ChallengeReady():
                    reply.ready = True
                case ChallengeCommitted():
                    reply.commitment_json = event.commitment.model_dump_json()
                case ChallengeOpened():
                    reply.opening_json = event.opening.model_dump_json()
                case Failed():
                    raise GristmillError(event.what, effect=event.effect, todo=event.todo)
            self._say(reply)
            if isinstance(event, ChallengeOpened):
                logger.info("challenge_answered", challenge_id=challenge_id)
                return
        raise Unavailable((await run.wait()).cause)

    def _put(self, challenge_id: str, name: str, text: str) -> None:
        """Put a file where the training program waits for it, whole at once."""
        if challenge_id != self._id or self._folder is None:
            logger.info("challenge_is_over", challenge_id=challenge_id)
            return
        new = self._folder / "input" / f".{name}"
        new.write_text(text)
        new.rename(new.with_name(name))

    def _say(self, reply: pb.ChallengeReply) -> None:
        self._shop.link.send(pb.NodeMessage(challenge=reply))
