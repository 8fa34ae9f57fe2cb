"""Every rule is an equation: its sides, holes filled with special and random values, are equal bit for bit."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from tests.ops.cases import special_values
from treadle.core import DTYPES, DType, Type, bool_
from treadle.ir import Const, Graph, Node, Op, Pattern, Rule, constant, inputs_for, substitute, topological
from treadle.ops import run_graph
from treadle.passes.simplify import RULES

Array = np.ndarray

# Not the same bits, but as near the exact result as the reference of `pow`: how far they are from it, in eps.
OF_POWERS = {"pow-two": 1, "pow-three": 2, "pow-half": 1, "pow-minus-half": 2, "pow-minus-one": 1, "pow-minus-two": 2}
LITERALS = {"float": [0.0, -0.0, 1.0, -1.0, 2.0, -0.5, 3.0, 0.1, 1024.0], "int": [0, 1, -1, 2, 5], "uint": [0, 1, 2, 5]}


def holes_of(pattern: Pattern) -> dict[str, str]:
    """Return the kind of every hole by name, in order."""
    if pattern.kind in ("any", "const"):
        return {pattern.name: pattern.kind}
    return {name: kind for arg in pattern.args for name, kind in holes_of(arg).items()}


def build(pattern: Pattern, holes: dict[str, Node], dtype: DType) -> Node:
    if pattern.kind == "literal":
        return constant(pattern.value, bool_ if isinstance(pattern.value, bool) else dtype)
    if pattern.kind != "call":
        return holes[pattern.name]
    return Op.registry[pattern.name]()(*[build(a, holes, dtype) for a in pattern.args])


def instances(rule: Rule, dtype: DType, fill) -> list[tuple[Graph, Graph, list[Array]]]:
    """Return both sides of the rule, and operands, for every choice of literals it applies to."""
    kinds = holes_of(rule.before)
    free = [name for name, kind in kinds.items() if kind == "any"]
    arrays = fill([bool_ if name == "c" else dtype for name in free])
    inputs = inputs_for([Type(bool_ if name == "c" else dtype, arrays[0].shape) for name in free])
    literals = [name for name, kind in kinds.items() if kind == "const"]
    found = []
    for values in itertools.product(LITERALS.get(dtype.kind, [False, True]), repeat=len(literals)):
        holes = dict(zip(free, inputs, strict=True)) | {
            name: constant(v, dtype) for name, v in zip(literals, values, strict=True)
        }
        try:
            before = build(rule.before, holes, dtype)
        except TypeError:  # an op of the rule does not take the dtype
            return []
        after = rule.apply(before)
        if after is not None and all(fits(n, dtype) for n in topological([before])):
            found.append((Graph(inputs, (before,)), Graph(inputs, (after,)), arrays))
    return found


def fits(node: Node, dtype: DType) -> bool:
    """Whether a node is not a literal that its dtype does not have, such as -1 in an unsigned one."""
    return not (isinstance(node.op, Const) and dtype.kind == "uint" and node.op.value < 0)


def specials(dtypes: list[DType]) -> list[Array]:
    """Every combination of special values."""
    return [g.ravel() for g in np.meshgrid(*[special_values(d) for d in dtypes], indexing="ij")]


def randoms(dtypes: list[DType]) -> list[Array]:
    rng = np.random.default_rng(0)
    return [
        (rng.integers(0, 2, 500) if d is bool_ else rng.normal(size=500) * 3 + (5 if d.kind == "uint" else 0)).astype(
            d.numpy
        )
        for d in dtypes
    ]


def bits(array: Array) -> Array:
    """Return the bits of an array, those of any NaN made alike."""
    if array.dtype.kind in "biu":
        return array
    array = np.where(np.isnan(array), np.asarray(np.nan, array.dtype), array)
    return array.view(f"u{array.dtype.itemsize}")


def sides(case: tuple[Graph, Graph, list[Array]]) -> tuple[Array, Array]:
    before, after, arrays = case
    # Literals of the left side as whole tensors: NumPy takes short cuts for scalars, of the kind that is tested here.
    literals = [n for n in before.nodes() if isinstance(n.op, Const)]
    full = [np.full(arrays[0].shape, n.op.value, n.dtype.numpy) for n in literals]
    inputs = inputs_for([*[n.type for n in before.inputs], *[Type(n.dtype, arrays[0].shape) for n in literals]])
    replaced = substitute(before.outputs, dict(zip(literals, inputs[len(arrays) :], strict=True)))
    with np.errstate(all="ignore"):
        return run_graph(Graph(inputs, replaced), [*arrays, *full])[0], run_graph(after, arrays)[0]


EXACT = [r for r in RULES if not r.fast_math]


@pytest.mark.parametrize("fill", [specials, randoms], ids=["specials", "randoms"])
@pytest.mark.parametrize("rule", EXACT, ids=lambda r: r.name)
def test_both_sides_have_the_same_bits(rule: Rule, fill) -> None:
    tried = 0
    for dtype in DTYPES:
        for case in instances(rule, dtype, fill):
            tried += 1
            a, b = sides(case)
            assert a.dtype == b.dtype
            different = bits(a) != bits(b)
            if rule.name in OF_POWERS and dtype.is_float:
                both = a[different].astype(np.float64), b[different].astype(np.float64)
                eps = OF_POWERS[rule.name] * float(ml_dtypes.finfo(dtype.numpy).eps)
                np.testing.assert_allclose(*both, rtol=eps, err_msg=f"{rule.name} {dtype}")
                assert np.array_equal(np.signbit(a), np.signbit(b)), f"{rule.name} {dtype}"
            else:
                assert not different.any(), (
                    f"{rule.name} of {dtype}: {case[0]} is {a[different][:5]}, {case[1]} is {b[different][:5]} "
                    f"at {[x[different][:5] for x in case[2]]}"
                )
    assert tried, f"{rule.name} never applied"


@pytest.mark.parametrize("rule", [r for r in RULES if r.fast_math], ids=lambda r: r.name)
def test_fast_math_rules_are_equations_of_real_numbers(rule: Rule) -> None:
    tried = 0
    for dtype in DTYPES:
        for case in instances(rule, dtype, randoms):
            if dtype.bits < 32 and dtype.is_float:
                continue
            tried += 1
            a, b = sides(case)
            usable = np.isfinite(a) & np.isfinite(b)
            tolerance = 1e-3 if dtype.is_float else 0
            np.testing.assert_allclose(a[usable].astype(float), b[usable].astype(float), rtol=tolerance, atol=tolerance)
    assert tried, f"{rule.name} never applied"


def test_some_equations_need_fast_math() -> None:
    """The test above can fail: at -0.0, x + 0 is not x."""
    (rule,) = (r for r in RULES if r.name == "add-zero")
    float_cases = [c for d in DTYPES if d.name == "float32" for c in instances(rule, d, specials)]
    assert any((bits(a) != bits(b)).any() for a, b in map(sides, float_cases))


def test_names_are_unique() -> None:
    names = [r.name for r in RULES]
    assert len(set(names)) == len(names)
