"""What makes two runs of one training script differ, and what to write instead. Data for _lint; no torch in here.

A name that begins with a dot is a method, whatever it is called on. The operations are those of
torch.use_deterministic_algorithms: a test holds this list against the documentation of the torch that is installed.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass

NN, FUNCTIONAL = "torch.nn", "torch.nn.functional"


@dataclass(frozen=True)
class Rule:
    """Calls that a finding is made of.

    Args:
        why: what goes wrong, a sentence.
        instead: what to write, a sentence.
        when: whether a call of that name is meant; it may answer only by what is written in the call.
        backward: only the gradient is not deterministic, so under torch.no_grad() all is well.
    """

    name: str
    calls: tuple[str, ...]
    why: str
    instead: str
    when: Callable[[ast.Call], bool] = lambda _call: True
    backward: bool = False


def argument(call: ast.Call, name: str, position: int | None = None) -> ast.expr | None:
    """What a call gives for a parameter."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    if position is not None and position < len(call.args):
        return call.args[position]
    return None


def constant(expression: ast.expr | None) -> object:
    """The value of a literal, tuples included; Ellipsis for what only the running program knows."""
    if expression is None:
        return None
    try:
        return ast.literal_eval(expression)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ...


def _mode_in(modes: tuple[str, ...], position: int, name: str = "mode") -> Callable[[ast.Call], bool]:
    """Calls whose mode is one of these, or not known."""
    return lambda call: constant(argument(call, name, position)) in (*modes, ...)


def _more_than_one_cell(position: int) -> Callable[[ast.Call], bool]:
    """Pooling to a single cell is a mean, which is deterministic."""

    def check(call: ast.Call) -> bool:
        size = constant(argument(call, "output_size", position))
        return size != 1 and not (isinstance(size, tuple | list) and all(one == 1 for one in size))

    return check


def _of_floats(call: ast.Call) -> bool:
    kind = argument(call, "dtype")
    return kind is None or not ast.unparse(kind).rpartition(".")[2].startswith(("int", "long", "short", "uint"))


def _of_a_picture(call: ast.Call) -> bool:
    """Whether the names of the arguments say that there is an answer for each pixel."""
    words = " ".join(ast.unparse(one).lower() for one in [*call.args, *(k.value for k in call.keywords)])
    return any(word in words for word in ("mask", "segm", "pixel", "seg_", "_seg"))


def _along_a_dimension(position: int) -> Callable[[ast.Call], bool]:
    return lambda call: argument(call, "dim", position) is not None


_SMOOTH = ("linear", "bilinear", "bicubic", "trilinear")
_NO_KERNEL = "Its gradient has no deterministic kernel on a graphics card: sums are made in another order each time."
_NO_FORWARD = "It has no deterministic kernel on a graphics card: sums are made in another order each time."
_RESIZE = "Use mode='nearest' or 'nearest-exact', or a transposed convolution; or resize the data before the training."
_POOL = "Pool with fixed windows (AvgPool2d, MaxPool2d), or to a single cell: x.mean((2, 3))."

