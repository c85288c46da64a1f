"""What a head holds in memory: its weights, and the most activations alive at once."""

from __future__ import annotations

from narrows.graph.cost import size_bytes, weights_of_nodes
from narrows.graph.load import Model

# Operators whose output takes the memory of an input that dies with them.
_NAMES = """
    Add BatchNormalization Clip Div Dropout Elu Flatten HardSigmoid HardSwish Identity LeakyRelu
    Max Min Mul QuantizeLinear Relu Reshape Sigmoid Softmax Squeeze Sub Sum Tanh Unsqueeze
"""
_IN_PLACE = frozenset(_NAMES.split())
_FUSED = frozenset({"QuantizeLinear", "Relu", "Clip"})


class HeadMemory:
    """Memory of the growing head, node after node, for one sample.

    The input stays: its buffer is the caller's. Scratch memory of kernels is not counted. Between
    DequantizeLinear and QuantizeLinear the runtime's integer kernels hold no floats, so those
    values count as their quantized bytes.

    Args:
        model: The model whose nodes will be walked in execution order.
    """

    def __init__(self, model: Model) -> None:
        self._flow = model.flow
        self._sizes = {t.name: size_bytes(t) for t in model.proto.graph.initializer}
        self._weights = weights_of_nodes(model)
        self._held: set[str] = set()
        self._resident = {name: info.size_bytes for name, info in model.tensors.items()}
        self._last = model.flow.last_reads()
        self._see_through_quantization()
        self._live: set[str] = set()
        self._input_bytes = model.input.size_bytes
        self.peak_bytes = self._input_bytes

    @property
    def weight_bytes(self) -> int:
        """Weights of the nodes walked so far, each once."""
        return sum(self._sizes[name] for name in self._held)

    def step(self, position: int) -> None:
        """Take the next node into the head."""
        self._held |= self._weights[position]
        made = [name for name in self._flow.makes(position) if name in self._resident]
        grown = sum(self._resident[name] for name in made)
        if self._flow.nodes[position].op_type in _IN_PLACE and len(made) == 1:
            dying = (n for n in self._flow.reads[position] if self._last.get(n) == position)
            if any(n in self._live and self._resident[n] == grown for n in dying):
                grown = 0
        now = self._input_bytes + sum(self._resident[name] for name in self._live) + grown
        self.peak_bytes = max(self.peak_bytes, now)
        self._live.update(made)
        self._live = {name for name in self._live if self._last.get(name, -1) > position}

    def _see_through_quantization(self) -> None:
        flow = self._flow
        for position in reversed(range(len(flow.nodes))):
            node = flow.nodes[position]
            source, made = (node.input[0] if node.input else ""), node.output[0]
            if made not in self._resident or source not in self._resident:
                continue
            if node.op_type == "DequantizeLinear":
                self._resident[made] = 0
                self._last[source] = max(self._last.get(source, -1), self._last.get(made, -1))
            elif node.op_type in _FUSED and flow.readers[source] == (position,):
                self._resident[source] = min(self._resident[source], self._resident[made])
