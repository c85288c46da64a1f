"""Multi-head attention whose heads are fewer than its width says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional


@final
class ReducedAttention(nn.Module):  # type: ignore[misc]
    """`nn.MultiheadAttention` with any number of heads of the size they had.

    Queries are scaled by the size of a head, so that the heads that are left answer as before.

    Args:
        layer: The layer it stands for.
        weights: Of each of its parameters: what is left.
    """

    def __init__(
        self,
        layer: nn.MultiheadAttention | ReducedAttention,
        weights: Mapping[str, nn.Parameter],
    ) -> None:
        super().__init__()
        self.head_dim: int = int(layer.head_dim)
        self.batch_first: bool = bool(layer.batch_first)
        self.dropout: float = float(layer.dropout)
        self.in_proj_weight = weights["in_proj_weight"]
        self.in_proj_bias = weights.get("in_proj_bias")
        out = weights["out_proj.weight"]
        self.out_proj = nn.Linear(out.shape[1], out.shape[0], device="meta")
        self.out_proj.weight, self.out_proj.bias = out, weights.get("out_proj.bias")
        self.before_out: nn.Module = nn.Identity()

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """Outputs of the shape of the query; the attention weights are not answered."""
        biases = [None] * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        parts = []
        for part, weight, bias in zip(
            (query, key, value), self.in_proj_weight.chunk(3), biases, strict=True
        ):
            batched = part if self.batch_first or part.ndim == 2 else part.transpose(0, 1)
            heads = functional.linear(batched, weight, bias).unflatten(-1, (-1, self.head_dim))
            parts.append(heads.transpose(-2, -3))
        mixed = functional.scaled_dot_product_attention(
            parts[0],
            parts[1],
            parts[2],
            attn_mask=_allowed(attn_mask, key_padding_mask),
            dropout_p=self.dropout if self.training else 0.0,
        )
        made = self.out_proj(self.before_out(mixed.transpose(-2, -3).flatten(-2)))
        return made if self.batch_first or query.ndim == 2 else made.transpose(0, 1), None


def _allowed(attn_mask: Tensor | None, padding: Tensor | None) -> Tensor | None:
    """What is added to the scores: PyTorch's layer marks what is *not* to be seen."""
    added: Tensor | None = None
    if padding is not None:
        padding = padding[:, None, None, :]
    for mask in (attn_mask, padding):
        if mask is not None:
            values = mask
            if mask.dtype == torch.bool:
                values = torch.zeros_like(mask, dtype=torch.float32)
                values = values.masked_fill(mask, float("-inf"))
            added = values if added is None else added + values
    return added
