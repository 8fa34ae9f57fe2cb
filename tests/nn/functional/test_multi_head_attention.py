"""Attention in several heads as a function, against PyTorch's; gradients flow to the weights given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle import nn

T, S, B, C, H = 3, 4, 2, 6, 2
rng = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


Q, K, V = normal(T, B, C), normal(S, B, C), normal(S, B, C)
BASE: dict[str, Any] = {
    "embed_dim_to_check": C,
    "num_heads": H,
    "in_proj_weight": normal(3 * C, C),
    "in_proj_bias": normal(3 * C),
    "bias_k": None,
    "bias_v": None,
    "add_zero_attn": False,
    "dropout_p": 0.0,
    "out_proj_weight": normal(C, C),
    "out_proj_bias": normal(C),
}
SEPARATE = {
    "in_proj_weight": None,
    "use_separate_proj_weight": True,
    **{f"{name}_proj_weight": normal(C, C) for name in "qkv"},
}
CASES: list[dict[str, Any]] = [
    {},
    {"need_weights": False},
    {"average_attn_weights": False, "training": False, "dropout_p": 0.5},
    {"bias_k": normal(1, 1, C), "bias_v": normal(1, 1, C), "add_zero_attn": True},
    {"key_padding_mask": np.array([[False, True, False, False], [False, False, False, True]])},
    {"attn_mask": np.triu(np.ones((T, S), bool), 2)},
    {"attn_mask": normal(B * H, T, S), "in_proj_bias": None, "out_proj_bias": None},
    SEPARATE,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case) or "plain")
def test_it_is_pytorchs(case: dict[str, Any]) -> None:
    settings = {**BASE, **case}

    def run(of: Any, make: Any) -> Any:
        made = {name: make(v) if isinstance(v, np.ndarray) else v for name, v in settings.items()}
        return of.nn.functional.multi_head_attention_forward(make(Q), make(K), make(V), **made)

    ours, theirs = run(td, td.asarray), run(torch, torch.tensor)
    np.testing.assert_allclose(ours[0].numpy(), theirs[0].numpy(), rtol=1e-4, atol=1e-5)
    assert (ours[1] is None) == (theirs[1] is None)
    if ours[1] is not None:
        np.testing.assert_allclose(ours[1].numpy(), theirs[1].numpy(), rtol=1e-4, atol=1e-6)


def test_gradients_flow_to_the_weights() -> None:
    weight = nn.Parameter(BASE["in_proj_weight"])

    @td.compile
    def step(x: Any) -> Any:
        weight.grad = None
        out, _ = nn.functional.multi_head_attention_forward(x, x, x, **{**BASE, "in_proj_weight": weight})
        out.sum().backward()
        return weight.grad

    peer = torch.nn.Parameter(torch.tensor(BASE["in_proj_weight"]))
    made = {n: torch.tensor(v) if isinstance(v, np.ndarray) else v for n, v in BASE.items()}
    x = torch.tensor(Q)
    torch.nn.functional.multi_head_attention_forward(x, x, x, **{**made, "in_proj_weight": peer})[0].sum().backward()
    np.testing.assert_allclose(step(Q).numpy(), peer.grad.numpy(), rtol=1e-3, atol=1e-4)
    step(Q)
    assert step.num_compiles == 1


def test_misuse_is_said_clearly() -> None:
    q = td.asarray(Q)
    with pytest.raises(td.ShapeError, match=r"query f32\[3,2,6\] must be \[\.\.\., 8\]"):
        nn.functional.multi_head_attention_forward(q, q, q, **{**BASE, "embed_dim_to_check": 8})
    with pytest.raises(td.ConfigError, match="static_k and static_v are not supported"):
        nn.functional.multi_head_attention_forward(q, q, q, **BASE, static_k=q)
