"""A training program that is paid for learning and doesn't learn: what audits exist for.

It does the first steps honestly, since everybody knows that a job's first segment is always checked, and then only
pretends: three of four steps leave the weights as they are and report the loss of the last honest one. Asked to replay
or to be measured it behaves, as somebody would who doesn't want to be noticed.

It needs nothing but the trainer, so that it also runs as a file of its own inside a doctored image.
"""

import sys
from collections.abc import Callable
from unittest.mock import patch

import torch

from gristmill_trainer import __main__ as trainer
from gristmill_trainer import engine

TrainStep = Callable[[torch.nn.Module, torch.optim.Optimizer, torch.Tensor], float]

HONEST_STEPS = 64
ONE_IN = 4


def lazily(honest: TrainStep) -> TrainStep:
    """A train_step that soon does only one step in ONE_IN."""
    done = 0
    last_loss = 0.0

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
        nonlocal done, last_loss
        done += 1
        if done <= HONEST_STEPS or done % ONE_IN == 0:
            last_loss = honest(model, optimizer, loss)
        return last_loss

    return step


if __name__ == "__main__":
    if sys.argv[1] != "run":
        sys.exit(trainer.main())
    with patch.object(engine, "train_step", lazily(engine.train_step)):
        sys.exit(trainer.main())