# Torch raises on these in deterministic mode: a job in bitwise mode would fail there.
WITHOUT_KERNEL: tuple[Rule, ...] = (
    Rule(
        "adaptive-pool",
        (f"{NN}.AdaptiveAvgPool2d", f"{NN}.AdaptiveAvgPool3d"),
        _NO_KERNEL, _POOL, _more_than_one_cell(0), backward=True,
    ),
    Rule(
        "adaptive-pool",
        (f"{FUNCTIONAL}.adaptive_avg_pool2d", f"{FUNCTIONAL}.adaptive_avg_pool3d"),
        _NO_KERNEL, _POOL, _more_than_one_cell(1), backward=True,
    ),
    Rule(
        "adaptive-pool",
        (f"{NN}.AdaptiveMaxPool2d", f"{FUNCTIONAL}.adaptive_max_pool2d"),
        _NO_KERNEL, "Use MaxPool2d with a fixed window, or x.amax((2, 3)).", backward=True,
    ),
    Rule(
        "avg-pool-3d",
        (f"{NN}.AvgPool3d", f"{FUNCTIONAL}.avg_pool3d"),
        _NO_KERNEL, "Use a Conv3d with fixed equal weights and a stride, or reshape and mean.", backward=True,
    ),
    Rule(
        "fractional-pool",
        (f"{NN}.FractionalMaxPool2d", f"{NN}.FractionalMaxPool3d", f"{FUNCTIONAL}.fractional_max_pool2d",
         f"{FUNCTIONAL}.fractional_max_pool3d"),
        _NO_KERNEL, "Use MaxPool2d or a convolution with a stride.", backward=True,
    ),
    Rule(
        "max-unpool",
        tuple(f"{NN}.MaxUnpool{d}d" for d in (1, 2, 3)) + tuple(f"{FUNCTIONAL}.max_unpool{d}d" for d in (1, 2, 3)),
        _NO_FORWARD, "Use a transposed convolution, or interpolate(mode='nearest').",
    ),
    Rule("interpolate", (f"{FUNCTIONAL}.interpolate", f"{FUNCTIONAL}.upsample"), _NO_KERNEL, _RESIZE,
         _mode_in(_SMOOTH, 3), backward=True),
    Rule("interpolate", (f"{NN}.Upsample",), _NO_KERNEL, _RESIZE, _mode_in(_SMOOTH, 2), backward=True),
    Rule("interpolate", (f"{NN}.UpsamplingBilinear2d", f"{FUNCTIONAL}.upsample_bilinear"), _NO_KERNEL, _RESIZE,
         backward=True),
    Rule(
        "reflection-pad",
        tuple(f"{NN}.ReflectionPad{d}d" for d in (1, 2, 3)),
        _NO_KERNEL, "Pad with zeros, or by indexing with fixed slices and torch.cat.", backward=True,
    ),
    Rule("reflection-pad", (f"{FUNCTIONAL}.pad",), _NO_KERNEL, "Use mode='constant' or 'replicate'.",
         lambda call: constant(argument(call, "mode", 2)) in ("reflect", ...), backward=True),
    Rule("reflection-pad", tuple(f"{NN}.Conv{d}d" for d in (1, 2, 3)), _NO_KERNEL,
         "Use padding_mode='zeros' or 'replicate'.",
         lambda call: constant(argument(call, "padding_mode")) == "reflect", backward=True),
    Rule(
        "nll-loss",
        (f"{NN}.NLLLoss", f"{NN}.NLLLoss2d", f"{FUNCTIONAL}.nll_loss"),
        "With an answer for each pixel it has no deterministic kernel on a graphics card, and torch refuses it.",
        "Flatten to one answer a row: cross_entropy(scores.permute(0, 2, 3, 1).flatten(0, 2), target.flatten()).",
    ),
    Rule(
        "nll-loss",
        (f"{FUNCTIONAL}.cross_entropy",),
        "Its target seems to be a picture: then it has no deterministic kernel on a graphics card.",
        "Flatten to one answer a row: scores.permute(0, 2, 3, 1).flatten(0, 2) and target.flatten().",
        _of_a_picture,
    ),
    Rule("ctc-loss", (f"{NN}.CTCLoss", f"{FUNCTIONAL}.ctc_loss"), _NO_KERNEL,
         "Compute this loss on the processor: ctc_loss(scores.cpu(), ...).", backward=True),
    Rule("embedding-bag", (f"{NN}.EmbeddingBag",), _NO_KERNEL, "Use mode='sum' or 'mean'.",
         lambda call: constant(argument(call, "mode", 5)) in ("max", ...), backward=True),
    Rule("embedding-bag", (f"{FUNCTIONAL}.embedding_bag",), _NO_KERNEL, "Use mode='sum' or 'mean'.",
         lambda call: constant(argument(call, "mode", 6)) in ("max", ...), backward=True),
    Rule("put", (".put_", "torch.Tensor.put_"), "Where indices meet, the last one wins, and which that is varies.",
         "Use index_put_ with accumulate=True, or scatter with indices that are all different."),
    Rule("histc", ("torch.histc", ".histc"), _NO_FORWARD, "Count on the processor, or compare with the edges and sum."),
    Rule("bincount", ("torch.bincount", ".bincount"), _NO_FORWARD,
         "Sum with a one-hot matrix: one_hot(x).T.float() @ weights; or count without weights.",
         lambda call: argument(call, "weights") is not None or len(call.args) > (1 if _of_torch(call) else 0)),
    Rule("median", ("torch.median", "torch.nanmedian"), "Which of equal values is named varies on a graphics card.",
         "Sort with stable=True and take the middle one.", _along_a_dimension(1)),
    Rule("median", (".median", ".nanmedian"), "Which of equal values is named varies on a graphics card.",
         "Sort with stable=True and take the middle one.", _along_a_dimension(0)),
    Rule("kthvalue", ("torch.kthvalue", ".kthvalue"), "Which of equal values is named varies on a graphics card.",
         "Sort with stable=True and take the k-th."),
    Rule("grid-sample", (f"{FUNCTIONAL}.grid_sample",), _NO_KERNEL,
         "Warp the data before the training, with a seed of its own for each example.", backward=True),
    Rule("cumsum", ("torch.cumsum", ".cumsum", ".cumsum_"),
         "On numbers with a fraction it has no deterministic kernel on a graphics card.",
         "Multiply with a triangular matrix of ones; or give dtype=torch.int64 for whole numbers.", _of_floats),
    Rule("scatter-reduce", ("torch.scatter_reduce", ".scatter_reduce", ".scatter_reduce_"), _NO_FORWARD,
         "Use reduce='sum', 'amin' or 'amax'; a product is exp of the sum of logs.",
         lambda call: constant(argument(call, "reduce")) in ("prod", ...)
         or any(constant(one) == "prod" for one in call.args)),
)  # fmt: skip

