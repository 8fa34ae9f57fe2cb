"""Writes docs/coverage.md: every name of the array API and of PyTorch's neural networks, and why some are missing.

`make fix` runs it; a test fails when the page is out of date. It stops at a name or an argument that is missing without
a reason, and at a reason for something that is there. The names are PyTorch's own, read off the package.
"""

import importlib
import inspect
import operator
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "coverage.md"
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

import treadle as td  # noqa: E402
from tests.tensor import test_array_api as standard  # noqa: E402
from treadle.tensor.torch_names import MODULES  # noqa: E402

TORCH = (
    "nn",
    "nn.functional",
    "nn.init",
    "nn.utils",
    "nn.utils.parametrizations",
    "nn.utils.parametrize",
    "nn.utils.prune",
    "nn.utils.rnn",
    "nn.utils.stateless",
    "optim",
    "optim.lr_scheduler",
    "optim.swa_utils",
)

IN_PLACE = "Tensors do not change: the name without the underscore."
DEPRECATED = "Deprecated in PyTorch: the name with an underscore behind it."
PROCESSES = "There is one process, whose threads share each kernel: the model as it is."
COMPLEX = "There is no complex dtype: numbers are real."
TRANSFORM = (
    "Its input or its result is complex. It exists to say so: `numpy.fft`, or products with `td.cos` and `td.sin`."
)
INTERNAL = "PyTorch's own machinery, without a page in its documentation."
SHORT = "Products of 8-bit or grouped operands on CUDA devices: `x @ w`."

# Why a name is missing, and what to use instead; `*` stands for any letters. The one place for such reasons.
REASONS: dict[str, dict[str, str]] = {
    "array API": {
        "complex64": COMPLEX,
        "complex128": COMPLEX,
        "__i*__": "`x += y` works by `__add__`: it makes a new tensor, and other names of the old one keep it.",
        "__setitem__": "Tensors do not change: `x = x.at[key].set(value)`. It exists to say so.",
    },
    "array API, fft": {"*fft": TRANSFORM, "*fftn": TRANSFORM},
    "torch.nn": {
        "Container": "Deprecated in PyTorch: `nn.Module`.",
        "CrossMapLRN2d": "The older form of `nn.LocalResponseNorm`, whose sums never drop the first channel.",
        "DataParallel": PROCESSES,
        "LinearCrossEntropyOptions": "How PyTorch splits the work. `nn.LinearCrossEntropyLoss` takes none.",
        "NLLLoss2d": "Deprecated in PyTorch: `nn.NLLLoss` takes images, too.",
        "SyncBatchNorm": "There is one process: `nn.BatchNorm1d`, `nn.BatchNorm2d`, `nn.BatchNorm3d`.",
        "factory_kwargs": INTERNAL,
    },
    "torch.nn.Module": {
        **{name: f"`{text}`" if text.endswith((")", "]")) else text for name, text in MODULES.items()},
        "T_destination": INTERNAL,
        "call_super_init": INTERNAL,
        "dump_patches": INTERNAL,
        "share_memory": PROCESSES,
        **dict.fromkeys(("ipu", "mtia", "xpu"), "Not needed: everything is on the CPU."),
    },
    "torch.nn.functional": {
        "*_": IN_PLACE,
        "assert_int_or_pair": INTERNAL,
        "grouped_mm": SHORT,
        "scaled_grouped_mm": SHORT,
        "scaled_mm": SHORT,
    },
    "torch.nn.init": dict.fromkeys(
        (
            "constant",
            "dirac",
            "eye",
            "kaiming_normal",
            "kaiming_uniform",
            "normal",
            "orthogonal",
            "sparse",
            "uniform",
            "xavier_normal",
            "xavier_uniform",
        ),
        DEPRECATED,
    ),
    "torch.nn.utils": {
        "clip_grad_norm": DEPRECATED,
        "convert_conv*d_weight_memory_format": "Tensors have no memory format: a compiled function chooses it.",
        "skip_init": "Tensors are lazy: values that `load_state_dict` replaces at once are never computed.",
    },
    "torch.optim": {
        "SparseAdam": "Gradients are dense: `optim.Adam`.",
        "swap_in_optimizer_params_and_state": "For tracing a step: `td.compile` takes parameters and state in and out.",
    },
    "torch.optim.swa_utils": {
        "get_*_multi_avg_fn": "Averages of many tensors in one call: `get_swa_avg_fn`, `get_ema_avg_fn`; a compiled "
        "function fuses them."
    },
}
# Operators in place.
CHANGING = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")
SAY_SO = ("__setitem__", "*fft", "*fftn")  # what exists to say why it does not work

