"""A training state as canonical tensors and as a safetensors file; never a pickle.

Everything random in a step is seeded by (job seed, step), so the step and the seed are the whole random state.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gristmill_protocol.errors import NoSpace, WrongHash
from gristmill_protocol.jobs import ArtifactRef
from gristmill_protocol.state import Tensor, state_root
from gristmill_trainer.data import file_ref

_DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}


class Checkpoint:
    """The state of one model and its optimizer: its root, its file, and back."""

    def __init__(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, *, seed: int) -> None:
        self._model = model
        self._optimizer = optimizer
        self._seed = seed
        self._params = dict(model.named_parameters())

    def root(self, step: int) -> str:
        """The state root after `step` steps, hex."""
        return root_of(self._named(step))

    def snapshot(self, step: int) -> dict[str, torch.Tensor]:
        """The state's tensors, copied into main memory: training may go on while they are hashed and saved."""
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in self._named(step).items()}

    def save(self, step: int, path: Path) -> ArtifactRef:
        """Write the state; the file appears whole or not at all, and its bytes depend only on the state."""
        return save_tensors(self._named(step), path)

    def load(self, path: Path, *, step: int, ref: ArtifactRef) -> None:
        """Put a saved state into the model and the optimizer.

        Raises:
            WrongHash: the file is not the one that was asked for, or holds the state of another step, seed or model.
        """
        if not path.exists() or (found := file_ref(path)) != ref:
            raise _refused(f"The start state is {found.sha256 if path.exists() else 'missing'}, not {ref.sha256}.")
        try:
            stored = load_file(path)
        except SafetensorError as err:
            raise _refused(f"The start state is no safetensors file: {err}.") from err
        moments = {name: stored.pop(name) for name in list(stored) if name.startswith("opt/")}
        expected = {name: tensor for name, tensor in self._named(step).items() if not name.startswith("opt/")}
        _check_same(expected, stored)
        with torch.no_grad():
            for name, tensor in expected.items():
                if name.startswith(("param/", "buffer/")):
                    tensor.copy_(stored[name])
        self._load_moments(moments)

    def finite(self) -> bool:
        """Is every number of the model a number?"""
        numbers = [tensor for tensor in self._model.state_dict().values() if tensor.is_floating_point()]
        return all(bool(torch.isfinite(tensor).all()) for tensor in numbers)

    def _named(self, step: int) -> dict[str, torch.Tensor]:
        persistent = self._model.state_dict()
        named = {"meta/step": torch.tensor(step), "rng/seed": torch.tensor(self._seed)}
        named |= {f"param/{name}": param.detach() for name, param in self._params.items()}
        named |= {f"buffer/{name}": tensor for name, tensor in self._model.named_buffers() if name in persistent}
        for name, param in self._params.items():
            slots = self._optimizer.state.get(param, {})
            named |= {f"opt/{name}/{slot}": value for slot, value in slots.items() if isinstance(value, torch.Tensor)}
        return named

    def _load_moments(self, moments: Mapping[str, torch.Tensor]) -> None:
        # A fused optimizer keeps its step count beside the parameter, any other one in main memory.
        fused = bool(self._optimizer.defaults.get("fused"))
        for name, tensor in moments.items():
            param_name, _, slot = name.removeprefix("opt/").rpartition("/")
            param = self._params.get(param_name)
            if param is None or tensor.shape not in (param.shape, torch.Size([])):
                raise _refused(f"The start state's tensor {name!r} does not belong to this model.")
            self._optimizer.state[param][slot] = tensor.to(param.device) if tensor.ndim or fused else tensor


def root_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """The state root of named tensors, hex."""
    return state_root(canonical(name, tensor) for name, tensor in tensors.items()).hex()


def canonical(name: str, tensor: torch.Tensor) -> Tensor:
    """The tensor under a canonical name; its bytes are not copied where they already lie in main memory."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return Tensor(name, _DTYPES[tensor.dtype], tuple(tensor.shape), flat.view(torch.uint8).numpy().data)


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> ArtifactRef:
    """Write a safetensors file, whole or not at all, the same bytes for the same tensors.

    Raises:
        NoSpace: it could not be written.
    """
    partial = path.with_suffix(".part")
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial)
        partial.chmod(0o644)  # safetensors makes it private, but the node that passes it on is another user
        os.replace(partial, path)
    except (OSError, SafetensorError) as err:
        raise NoSpace(
            f"{path.name!r} could not be saved: {err}.",
            effect="The training stopped; finished segments are safe.",
            todo="Free some disk space, or run the job on another machine.",
        ) from err
    finally:
        partial.unlink(missing_ok=True)
    return file_ref(path)


def _check_same(expected: Mapping[str, torch.Tensor], stored: Mapping[str, torch.Tensor]) -> None:
    odd = expected.keys() ^ stored.keys()
    odd |= {
        name
        for name in expected.keys() & stored.keys()
        if (expected[name].shape, expected[name].dtype) != (stored[name].shape, stored[name].dtype)
    }
    odd |= {
        name for name in ("meta/step", "rng/seed") if name not in odd and expected[name].item() != stored[name].item()
    }
    if odd:
        raise _refused(f"The start state does not fit this job: {', '.join(sorted(odd)[:3])}.")


def _refused(what: str) -> WrongHash:
    return WrongHash(what, effect="Nothing was trained.", todo="Fetch the state again from where the job left it.")
