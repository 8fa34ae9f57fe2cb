"""Hints for PyTorch's names: what they name exists, and what they say can be run."""

import operator
import re

import pytest

import treadle as td
from treadle import nn
from treadle.tensor.torch_names import FUNCTIONS, IN_PLACE, METHODS, MODULES

NO_CODE = ("not needed", "out of scope")
OTHER = {  # hints that are sentences, or code for other operands
    *("type", "data", "grad_fn", "zero_grad", "where", "expand_as", "unbind", "movedim", "equal"),
    *("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"),
}


@pytest.mark.parametrize(("name", "hint"), [*FUNCTIONS.items(), *METHODS.items(), *MODULES.items(), *IN_PLACE.items()])
def test_what_a_hint_names_exists(name: str, hint: str) -> None:
    for root, path in re.findall(r"\b(td|nn)\.([A-Za-z_][\w.]*\w)", hint):
        assert operator.attrgetter(path)({"td": td, "nn": nn}[root]) is not None, name
    for path in re.findall(r"(?<!\w)x?\.([a-z]\w*)", hint) if name in METHODS else ():
        assert hasattr(nn.Parameter(td.ones((1, 1))), path), name


@pytest.mark.parametrize("name", [n for n, hint in METHODS.items() if not hint.startswith(NO_CODE) and n not in OTHER])
def test_the_code_of_a_hint_for_a_method_runs(name: str) -> None:
    x = td.asarray([[0.5, 0.25], [0.125, 1.0]])
    names: dict[str, object] = {
        "td": td,
        "nn": nn,
        "x": x,
        "y": x + 1,
        "shape": (2, 2),
        "value": 2.0,
        "repeats": (1, 2),
        "axis": 0,
    }
    hint = METHODS[name]
    if "(parameter)" in hint:
        names["parameter"] = nn.Parameter(x)
    eval("x" + hint if hint.startswith(".") else hint, names)


@pytest.mark.parametrize("name", [name for name in (*FUNCTIONS, *IN_PLACE) if hasattr(td, name)])
def test_names_that_exist_need_no_hint(name: str) -> None:
    pytest.fail(f"td.{name} exists: its hint is never shown.")


@pytest.mark.parametrize("name", [name for name in METHODS if hasattr(td.Tensor, name)])
def test_methods_that_exist_need_no_hint(name: str) -> None:
    pytest.fail(f"Tensor.{name} exists: its hint is never shown.")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("sqrt_", "x = x.sqrt(...)"),
        ("add_", "x = x + y"),
        ("clamp_", "x = x.clamp(...)"),
        ("zero_", "x = td.zeros_like(x)"),
        ("relu_", "x = nn.functional.relu(x)"),
        ("resize_", "use x = x.at[index].set(value)"),
    ],
)
def test_methods_that_change_a_tensor_have_a_value_in_their_place(name: str, code: str) -> None:
    with pytest.raises(AttributeError, match=re.escape(code)):
        getattr(td.asarray([1.0]), name)
