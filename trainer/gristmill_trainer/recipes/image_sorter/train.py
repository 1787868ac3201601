"""Training of the image sorter: a plain convolutional network, AdamW, and small random turns and shifts."""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from gristmill_protocol.errors import BadData
from gristmill_trainer.data import Example
from gristmill_trainer.engine import Run
from gristmill_trainer.examples import Examples, most_likely
from gristmill_trainer.pictures import NotAPicture, is_picture, pixels
from gristmill_trainer.program import Model, Prediction
from gristmill_trainer.recipes.image_sorter import network
from gristmill_trainer.scoring import Scorecard

AT_ONCE = 256  # pictures, outside training


class Net(nn.Module):
    """3x3 convolutions down to a few pixels; their mean goes to one linear layer."""

    def __init__(self, *, channels: int, width: int, size: int, answers: int) -> None:
        super().__init__()
        layers = network(channels, width, size)
        self.body = nn.Sequential(*(_block(layer.inputs, layer.outputs, layer.stride) for layer in layers))
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(layers[-1].outputs, answers)

    def forward(self, pictures: Tensor) -> Tensor:  # (batch, channels, size, size) f32 -> (batch, answers) f32
        # A plain mean: adaptive pooling has no deterministic backward pass on GPUs.
        scores: Tensor = self.head(self.drop(self.body(pictures).mean((2, 3))))
        return scores


class Training:
    """One run of the image sorter."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._shape = {name: run.settings[name] for name in ("channels", "width", "size")}
        self.examples = Examples.read(run.data, self._read)
        self._pictures = torch.stack(self.examples.values)  # (examples, channels, size, size) u8
        run.initialise()
        self._net = Net(**self._shape, answers=len(self.examples.answers)).to(run.device)
        run.track(
            self._net,
            torch.optim.AdamW(_groups(self._net), fused=True),
            examples=self.examples.learnt_digests,
            batch=run.settings["batch"],
            peak_rate=run.settings["learning_rate"],
        )

    def train(self) -> None:
        run, mirror = self._run, self._run.settings["mirror"]
        pictures, answers = self._pictures[self.examples.learnt], self.examples.learnt_numbers()
        self._net.train()
        for step in run.steps():
            rows = run.rows(step)
            batch = vary(scaled(pictures[rows]), run.seeded("vary", step), mirror=mirror)
            scores = self._net(batch.to(run.device))
            run.learn(functional.cross_entropy(scores, answers[rows].to(run.device), label_smoothing=0.05))

    def evaluate(self) -> Scorecard:
        return self.examples.score(_scores(self._net, self._pictures[self.examples.held], self._run.device))

    def model(self) -> Model:
        config = {**self._shape, "answers": list(self.examples.answers)}
        return Model(self._net.state_dict(), config)

    def _read(self, example: Example) -> Tensor | None:
        if not is_picture(example.place):
            return None
        return _planes(example.place, example.content, self._shape["channels"], self._shape["size"])


def begin(run: Run) -> Training:
    return Training(run)


def predict(model: Model, contents: Iterable[tuple[str, bytes]]) -> Iterator[Prediction]:
    """The answer for each picture."""
    config, answers = dict(model.config), model.config["answers"]
    net = Net(channels=config["channels"], width=config["width"], size=config["size"], answers=len(config["answers"]))
    net.load_state_dict(model.tensors)
    for file, content in contents:
        picture = _planes(file, content, config["channels"], config["size"])
        [(answer, confidence)] = most_likely(_scores(net, picture[None], torch.device("cpu")), answers)
        yield Prediction(file, answer, confidence)


def vary(pictures: Tensor, seeded: torch.Generator, *, mirror: bool) -> Tensor:
    """Turn, scale and shift each picture a little, at random.

    Args:
        pictures: (batch, channels, size, size) f32
        mirror: flip half of them left to right as well.
    """
    turn, scale, across, down = torch.rand(4, len(pictures), generator=seeded).mul(2).sub(1)
    turn, scale = turn * (math.pi / 15), 1 + 0.1 * scale
    flip = torch.where(torch.rand(len(pictures), generator=seeded) < 0.5, -1.0, 1.0) if mirror else torch.tensor(1.0)
    cos, sin = turn.cos() * scale, turn.sin() * scale
    rows = [torch.stack([flip * cos, -sin, 0.12 * across], 1), torch.stack([flip * sin, cos, 0.12 * down], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1), list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def scaled(pictures: Tensor) -> Tensor:  # u8 0..255 -> f32 -1..1
    return pictures.float().mul(2 / 255).sub(1)


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def _groups(net: Net) -> list[dict[str, object]]:
    """Weights decay; biases and normalisation don't."""
    weights = [param for param in net.parameters() if param.ndim > 1]
    others = [param for param in net.parameters() if param.ndim <= 1]
    return [{"params": weights, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]


@torch.no_grad()
def _scores(net: Net, pictures: Tensor, device: torch.device) -> Tensor:  # (n, ...) u8 -> (n, answers) f32, on the CPU
    net.eval()
    parts = [net(scaled(part).to(device)).cpu() for part in torch.split(pictures, AT_ONCE)]
    return torch.cat(parts)


def _planes(place: str, content: bytes, channels: int, size: int) -> Tensor:  # (channels, size, size) u8
    try:
        planes = pixels(content, channels=channels, size=size)
    except NotAPicture as err:
        raise BadData(
            f"The picture {place!r} cannot be used: {err}.",
            effect="The job stops here.",
            todo="Replace it or take it out of its folder.",
            place=place,
        ) from err
    return torch.frombuffer(bytearray(planes), dtype=torch.uint8).reshape(channels, size, size)