# Why an argument of PyTorch's is missing; of all that have it, or of one.
ARGUMENTS = {
    "device": "Everything is on the CPU.",
    "out": "Tensors do not change: use the result.",
    "Embedding._weight": "`nn.Embedding.from_pretrained`.",
    "Embedding._freeze": "`nn.Embedding.from_pretrained`.",
    "EmbeddingBag._weight": "`nn.EmbeddingBag.from_pretrained`.",
    "Hardtanh.min_value": "Deprecated in PyTorch: `min_val`.",
    "Hardtanh.max_value": "Deprecated in PyTorch: `max_val`.",
    "RNNBase.mode": "A subclass says what its step is: `nn.RNN`, `nn.LSTM`, `nn.GRU`.",
    "RNNCellBase.num_chunks": "A subclass says how many gates it has: `nn.RNNCell`, `nn.LSTMCell`, `nn.GRUCell`.",
    "Optimizer.defaults": "`lr` and `options`: the rate is state, the other settings are not.",
    "AveragedModel.multi_avg_fn": "`avg_fn`; a compiled function fuses the averages.",
}


@dataclass(frozen=True)
class Section:
    """A namespace: its title, its names, and where they are looked for in treadle."""

    title: str
    names: tuple[str, ...]
    place: Any

    def has(self, name: str) -> bool:
        """Whether the name is there and works."""
        if not hasattr(self.place, name) or any(fnmatchcase(name, p) for p in self.reasons if p in SAY_SO):
            return False
        if not isinstance(self.place, ModuleType):
            return True
        listed = getattr(self.place, "__all__", None)  # what a module imports for itself is not there
        return getattr(self.place, name).__module__ == self.place.__name__ if listed is None else name in listed

    @property
    def reasons(self) -> dict[str, str]:
        """Why names of this section are missing."""
        return REASONS.get(self.title, {})

    def missing(self) -> dict[str, str]:
        """Return the names that do not work, with the reason of each."""
        found: dict[str, str] = {}
        for name in self.names:
            if not self.has(name):
                reasons = [text for pattern, text in self.reasons.items() if fnmatchcase(name, pattern)]
                if not reasons:
                    stop(f"{self.title}.{name} is missing and REASONS does not say why. Make it, or say so.")
                found[name] = reasons[0]
        for pattern in self.reasons:
            if not any(fnmatchcase(name, pattern) for name in found):
                stop(f"REASONS says why {self.title}.{pattern} is missing, and it is not. Take it out.")
        return found

    def page(self) -> str:
        """Return the section's text."""
        missing = self.missing()
        there = [f"`{name}`" for name in self.names if name not in missing]
        lines = [f"## {self.title}", "", f"{len(there)} of {len(self.names)} names are there: {', '.join(there)}."]
        if missing:
            lines += ["", "| missing | why, and what to use |", "|---|---|", *rows(missing)]
        return "\n".join(lines)


def stop(problem: str) -> None:
    """End with a message."""
    raise SystemExit(f"docs/coverage.py: {problem}")


def rows(reasons: dict[str, str]) -> list[str]:
    """Return rows of a table, names with one reason in one row."""
    together: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        together.setdefault(reason, []).append(f"`{name}`")
    return [f"| {', '.join(names)} | {reason} |" for reason, names in together.items()]


def of_torch(module: ModuleType) -> tuple[str, ...]:
    """Return the public names of a package of PyTorch: classes and functions that it offers as its own."""

    def own(name: str) -> bool:
        value = getattr(module, name)
        home = getattr(value, "__module__", None) or ""
        if module.__name__ == "torch.nn.functional":  # it lists nothing, and has helpers and types beside its functions
            return inspect.isroutine(value) and home in ("torch", "torch._C._nn", module.__name__)
        return callable(value) and home.startswith("torch")

    listed: Iterable[str] = getattr(module, "__all__", None) or dir(module)
    found = [name for name in listed if not name.startswith("_") and not isinstance(getattr(module, name), ModuleType)]
    return tuple(sorted({name for name in found if own(name)}, key=lambda name: (name.lower(), name)))


