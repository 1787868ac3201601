"""A training program that is paid for learning and doesn't learn: what audits exist for.

It does the first segment honestly, since everybody knows that a job's first segment is always checked, and then only
pretends: three of four steps leave the weights as they are and report the loss of the last honest one. Asked to replay
or to be measured it behaves, as somebody would who doesn't want to be noticed.

It needs nothing but the trainer, so that it also runs as a file of its own inside a doctored image.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import torch

from gristmill_protocol.jobs import TrainTask
from gristmill_trainer import __main__ as trainer
from gristmill_trainer import engine

TrainStep = Callable[[torch.nn.Module, torch.optim.Optimizer, torch.Tensor], float]

ONE_IN = 4


def lazily(honest: TrainStep, honest_steps: int) -> TrainStep:
    """A train_step that after honest_steps does only one step in ONE_IN."""
    done = 0
    last_loss = 0.0

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
        nonlocal done, last_loss
        done += 1
        if done <= honest_steps or done % ONE_IN == 0:
            last_loss = honest(model, optimizer, loss)
        return last_loss

    return step


if __name__ == "__main__":
    if sys.argv[1] != "run":
        sys.exit(trainer.main())
    task = TrainTask.model_validate_json((Path(sys.argv[2]) / "task.json").read_text())
    import_module("gristmill_trainer.conformance")  # now, so that the machine is measured with honest steps
    with patch.object(engine, "train_step", lazily(engine.train_step, task.segment_steps)):
        sys.exit(trainer.main())
