"""A network that computes as its int8 form will: values rounded to 8 bits where that one rounds.

    x ──8 bits──► layer with weights of 8 bits ──► activation ──8 bits──► layer …

The places are those of `narrows.graph.quantize_static`: what enters, and what each operator with an
integer kernel gives, except where a normalisation or an activation that is folded into it follows.
"""

from __future__ import annotations

from typing import Any, Final, final

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from narrows.compress.call_names import MOVING
from narrows.compress.node_by_node import kind_of, run_nodes
from narrows.compress.weight_layers import refuse_empty
from narrows.compress.weight_maps import WeightMap, put_map_
from narrows.errors import ModelError

_WEIGHTED: Final = frozenset(("Linear", "Conv1d", "Conv2d", "Conv3d"))
_NORMS: Final = frozenset(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"))
_FOLDED_NAMES: Final = "ReLU ReLU6 Hardtanh relu relu_ relu6 hardtanh clamp clamp_"
_INTEGER_NAMES: Final = """
    placeholder LeakyReLU Sigmoid leaky_relu sigmoid sigmoid_ add add_ iadd mul mul_ imul cat concat
    AvgPool1d AvgPool2d AvgPool3d AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d mean
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
"""
_KEEPING_NAMES: Final = """
    Identity Flatten Unflatten Dropout Dropout1d Dropout2d Dropout3d dropout contiguous pad
    MaxPool1d MaxPool2d MaxPool3d max_pool1d max_pool2d max_pool3d ZeroPad1d ZeroPad2d ZeroPad3d
"""
_FOLDED: Final = frozenset(_FOLDED_NAMES.split())
_INTEGER: Final = _WEIGHTED | _NORMS | _FOLDED | frozenset(_INTEGER_NAMES.split())
# Their numbers are those that came in, rounded already.
_KEEPING: Final = frozenset(_KEEPING_NAMES.split()) | MOVING
_MOST_LEVEL: Final = 127
_LEVELS: Final = 255


@final
class Int8Weights(WeightMap):
    """W in whole multiples, -127 … 127, of max |W| / 127 of each output; straight through."""

    def forward(self, weight: Tensor) -> Tensor:
        """The weight rounded to its levels."""
        with torch.no_grad():
            largest = weight.detach().abs().flatten(1).amax(1)
            # A subnormal step would lose the digits that the levels stand on.
            tiny = torch.finfo(weight.dtype).tiny
            step = torch.where(largest / _MOST_LEVEL >= tiny, largest / _MOST_LEVEL, 1.0)
        zero = torch.zeros_like(step, dtype=torch.int32)
        rounded: Tensor = torch.fake_quantize_per_channel_affine(
            weight, step, zero, 0, -_MOST_LEVEL, _MOST_LEVEL
        )
        return rounded


@final
class RunningRange(nn.Module):  # type: ignore[misc]
    """Rounds to the 256 levels of a range that follows what passes while it trains.

        low <- (1 - m) · low + m · min x,   high likewise;   zero is always a level

    Gradients go straight through inside of the range and end outside.

    Args:
        share: m, of the newest batch; the first batch is the first range.
    """

    low: Tensor
    high: Tensor
    seen: Tensor

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        """Rounded; left as it is as long as no range is known."""
        if self.training:
            self._follow_(x.detach())
        if not bool(self.seen):
            return x
        step = ((self.high - self.low) / _LEVELS).clamp(min=torch.finfo(torch.float32).tiny)
        zero = (-self.low / step).round().clamp(0, _LEVELS).to(torch.int32)
        rounded: Tensor = torch.fake_quantize_per_tensor_affine(x, step, zero, 0, _LEVELS)
        return rounded

    def _follow_(self, x: Tensor) -> None:
        share = torch.where(self.seen, self.share, 1.0)
        self.low.lerp_(x.amin().float().clamp(max=0), share)
        self.high.lerp_(x.amax().float().clamp(min=0), share)
        self.seen.fill_(True)


@final
class Int8Network(nn.Module):  # type: ignore[misc]
    """The roundings around a traced network.

    Args:
        traced: Any; what has no integer kernel stays in floating point.
        share: Of the newest batch in ranges.
        skip: Names of layers that stay in floating point, with what they answer.
        frozen_norms: Whether statistics of batch normalisation stay what they are.

    Raises:
        ModelError: There is nothing to round in it, or a weight is empty or not finite.
    """

    def __init__(
        self, traced: fx.GraphModule, *, share: float, skip: tuple[str, ...], frozen_norms: bool
    ) -> None:
        super().__init__()
        self.traced, self.frozen_norms = traced, frozen_norms
        layers = [
            node
            for node in traced.graph.nodes
            if kind_of(traced, node) in _WEIGHTED and node.target not in skip
        ]
        if not layers:
            msg = "there is no linear or convolutional layer to keep in 8 bits"
            raise ModelError(msg)
        for name in dict.fromkeys(str(node.target) for node in layers):
            refuse_empty(name, traced.get_submodule(name).weight)
            if not bool(traced.get_submodule(name).weight.isfinite().all()):
                msg = f"weights of {name!r} are not all finite: train again, or skip the layer"
                raise ModelError(msg)
            put_map_(traced.get_submodule(name), "weight", Int8Weights())
        # Names of layers may hold dots, names of nodes do not.
        self.ranges = nn.ModuleDict(
            {node.name: RunningRange(share) for node in _rounded(traced, skip)}
        )

    def forward(self, x: Tensor) -> Any:
        """What the network answers with its values in 8 bits."""
        return run_nodes(self.traced, x, self._after)

    def train(self, mode: bool = True) -> Int8Network:
        """Set the mode; frozen normalisation stays in that of evaluation."""
        super().train(mode)
        if self.frozen_norms:
            for layer in self.traced.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self

    def _after(self, node: fx.Node, value: Tensor) -> Tensor:
        if node.name not in self.ranges or not value.is_floating_point():
            return value
        rounded: Tensor = self.ranges[node.name](value)
        return rounded


def _rounded(traced: fx.GraphModule, skip: tuple[str, ...]) -> list[fx.Node]:
    """The nodes whose values are rounded."""
    found = []
    for node in traced.graph.nodes:
        kind = kind_of(traced, node)
        if kind in _KEEPING or node.op in ("output", "get_attr") or node.target in skip:
            continue
        users = [kind_of(traced, user) for user in node.users]
        followed = len(users) == 1 and (
            users[0] in _FOLDED or (kind in _WEIGHTED and users[0] in _NORMS)
        )
        read = any(kind in _INTEGER for kind in users)
        if not followed and (kind in _INTEGER or read):
            found.append(node)
    return found
