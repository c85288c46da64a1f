"""What a kernel of the runtime is, told in the layers of the model: its type and their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import onnx

from narrows.graph.cost import NodeCost
from narrows.graph.load import Model

LAYOUT: Final = "change of layout"
QUANTIZE: Final = "quantize, dequantize"

_LAYOUT_KERNELS: Final = frozenset({"ReorderInput", "ReorderOutput", "Reorder", "Transpose"})
_PAIR: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})


def kind_of(kernel: str, nodes: Sequence[NodeCost]) -> str:
    """The type of a kernel by the nodes whose work it does: that of the one with most MACs.

    Convolutions are "depthwise Conv" (one input channel a group), "pointwise Conv" (1 × 1),
    "grouped Conv" or "dense Conv". What the runtime added by itself changes the layout, quantizes
    or dequantizes, or else keeps its name.
    """
    if not nodes and kernel in _LAYOUT_KERNELS:
        return LAYOUT
    if not nodes:
        return QUANTIZE if kernel in _PAIR else kernel
    own = [node for node in nodes if node.op_type not in _PAIR]
    if not own:
        return QUANTIZE
    main = max(own, key=lambda node: node.macs)
    if "Conv" not in main.op_type or not main.macs:
        return main.op_type
    name = "ConvTranspose" if main.op_type == "ConvTranspose" else "Conv"
    if main.group > 1:
        return f"{'depthwise' if main.group == main.in_shape[1] else 'grouped'} {name}"
    return f"{'pointwise' if set(main.kernel) == {1} else 'dense'} {name}"


def layers_of(model: Model, names: Sequence[str]) -> tuple[str, ...]:
    """The float layers of a kernel.

    Args:
        model: The model.
        names: The nodes whose work the kernel does.

    Returns:
        Those that do not just quantize or dequantize; where all do, the layer that reads what they
        make, or makes what they read.
    """
    flow = model.flow
    nodes = [node for node in flow.nodes if node.name in names]
    own = tuple(node.name for node in nodes if node.op_type not in _PAIR)
    if own or not nodes:
        return own

    def reader(node: onnx.NodeProto) -> int | None:
        return next(iter(flow.readers.get(node.output[0], ())), None)

    def maker(node: onnx.NodeProto) -> int | None:
        return flow.producer.get(node.input[0])

    for step in (reader, maker):
        place: int | None = flow.producer[nodes[-1].output[0]]
        while place is not None and flow.nodes[place].op_type in _PAIR:
            place = step(flow.nodes[place])
        if place is not None:
            return (flow.nodes[place].name,)
    return ()
