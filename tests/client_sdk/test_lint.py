"""`gristmill lint`: what doesn't repeat is named, what does is left alone, and torch's own list is known."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill import _lint_rules as rules
from gristmill._lint import Finding, lint
from gristmill_protocol.errors import NotFound

HEAD = """
import glob, os, random, threading, time, uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
"""
SEEDED = "torch.manual_seed(7); random.seed(7); np.random.seed(7); torch.use_deterministic_algorithms(True)\n"


def found_in(folder: Path, code: str, head: str = HEAD + SEEDED) -> list[Finding]:
    file = folder / "train.py"
    file.write_text(head + code + "\n")
    return lint([file])


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("nn.AdaptiveAvgPool2d(7)", "adaptive-pool"),
        ("F.adaptive_avg_pool2d(x, (2, 2))", "adaptive-pool"),
        ("nn.AdaptiveMaxPool2d(1)", "adaptive-pool"),
        ("nn.AvgPool3d(2)", "avg-pool-3d"),
        ("nn.FractionalMaxPool2d(2, 0.5)", "fractional-pool"),
        ("nn.MaxUnpool2d(2)", "max-unpool"),
        ("F.interpolate(x, scale_factor=2, mode='bilinear')", "interpolate"),
        ("F.interpolate(x, scale_factor=2, mode=settings.mode)", "interpolate"),
        ("nn.Upsample(None, 2, 'bicubic')", "interpolate"),
        ("nn.ReflectionPad2d(1)", "reflection-pad"),
        ("F.pad(x, (1, 1), 'reflect')", "reflection-pad"),
        ("nn.Conv2d(1, 2, 3, padding_mode='reflect')", "reflection-pad"),
        ("nn.NLLLoss()", "nll-loss"),
        ("F.cross_entropy(scores, masks)", "nll-loss"),
        ("nn.CTCLoss()", "ctc-loss"),
        ("nn.EmbeddingBag(10, 3, mode='max')", "embedding-bag"),
        ("x.put_(at, values)", "put"),
        ("torch.histc(x)", "histc"),
        ("torch.bincount(x, w)", "bincount"),
        ("x.bincount(weights=w)", "bincount"),
        ("x.median(1)", "median"),
        ("torch.kthvalue(x, 3)", "kthvalue"),
        ("F.grid_sample(x, grid)", "grid-sample"),
        ("x.cumsum(0)", "cumsum"),
        ("x.scatter_reduce(0, at, y, 'prod')", "scatter-reduce"),
        ("torch.backends.cudnn.benchmark = True", "autotune"),
        ("torch.backends.cudnn.deterministic = False", "switch-off"),
        ("torch.use_deterministic_algorithms(False)", "switch-off"),
        ("torch.use_deterministic_algorithms(True, warn_only=True)", "switch-off"),
        ("torch.backends.cuda.matmul.allow_tf32 = True", "tf32"),
        ("torch.set_float32_matmul_precision('high')", "tf32"),
        ("torch.compile(net, mode='max-autotune')", "autotune"),
        ("torch.set_num_threads(8)", "threads"),
        ("ThreadPoolExecutor(4)", "threads"),
        ("threading.Thread(target=work)", "threads"),
        ("uuid.uuid4()", "chance"),
        ("random.seed()", "seed"),
        ("np.random.default_rng()", "seed"),
        ("torch.manual_seed(int(time.time()))", "seed"),
        ("torch.Generator().manual_seed(time.time_ns())", "seed"),
        ("DataLoader(data, num_workers=4)", "workers"),
        ("DataLoader(data, num_workers=4, generator=g)", "workers"),
        ("for name in os.listdir('data'): pass", "file-order"),
        ("names = [p for p in Path('data').rglob('*.png')]", "file-order"),
        ("answers = list(set(labels))", "set-order"),
        ("for one in {'a', 'b'}: pass", "set-order"),
        ("where = hash('a text')", "hash"),
    ],
)
def test_what_does_not_repeat_is_named(tmp_path: Path, code: str, rule: str) -> None:
    [finding] = found_in(tmp_path, code)

    assert (finding.rule, finding.line) == (rule, (HEAD + SEEDED).count("\n") + 1)
    assert finding.why.endswith(".")
    assert finding.instead.endswith(".")


@pytest.mark.parametrize(
    "code",
    [
        "nn.AdaptiveAvgPool2d(1)",
        "F.adaptive_avg_pool2d(x, (1, 1))",
        "F.interpolate(x, scale_factor=2)",
        "F.cross_entropy(scores, labels)",
        "nn.EmbeddingBag(10, 3, mode='sum')",
        "torch.bincount(x)",
        "x.bincount()",
        "x.median()",
        "torch.cumsum(x, 0, dtype=torch.int64)",
        "np.cumsum([1.5])",
        "torch.backends.cudnn.benchmark = False",
        "torch.compile(net)",
        "torch.set_num_threads(1)",
        "np.random.default_rng(7)",
        "DataLoader(data, shuffle=True)",
        "DataLoader(data, num_workers=4, generator=g, worker_init_fn=seed_worker)",
        "for name in sorted(os.listdir('data')): pass",
        "names = sorted(p for p in Path('data').rglob('*.png'))",
        "answers = sorted(set(labels))",
        "@torch.no_grad()\ndef show(x):\n    return F.interpolate(x, mode='bilinear')",
        "with torch.inference_mode():\n    F.grid_sample(x, grid)",
        "x.cumsum(0)  # gristmill: allow cumsum",
        "x.scatter_add_(0, at, y)",
        "torch.rand(3); random.shuffle(xs); np.random.rand(3)",
    ],
)
def test_what_repeats_is_left_alone(tmp_path: Path, code: str) -> None:
    assert found_in(tmp_path, code) == []


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import torch.nn.functional\ntorch.nn.functional.grid_sample(x, y)", "torch.nn.functional.grid_sample"),
        ("from torch.nn.functional import grid_sample as warp\nwarp(x, y)", "torch.nn.functional.grid_sample"),
        ("from torch.nn import *\nCTCLoss()", "torch.nn.CTCLoss"),
        ("import torch as th\nth.nn.CTCLoss()", "torch.nn.CTCLoss"),
        (
            "from torch.nn import functional as f\nresize = f.grid_sample\nresize(x, y)",
            "torch.nn.functional.grid_sample",
        ),
        ("def late():\n    from torch import nn\n    return nn.CTCLoss()", "torch.nn.CTCLoss"),
        ("from torch.backends import cudnn\ncudnn.benchmark = True", "torch.backends.cudnn.benchmark"),
    ],
)
def test_a_name_is_known_however_it_was_imported(tmp_path: Path, code: str, what: str) -> None:
    assert [one.what for one in found_in(tmp_path, code, head="")] == [what]


def test_methods_are_tensors_only_where_torch_is(tmp_path: Path) -> None:
    assert found_in(tmp_path, "import pandas\nframe.cumsum(0)", head="") == []


@pytest.mark.parametrize(
    ("code", "seed"),
    [
        ("import torch\ntorch.randn(3)", "torch.manual_seed"),
        ("from torch import nn\nnn.Linear(1, 2)", "torch.manual_seed"),
        ("import random\nrandom.shuffle(xs)\nrandom.random()", "random.seed"),
        ("import numpy as np\nnp.random.rand(3)", "numpy.random.seed"),
    ],
)
def test_random_numbers_need_a_seed_once(tmp_path: Path, code: str, seed: str) -> None:
    [finding] = found_in(tmp_path, code, head="")

    assert (finding.rule, seed in finding.instead) == ("seed", True)


def test_a_seed_and_a_switch_in_one_file_hold_for_all(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import torch\ntorch.randn(3).index_add_(0, at, y)\n")
    assert [one.rule for one in lint([tmp_path])] == ["needs-switch", "seed"]

    (tmp_path / "main.py").write_text("import torch\ntorch.manual_seed(1)\ntorch.use_deterministic_algorithms(True)\n")
    assert lint([tmp_path]) == []


@pytest.mark.parametrize(
    "content", [b"def f(:\n", b"\xff\xfe\x00broken", b"x = 1\0", b"(" * 5000, b"if x:\n\ty\n        z\n", b"'''"]
)
def test_an_odd_file_is_a_finding_not_a_crash(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.py").write_bytes(content)

    [finding] = lint([tmp_path])

    assert finding.rule == "unreadable"
    assert finding.why.startswith("It cannot be read as Python: ")


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="(){}[]=.,:'#@ \n\tabcxFtorchn120*", max_size=60))
def test_no_text_makes_it_crash(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.py"
    file.write_text("import torch\n" + text)

    lint([file])


def test_nothing_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no file or folder .*missing\.py"):
        lint([tmp_path / "missing.py"])


def test_every_operation_on_torchs_own_list_is_known() -> None:
    """A new torch may name new operations: then this fails, and they need a rule."""
    text = torch.use_deterministic_algorithms.__doc__ or ""
    listed = text[text.index("will act") : text.index("In addition, several")]
    named = set(re.findall(r"^\s*\* :\w+:`([\w.]+)`", listed, re.MULTILINE))
    known = {
        name if name.startswith("torch.") else f"torch.Tensor{name}"
        for rule in rules.WITHOUT_KERNEL + rules.SWITCHED
        for name in rule.calls
    }

    assert len(named) > 40, "has the documentation another form now?"
    assert named - known - {*rules.UNSEEN, *rules.SWITCHED_SILENTLY} == set()


def test_the_command_says_where_why_and_what_instead(cli: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text("from torch import nn\n\nloss = nn.CTCLoss()\n")

    ran = cli("lint", file)

    assert ran.code == 1
    assert ran.out.startswith(f"{file}:3:8: torch.nn.CTCLoss [ctc-loss]\n    Its gradient has no deterministic kernel")
    assert "1 found" in ran.err


def test_the_command_as_json(cli: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text("x = 1\n")

    assert json.loads(cli("lint", file, "--json").out) == []
    assert cli("lint", file).code == 0


def test_linting_loads_no_torch(tmp_path: Path) -> None:
    code = "import sys; from gristmill._lint import lint; lint([]); sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
