"""What a recipe's program module offers to the trainer process: training, and using what came out of it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from gristmill_trainer.engine import Run
from gristmill_trainer.examples import Examples
from gristmill_trainer.scoring import Scorecard


@dataclass(frozen=True)
class Model:
    """What is exported: tensors for model.safetensors, and all else that is needed to use them, for config.json."""

    tensors: Mapping[str, torch.Tensor]
    config: dict[str, Any]


@dataclass(frozen=True)
class Prediction:
    file: str
    answer: str
    confidence: float


class Training(Protocol):
    """One run of a recipe."""

    def train(self) -> None:
        """Loop over run.steps()."""
        ...

    def evaluate(self) -> Scorecard:
        """Measure on the held-out examples; the same bits give the same card."""
        ...

    def model(self) -> Model: ...

    @property
    def examples(self) -> Examples[Any]: ...


class Program(Protocol):
    """A module with these two functions."""

    def begin(self, run: Run) -> Training:
        """Read the data, draw the first weights, and call run.track().

        Raises:
            BadData: the data cannot be learnt from.
        """
        ...

    def predict(self, model: Model, contents: Iterable[tuple[str, bytes]]) -> Iterator[Prediction]:
        """Answers for (file name, content) pairs.

        Raises:
            BadData: a content cannot be read.
        """
        ...