# The running program alone knows whether the tensor is quantized.
UNSEEN = ("torch.Tensor.resize_",)

# Deterministic only after torch.use_deterministic_algorithms(True). Convolutions and the like are in every script: for
# them, and for what is written as a mere index, the switch itself is asked for.
SWITCHED: tuple[Rule, ...] = tuple(
    Rule(
        "needs-switch",
        calls,
        "It adds in another order each time unless deterministic algorithms are switched on.",
        "Call torch.use_deterministic_algorithms(True) before the first operation.",
    )
    for calls in (
        ("torch.index_add", ".index_add", ".index_add_"),
        ("torch.scatter_add", ".scatter_add", ".scatter_add_", "torch.Tensor.scatter_add_"),
        ("torch.index_put", ".index_put", ".index_put_", "torch.Tensor.index_put"),
        ("torch.index_copy", ".index_copy", ".index_copy_", "torch.Tensor.index_copy"),
        ("torch.scatter", ".scatter", ".scatter_", "torch.Tensor.scatter"),
        ("torch.gather", ".gather"),
        ("torch.index_select", ".index_select"),
        ("torch.repeat_interleave", ".repeat_interleave"),
    )
)
SWITCHED_SILENTLY = (
    *(f"{NN}.Conv{d}d" for d in (1, 2, 3)),
    *(f"{NN}.ConvTranspose{d}d" for d in (1, 2, 3)),
    *(f"{NN}.ReplicationPad{d}d" for d in (1, 2, 3)),
    f"{NN}.MaxPool3d",
    "torch.bmm",
    "torch.Tensor.__getitem__",
)

_CHANCE = "It draws from the machine's own noise, so no seed makes it repeat."
_ORDER = "The order is the file system's, another one on each machine."

# Not torch's operations, but what is around them.
AROUND: tuple[Rule, ...] = (
    Rule("switch-off", ("torch.use_deterministic_algorithms",), "It lets torch choose what does not repeat.",
         "Call torch.use_deterministic_algorithms(True), without warn_only.",
         lambda call: constant(argument(call, "mode", 0)) is False
         or constant(argument(call, "warn_only")) not in (None, False)),
    Rule("switch-off", ("torch.set_deterministic_debug_mode",), "It lets torch choose what does not repeat.",
         "Call torch.set_deterministic_debug_mode('error').",
         lambda call: constant(argument(call, "debug_mode", 0)) not in ("error", 2)),
    Rule("tf32", ("torch.set_float32_matmul_precision",), "TF32 rounds differently on each kind of card.",
         "Call torch.set_float32_matmul_precision('highest'), or declare TF32 in the job.",
         lambda call: constant(argument(call, "precision", 0)) != "highest"),
    Rule("autotune", ("torch.compile",), "Autotuning takes the kernel that was fastest this time.",
         "Call torch.compile without mode, or with mode='default'.",
         lambda call: "max-autotune" in str(constant(argument(call, "mode")))),
    Rule("threads", ("torch.set_num_threads", "torch.set_num_interop_threads"),
         "One thread and two add in different orders.", "Set one thread, or leave it to the job.",
         lambda call: constant(argument(call, "num_threads", 0)) != 1),
    Rule("threads", ("threading.Thread", "concurrent.futures.ThreadPoolExecutor", "multiprocessing.pool.ThreadPool"),
         "What threads do meanwhile comes in another order each time.", "Do it in the training loop, in order."),
    Rule("chance", ("os.urandom", "random.SystemRandom", "uuid.uuid1", "uuid.uuid4", "torch.seed", "torch.random.seed",
                    "torch.cuda.seed", "torch.cuda.seed_all", "secrets.token_bytes", "secrets.token_hex",
                    "secrets.randbelow", "secrets.choice", "secrets.randbits"),
         _CHANCE, "Draw from a generator with a fixed seed: torch.Generator().manual_seed(seed)."),
    Rule("hash", ("hash",), "The hash of a text is another one in each process.",
         "Use hashlib.sha256, or zlib.crc32."),
    Rule("file-order", ("os.listdir", "os.scandir", "os.walk", "glob.glob", "glob.iglob", ".iterdir", ".rglob"),
         _ORDER, "Sort it: sorted(...)."),
    Rule("workers", ("torch.utils.data.DataLoader",),
         "Workers draw their own random numbers, with seeds that depend on how the loader was started.",
         "Give both generator= and worker_init_fn=, or num_workers=0.",
         lambda call: constant(argument(call, "num_workers", 5)) not in (None, 0)
         and (argument(call, "generator") is None or argument(call, "worker_init_fn") is None)),
)  # fmt: skip

