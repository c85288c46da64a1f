"""Where the two halves of a variant come from: one network, or integers and floating point.

variant    the device's half                                the cloud's half
float      the network up to the cut                        the network after it
int8       the int8 network up to the dequantized cut       the original after the same tensor
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, final

import onnx

from narrows.graph.cuts import Cut, find_cuts
from narrows.graph.load import Model
from narrows.graph.split import split

INT8_SUFFIX: Final = "-int8"


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Halves:
    """The networks that heads and tails are parts of.

    Args:
        device: The whole network of the device.
        cloud: The whole network of the cloud, with the same input and outputs.
        heads: Cut index → where a head ends in the device's network, and what it holds there.
        tails: Cut index → where a tail begins in the cloud's network. The same indices.
    """

    device: Model
    cloud: Model
    heads: Mapping[int, Cut]
    tails: Mapping[int, Cut]

    def head(self, index: int) -> onnx.ModelProto:
        """The device's network up to a cut, which is not the input."""
        proto = split(self.device, self.heads[index]).head
        assert proto is not None, "the first cut has no head"
        return proto

    def tail(self, index: int) -> onnx.ModelProto:
        """The cloud's network after a cut, which is not the output."""
        proto = split(self.cloud, self.tails[index]).tail
        assert proto is not None, "the last cut has no tail"
        return proto


def float_halves(model: Model, cuts: Iterable[Cut]) -> Halves:
    """Both halves of one network."""
    same = {cut.index: cut for cut in cuts}
    return Halves(device=model, cloud=model, heads=same, tails=same)


def int8_halves(original: Model, cuts: Iterable[Cut], integers: Model) -> Halves:
    """Heads of an int8 network for the cuts that it shares with its original.

    A tensor is shared where the int8 network quantizes it and nothing else crosses there; values
    inside what was fused (a convolution before its activation) are not.

    Args:
        original: In floating point.
        cuts: Of the original.
        integers: Made of it by `quantize_static`.
    """
    flow = integers.flow
    quantized = {
        node.input[0]: node.output[0] for node in flow.nodes if node.op_type == "QuantizeLinear"
    }
    floats = {
        node.input[0]: node.output[0] for node in flow.nodes if node.op_type == "DequantizeLinear"
    }
    inner = {cut.tensor: cut for cut in find_cuts(integers)}
    tails, heads = {}, {}
    for cut in cuts:
        levels = quantized.get(cut.tensor, "")
        found = inner.get(levels) or inner.get(cut.tensor)  # the ends are in floating point
        if found is None:
            continue
        tails[cut.index] = cut
        heads[cut.index] = replace(
            cut,
            tensor=floats.get(levels, cut.tensor),
            size_bytes=found.size_bytes,
            head_weight_bytes=found.head_weight_bytes,
            head_peak_bytes=found.head_peak_bytes,
        )
    return Halves(device=integers, cloud=original, heads=heads, tails=tails)


def float_name(variant: str, names: Iterable[str]) -> str:
    """The variant that has a variant's tails and codecs: itself unless it is the int8 of another.

    Example:
        >>> float_name("net-int8", ["net", "net-int8"]), float_name("net-int8", ["net-int8"])
        ('net', 'net-int8')
    """
    bare = variant.removesuffix(INT8_SUFFIX)
    return bare if bare in set(names) else variant