def of_the_standard() -> list[Section]:
    """Return the sections of the array API: the names that the tests know, and those that need complex numbers."""
    plain = [name for name in standard.SIGNATURES if "." not in name]
    dtypes = [t.name for t in standard.DTYPES] + ["complex64", "complex128"]
    further = ["__array_api_version__", "__array_namespace_info__", "e", "inf", "nan", "newaxis", "pi"]
    linalg, fft = ([n.split(".")[1] for n in standard.SIGNATURES if n.startswith(p)] for p in ("linalg.", "fft."))
    changing = [f"__i{name}__" for name in CHANGING]
    turned = ["fft", "ifft", "fftn", "ifftn", "rfft", "irfft", "rfftn", "irfftn", "hfft", "ihfft"]
    return [
        Section(
            "array API", (*sorted(plain), *dtypes, *further, *standard.ATTRIBUTES, *standard.METHODS, *changing), Both
        ),
        Section("array API, linalg", tuple(linalg), td.linalg),
        Section("array API, fft", (*turned, *fft), td.fft),
    ]


class _Both:
    """The namespace and the methods of its arrays."""

    def __getattr__(self, name: str) -> Any:
        return getattr(td, name) if hasattr(td, name) else inspect.getattr_static(td.Tensor, name)


Both: Any = _Both()


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    """Return the parameters of a function, or of making an object; None where Python does not know them."""
    try:
        return dict(inspect.signature(function.__init__ if inspect.isclass(function) else function).parameters)
    except (ValueError, TypeError):
        return None


def missing_arguments(sections: Iterable[Section]) -> dict[str, str]:
    """Return the arguments of PyTorch's that treadle's functions and classes lack, with the reason of each."""
    found: dict[str, str] = {}
    for section in sections:
        theirs = operator.attrgetter(section.title.removeprefix("torch."))(torch)
        for name in section.names:
            if not section.has(name) or not callable(getattr(section.place, name)):
                continue
            given, own = parameters(getattr(theirs, name)), parameters(getattr(section.place, name))
            if given is None or own is None or any(p.kind is p.VAR_KEYWORD for p in own.values()):
                continue
            for argument, parameter in given.items():
                if argument in own or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    continue
                full = f"{name}.{argument}"
                reason = ARGUMENTS.get(full, ARGUMENTS.get(argument))
                if reason is None:
                    stop(f"{section.title}.{full} is an argument that is missing, and ARGUMENTS does not say why.")
                found[full if full in ARGUMENTS else argument] = str(reason)
    for argument in ARGUMENTS:
        if argument not in found:
            stop(f"ARGUMENTS says why {argument} is missing, and it is not. Take it out.")
    return found


def sections() -> tuple[list[Section], list[Section]]:
    """Return the sections of the standard and those of PyTorch."""
    for name in TORCH:
        importlib.import_module(f"torch.{name}")
    packages = [(name, importlib.import_module(f"torch.{name}")) for name in TORCH]
    peers = [Section(f"torch.{n}", of_torch(theirs), importlib.import_module(f"treadle.{n}")) for n, theirs in packages]
    methods = tuple(name for name in dir(torch.nn.Module) if not name.startswith("_"))
    return of_the_standard(), [peers[0], Section("torch.nn.Module", methods, td.nn.Module), *peers[1:]]


def coverage() -> str:
    """Return the page."""
    array_api, peers = sections()
    peer = f"PyTorch {torch.__version__.split('+')[0]}'s packages for neural networks"
    intro = f"""# What is there

Every name of the [array API](https://data-apis.org/array-api/2024.12/) 2024.12 and of {peer}:
that it is there, or why not and what to use. Written by `docs/coverage.py` from the packages as they are; a name or
an argument that is missing without a reason fails `make test`. Quantised, sparse, distributed and CUDA parts of
PyTorch are out of scope. What differs although the name is the same: [Come from PyTorch](how-to/come-from-pytorch.md).
"""
    arguments = "\n".join(["## Arguments", "", "Of the names above, these arguments of PyTorch's are missing.", ""])
    table = ["| argument | why, and what to use |", "|---|---|", *rows(missing_arguments(peers))]
    return "\n".join([intro, *[s.page() + "\n" for s in (*array_api, *peers)], arguments, *table, ""])


if __name__ == "__main__":
    PAGE.write_text(coverage())
