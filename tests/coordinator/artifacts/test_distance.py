"""States are written by the trainer itself, by real optimizers; expected distances are computed in torch."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gristmill_coordinator.artifacts import distance as module
from gristmill_coordinator.artifacts.distance import Distance, distance, root_of
from gristmill_protocol.errors import BadData
from gristmill_trainer.checkpoint import Checkpoint

ADAM = partial(torch.optim.AdamW, lr=0.01)
MOMENTUM = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
PLAIN = partial(torch.optim.SGD, lr=0.1)


def train(folder: Path, optimizer: Callable[..., torch.optim.Optimizer]) -> tuple[Path, Path, Path]:
    """The start, the end of three steps, and the end of two of them."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 2))
    model[2].bias.requires_grad_(False)
    moving = optimizer([param for param in model.parameters() if param.requires_grad])
    checkpoint = Checkpoint(model, moving, seed=7)
    for step in range(4):
        checkpoint.save(step, folder / f"{step}.safetensors")
        model(torch.randn(8, 6)).square().mean().backward()
        moving.step()
        moving.zero_grad()
    end = folder / "2.safetensors"
    behind = load_file(end)
    behind |= {name: tensor for name, tensor in load_file(folder / "3.safetensors").items() if tensor.ndim == 0}
    save_file(behind, end)
    return folder / "0.safetensors", folder / "3.safetensors", end


def changed(path: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    """A copy of the state in which one tensor is another."""
    tensors = load_file(path)
    tensors[name] = change(tensors[name]).contiguous()
    save_file(tensors, path.with_suffix(".changed"))
    return path.with_suffix(".changed")


def test_equal_states_are_at_distance_zero(tmp_path: Path) -> None:
    start, end, _ = train(tmp_path, ADAM)

    assert distance(start, end, end) == Distance(0.0, 0.0, 0.0)


def test_a_states_root_is_the_trainers(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = torch.nn.Linear(3, 2)
    checkpoint = Checkpoint(model, ADAM(model.parameters()), seed=7)
    checkpoint.save(4, tmp_path / "state")

    assert root_of(tmp_path / "state") == checkpoint.root(4)


def test_a_file_with_other_tensors_has_no_root(tmp_path: Path) -> None:
    save_file({"weights/w": torch.zeros(2)}, tmp_path / "state")

    with pytest.raises(BadData):
        root_of(tmp_path / "state")


def test_no_work_is_at_distance_one(tmp_path: Path) -> None:
    start, end, _ = train(tmp_path, ADAM)
    idle = load_file(end) | {name: tensor for name, tensor in load_file(start).items() if name.startswith("param/")}
    idle |= {name: torch.zeros_like(tensor) for name, tensor in idle.items() if name.endswith("/exp_avg")}
    save_file(idle, tmp_path / "idle")

    found = distance(start, end, tmp_path / "idle")

    assert (found.first_moment, found.parameter_delta, found.remainder) == pytest.approx((1.0, 1.0, 0.0))


@pytest.mark.parametrize("optimizer", [ADAM, MOMENTUM, PLAIN], ids=["adam", "momentum", "plain"])
@pytest.mark.parametrize("piece", [3, 1 << 20])
def test_distances_are_those_of_the_formula(
    optimizer: Callable[..., torch.optim.Optimizer], piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PIECE", piece)
    paths = train(tmp_path, optimizer)
    start, mine, theirs = ({name: value.double() for name, value in load_file(path).items()} for path in paths)
    params = [name for name in mine if name.startswith("param/") and name != "param/2.bias"]
    weights = {name: mine.get(f"opt/{name[6:]}/exp_avg_sq", torch.ones(())).sqrt() for name in params}
    first = [name for name in mine if name.endswith(("/exp_avg", "/momentum_buffer"))]

    def ratio(names: list[str]) -> float:
        apart = sum((weights.get(name, 1.0) * (theirs[name] - mine[name])).square().sum() for name in names)
        way = sum((weights.get(name, 1.0) * (mine[name] - start.get(name, 0.0))).square().sum() for name in names)
        return math.sqrt(apart / way)

    found = distance(*paths)

    assert found.parameter_delta == pytest.approx(ratio(params))
    assert found.first_moment == pytest.approx(ratio(first or params))
    assert 0 < found.remainder < math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_number_that_is_none_is_infinitely_far(which: int, value: float, tmp_path: Path) -> None:
    paths = list(train(tmp_path, ADAM))
    paths[which] = changed(paths[which], "param/0.weight", lambda tensor: torch.full_like(tensor, value))

    assert distance(*paths).parameter_delta == math.inf


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("meta/step", lambda tensor: tensor + 1),
        ("opt/0.weight/step", lambda tensor: tensor + 1),
        ("param/2.bias", lambda tensor: tensor + 1e-3),  # frozen: no rounding moves it
    ],
)
def test_what_rounding_cannot_change_must_be_equal(
    name: str, change: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    start, end, _ = train(tmp_path, ADAM)

    assert distance(start, end, changed(end, name, change)).remainder == math.inf


@pytest.mark.parametrize("name", ["opt/0.weight/exp_avg_sq", "buffer/1.running_var"])
def test_tampering_beside_the_weights_shows(name: str, tmp_path: Path) -> None:
    start, end, _ = train(tmp_path, ADAM)

    found = distance(start, end, changed(end, name, lambda tensor: tensor * 1.5))

    assert (found.first_moment, found.parameter_delta) == (0.0, 0.0)
    assert found.remainder > 0.1


def test_half_precision_is_widened(tmp_path: Path) -> None:
    values = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    for name, scale in (("start", 1.0), ("mine", 2.0), ("theirs", 3.0)):
        save_file({"param/w": (values * scale).bfloat16()}, tmp_path / name)

    found = distance(tmp_path / "start", tmp_path / "mine", tmp_path / "theirs")

    assert found.parameter_delta == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("wrong", ["shape", "name", "dtype", "file"])
def test_states_of_different_models_are_refused(which: int, wrong: str, tmp_path: Path) -> None:
    paths = list(train(tmp_path, ADAM))
    tensors = load_file(paths[which])
    weight = tensors.pop("param/0.weight")
    change = {"shape": weight[:2], "dtype": weight.double()}
    save_file(tensors | ({"param/0.weight": change[wrong]} if wrong in change else {"param/x": weight}), paths[which])
    if wrong == "file":
        paths[which].write_bytes(b"\x10\0\0\0\0\0\0\0{}")

    with pytest.raises(BadData):
        distance(*paths)
