"""Attention in several heads as a function: the layer `MultiheadAttention` with tensors given for its parameters."""

from __future__ import annotations

from functools import partial

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor
from treadle.tensor.promotion import Operand, as_tensor

from .linear import linear


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Operand | None,
    in_proj_bias: Operand | None,
    bias_k: Operand | None,
    bias_v: Operand | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Operand,
    out_proj_bias: Operand | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Operand | None = None,
    k_proj_weight: Operand | None = None,
    v_proj_weight: Operand | None = None,
    static_k: Operand | None = None,
    static_v: Operand | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return what every query [T, B, C] gathered, and the weights if wanted, as `MultiheadAttention` does.

    Args:
        query: [T, B, C], or [T, C].
        key: [S, B, kdim].
        value: [S, B, vdim].
        embed_dim_to_check: C.
        num_heads: H, a divisor of C.
        in_proj_weight: [3 C, C], what makes queries, keys and values; None with separate weights.
        in_proj_bias: [3 C].
        bias_k: [1, 1, C], one more key; `bias_v` is its value.
        bias_v: [1, 1, C].
        add_zero_attn: whether there is one more key and value of zeros.
        dropout_p: probability of dropping a weight in training.
        out_proj_weight: [C, C].
        out_proj_bias: [C].
        training: whether `dropout_p` counts.
        key_padding_mask: [B, S], True (or -inf) for keys that are padding.
        need_weights: return the weights too.
        attn_mask: [T, S] or [B * H, T, S]; of bool: True where not to look; of float: added to the scores.
        use_separate_proj_weight: use the three that follow.
        q_proj_weight: [C, C].
        k_proj_weight: [C, kdim].
        v_proj_weight: [C, vdim].
        static_k: not supported; `scaled_dot_product_attention` takes keys as they are.
        static_v: not supported either.
        average_attn_weights: weights as [B, T, S], the mean of the heads, instead of [B, H, T, S].
        is_causal: row t sees columns 0..t only, also without a mask.
    """
    # The layer is above this package, and what it does is said there.
    from treadle.nn.attention import MultiheadAttention  # noqa: PLC0415

    what = "multi_head_attention_forward"
    if static_k is not None or static_v is not None:
        raise ConfigError(f"{what}: static_k and static_v are not supported. Use scaled_dot_product_attention().")
    if query.ndim == 0 or query.shape[-1] != embed_dim_to_check:
        raise ShapeError(f"{what}: query {query.node.type!r} must be [..., {embed_dim_to_check}].")
    layer = MultiheadAttention.__new__(MultiheadAttention)  # without parameters of its own
    vars(layer).update(
        embed_dim=embed_dim_to_check,
        num_heads=num_heads,
        dropout=dropout_p,
        batch_first=False,
        add_zero_attn=add_zero_attn,
        in_proj_weight=None if use_separate_proj_weight else _given(in_proj_weight),
        in_proj_bias=_given(in_proj_bias),
        q_proj_weight=_given(q_proj_weight),
        k_proj_weight=_given(k_proj_weight),
        v_proj_weight=_given(v_proj_weight),
        bias_k=_given(bias_k),
        bias_v=_given(bias_v),
        out_proj=partial(linear, weight=out_proj_weight, bias=out_proj_bias),
    )
    layer.train(training)
    return layer(query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal)


def _given(tensor: Operand | None) -> Tensor | None:
    return None if tensor is None else as_tensor("multi_head_attention_forward", tensor)
