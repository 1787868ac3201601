"""Training programs that are paid for learning and don't learn as agreed: what audits exist for.

Each does the job's first segment honestly, since everybody knows that it is always checked, and cheats from then on;
what it reports looks as it should. Asked to replay or to be measured it behaves, as somebody would who doesn't want to
be noticed.

    python -m gristmill_localnet.cheating_trainer [NAME] run FOLDER

It needs nothing but the trainer, so that it also runs as a file of its own inside a doctored image.
"""

import sys
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from gristmill_trainer import __main__ as trainer
from gristmill_trainer import engine, session


class Cheat(engine.Run):
    """An honest run; the subclasses say where it leaves the path."""

    @property
    def cheats(self) -> bool:
        return self._step >= self.task.grid.end_after(0)

    def track(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, **settings: Any) -> None:
        super().track(model, optimizer, **settings)
        model.register_forward_pre_hook(
            lambda model, inputs: self.inputs(*inputs) if model.training and self.cheats else inputs
        )

    def rows(self, step: int) -> Tensor:
        honest = super().rows(step)
        # What is asked for while a step is being done is learnt from; afterwards it is only written down.
        return self.learnt(honest) if self.cheats and not self._losses else honest

    def learn(self, loss: Tensor, **metrics: float) -> None:
        with patch.object(engine, "train_step", self.work if self.cheats else engine.train_step):
            super().learn(loss, **metrics)

    def _begin(self, step: int) -> None:
        super()._begin(step)
        if self.cheats:
            self.prepare()

    def prepare(self) -> None:
        """Before a step."""

    def learnt(self, rows: Tensor) -> Tensor:
        """The examples that a step really learns from."""
        return rows

    def inputs(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the model really sees of them."""
        return inputs

    def work(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
        """The step itself; returns the loss that is reported."""
        return _honest(model, optimizer, loss)


_honest = engine.train_step


class SkippedSteps(Cheat):
    """Three of four steps leave the weights as they are and report the loss of the last honest one."""

    _last_loss = 0.0

    def work(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
        if self._step % 4 == 0:
            self._last_loss = _honest(model, optimizer, loss)
        return self._last_loss or loss.item()


class Faked(Cheat):
    """Honest only where it is surely audited: then nothing at all is learnt."""

    def work(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
        return loss.item()


class NoisyOldState(Cheat):
    """An old state with some noise on it, in place of a new one."""

    def work(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
        with torch.no_grad():
            for param in model.parameters():
                param.add_(torch.randn_like(param), alpha=1e-4)
        return loss.item()


class ReusedStates(Cheat):
    """A state that was reached once is handed in again and again."""

    _old: dict[str, Tensor] | None = None

    def work(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
        if self._old is None:
            self._old = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self._old)
        return loss.item()


class SmallerBatch(Cheat):
    """Half of each batch."""

    def learnt(self, rows: Tensor) -> Tensor:
        return rows[: len(rows) // 2]


class OtherData(Cheat):
    """The same few examples over and over, which a cache holds."""

    def learnt(self, rows: Tensor) -> Tensor:
        return rows % 10


class OtherOrder(Cheat):
    """The right batch, its examples in another order."""

    def learnt(self, rows: Tensor) -> Tensor:
        return rows.flip(0)


class ShorterTexts(Cheat):
    """The first half of each text."""

    def inputs(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        numbers, starts, weights = inputs
        ends = torch.cat([starts[1:], torch.tensor([len(numbers)])])
        kept = [torch.arange(start, start + (end - start + 1) // 2) for start, end in zip(starts, ends, strict=True)]
        lengths = torch.tensor([0, *(len(part) for part in kept[:-1])])
        return numbers[torch.cat(kept)], lengths.cumsum(0), weights[torch.cat(kept)]


class FrozenLayers(Cheat):
    """Only the last layer learns: no gradient goes further back."""

    def prepare(self) -> None:
        for name, param in self._model.named_parameters():
            param.requires_grad_(name.startswith("head."))


class HalfPrecision(Cheat):
    """Forward and backward in bfloat16."""

    def prepare(self) -> None:
        self._autocast = torch.autocast(self.device.type, torch.bfloat16)
        self._autocast.__enter__()  # type: ignore[no-untyped-call]

    def work(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
        self._autocast.__exit__(None, None, None)
        return super().work(model, optimizer, loss)


class EightBitWeights(Cheat):
    """Weights that are kept in eight bits."""

    def prepare(self) -> None:
        with torch.no_grad():
            for param in self._model.parameters():
                grain = param.abs().max().clamp(min=1e-9) / 127
                param.div_(grain).round_().mul_(grain)


class OwnLearningRate(Cheat):
    """A learning rate of the provider's choice, one percent above the agreed one."""

    def prepare(self) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] *= 1.01


CHEATS: dict[str, type[Cheat]] = {
    "skipped-steps": SkippedSteps,
    "faked": Faked,
    "noisy-old-state": NoisyOldState,
    "reused-states": ReusedStates,
    "smaller-batch": SmallerBatch,
    "other-data": OtherData,
    "other-order": OtherOrder,
    "shorter-texts": ShorterTexts,
    "frozen-layers": FrozenLayers,
    "half-precision": HalfPrecision,
    "eight-bit-weights": EightBitWeights,
    "own-learning-rate": OwnLearningRate,
}


def main() -> int:
    """The trainer's main, with its runs replaced; its exit code."""
    cheat = CHEATS[sys.argv.pop(1)] if sys.argv[1] in CHEATS else SkippedSteps
    with patch.object(session, "Run", cheat if sys.argv[1] == "run" else engine.Run):
        return trainer.main()


if __name__ == "__main__":
    sys.exit(main())