# What may be set to what. Torch has them as attributes of modules.
SETTINGS: dict[str, tuple[str, object, str, str]] = {
    "torch.backends.cudnn.benchmark": (
        "autotune", True, "cuDNN then takes the kernel that was fastest this time.", "Set it to False."),
    "torch.backends.cudnn.deterministic": (
        "switch-off", False, "cuDNN may then take kernels that don't repeat.", "Set it to True."),
    "torch.backends.cudnn.allow_tf32": (
        "tf32", True, "TF32 rounds differently on each kind of card.", "Set it to False, or declare TF32 in the job."),
    "torch.backends.cuda.matmul.allow_tf32": (
        "tf32", True, "TF32 rounds differently on each kind of card.", "Set it to False, or declare TF32 in the job."),
}  # fmt: skip

# Where random numbers come from -> the calls that seed it, and those that draw from it.
SEEDS = {
    "random": ("random.seed",),
    "numpy.random": ("numpy.random.seed",),
    "torch": ("torch.manual_seed", "torch.random.manual_seed"),
}
DRAWS = {
    "random": tuple(
        f"random.{name}"
        for name in (
            *("random", "randint", "randrange", "choice", "choices", "shuffle", "sample", "uniform", "gauss"),
            *("normalvariate", "betavariate", "expovariate", "triangular", "getrandbits", "randbytes"),
        )
    ),
    "numpy.random": tuple(
        f"numpy.random.{name}"
        for name in (
            *("rand", "randn", "randint", "random", "random_sample", "choice", "shuffle", "permutation", "normal"),
            *("uniform", "binomial", "poisson", "beta", "gamma", "exponential", "multinomial", "standard_normal"),
        )
    ),
    "torch": tuple(
        f"torch.{name}"
        for name in (
            *("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"),
            *("rand_like", "randn_like", "randint_like", "dropout", "nn.functional.dropout", "nn.Dropout"),
            # Fresh weights are drawn too.
            *("nn.Linear", "nn.Conv1d", "nn.Conv2d", "nn.Conv3d", "nn.Embedding", "nn.EmbeddingBag", "nn.LSTM"),
            *("nn.GRU", "nn.RNN", "nn.Transformer", "nn.TransformerEncoderLayer", "nn.MultiheadAttention"),
        )
    ),
}
# With a seed they repeat; without one, or with None, they don't.
SEEDED_BY_ARGUMENT = ("random.seed", "random.Random", "numpy.random.seed", "numpy.random.default_rng",
                      "numpy.random.RandomState")  # fmt: skip
SEEDING = (*SEEDED_BY_ARGUMENT, "torch.manual_seed", "torch.random.manual_seed", "torch.cuda.manual_seed",
           "torch.cuda.manual_seed_all", ".manual_seed")  # fmt: skip
MOMENTARY = ("time.time", "time.time_ns", "time.perf_counter", "time.perf_counter_ns", "time.monotonic",
             "time.monotonic_ns", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today",
             "os.getpid", "os.urandom", "id", "hash", "uuid.uuid4")  # fmt: skip


def _of_torch(call: ast.Call) -> bool:
    """Whether a call is a function of a module by its look: torch.bincount(x, w), not x.bincount(w)."""
    return isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) in ("torch", "th")
