"""Training of the text sorter: the weighted mean of learnt vectors, squashed, goes to one linear layer."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gristmill_protocol.errors import BadData
from gristmill_trainer.data import Example
from gristmill_trainer.engine import Run
from gristmill_trainer.examples import Examples, most_likely
from gristmill_trainer.program import Model, Prediction
from gristmill_trainer.recipes.text_sorter.features import Counted, Vocabulary, features
from gristmill_trainer.scoring import Scorecard

AT_ONCE = 256  # texts, outside training


class Net(nn.Module):
    """A table of vectors, one for each known feature; dropout and one linear layer after it."""

    def __init__(self, *, buckets: int, width: int, answers: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(buckets, width, mode="sum")
        nn.init.normal_(self.table.weight, std=0.1)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(width, answers)

    def forward(self, numbers: Tensor, starts: Tensor, weights: Tensor) -> Tensor:  # -> (texts, answers) f32
        scores: Tensor = self.head(self.drop(self.table(numbers, starts, per_sample_weights=weights).tanh()))
        return scores


class Bags:
    """Encoded texts, end to end, from which batches are gathered."""

    def __init__(self, texts: Sequence[Counted], vocabulary: Vocabulary) -> None:
        encoded = [vocabulary.encode(counted) for counted in texts]
        self._numbers = [torch.from_numpy(numbers) for numbers, _ in encoded]
        self._weights = [torch.from_numpy(weights) for _, weights in encoded]

    def gather(self, rows: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers, where each text starts in them, and weights: what Net.forward takes."""
        numbers = [self._numbers[row] for row in rows]
        lengths = torch.tensor([0, *(len(part) for part in numbers[:-1])])
        weights = torch.cat([self._weights[row] for row in rows])
        return torch.cat(numbers).to(device), lengths.cumsum(0).to(device), weights.to(device)


class Training:
    """One run of the text sorter."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._shape = {name: run.settings[name] for name in ("buckets", "width")}
        self.examples = Examples.read(run.data, _read)
        learnt = [self.examples.values[row] for row in self.examples.learnt]
        self._vocabulary = Vocabulary.of(learnt, at_most=self._shape["buckets"])
        self._bags = Bags(self.examples.values, self._vocabulary)
        run.initialise()
        self._net = Net(**self._shape, answers=len(self.examples.answers)).to(run.device)
        run.track(
            self._net,
            torch.optim.AdamW(self._net.parameters(), weight_decay=0.0, fused=True),
            examples=self.examples.learnt_digests,
            batch=run.settings["batch"],
            peak_rate=run.settings["learning_rate"],
        )

    def train(self) -> None:
        run, learnt, answers = self._run, self.examples.learnt, self.examples.learnt_numbers()
        self._net.train()
        for step in run.steps():
            rows = run.rows(step)
            scores = self._net(*self._bags.gather([learnt[row] for row in rows.tolist()], run.device))
            run.learn(functional.cross_entropy(scores, answers[rows].to(run.device), label_smoothing=0.05))

    def evaluate(self) -> Scorecard:
        return self.examples.score(_scores(self._net, self._bags, self.examples.held, self._run.device))

    def model(self) -> Model:
        known = {
            "vocabulary.hashes": torch.from_numpy(self._vocabulary.hashes.astype(np.int64)),
            "vocabulary.weights": torch.from_numpy(self._vocabulary.weights),
        }
        return Model(self._net.state_dict() | known, {**self._shape, "answers": list(self.examples.answers)})


def begin(run: Run) -> Training:
    return Training(run)


def predict(model: Model, contents: Iterable[tuple[str, bytes]]) -> Iterator[Prediction]:
    """The answer for each text."""
    tensors, answers = dict(model.tensors), model.config["answers"]
    hashes, weights = tensors.pop("vocabulary.hashes"), tensors.pop("vocabulary.weights")
    vocabulary = Vocabulary(hashes.numpy().astype(np.uint64), weights.numpy())
    net = Net(buckets=model.config["buckets"], width=model.config["width"], answers=len(answers))
    net.load_state_dict(tensors)
    for file, content in contents:
        counted = features(_decoded(file, content))
        [(answer, confidence)] = most_likely(
            _scores(net, Bags([counted], vocabulary), [0], torch.device("cpu")), answers
        )
        yield Prediction(file, answer, confidence)


@torch.no_grad()
def _scores(
    net: Net, bags: Bags, rows: Sequence[int], device: torch.device
) -> Tensor:  # (rows, answers) f32, on the CPU
    net.eval()
    parts = [net(*bags.gather(rows[at : at + AT_ONCE], device)).cpu() for at in range(0, len(rows), AT_ONCE)]
    return torch.cat(parts) if parts else torch.empty(0, 0)


def _read(example: Example) -> Counted | None:
    text = _decoded(example.place, example.content)
    return features(text) if text.strip() else None


def _decoded(place: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise BadData(
            f"{place!r} is no text in UTF-8.",
            effect="It cannot be read.",
            todo="Save it as plain text in UTF-8, or take it out.",
            place=place,
        ) from err
