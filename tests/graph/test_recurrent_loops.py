"""The loader takes the loop of an integer GRU and no other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from recurrent_nets import network, samples

from narrows.errors import ModelError
from narrows.graph.load import load
from narrows.graph.quantize import quantize_static


def made(**settings: str | int) -> onnx.ModelProto:
    return quantize_static(network("GRU", **settings), [samples()], recurrent="all")


def scan_of(proto: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in proto.graph.node if node.op_type == "Scan")


def body_of(proto: onnx.ModelProto) -> onnx.GraphProto:
    return next(a.g for a in scan_of(proto).attribute if a.name == "body")


def constant(proto: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in proto.graph.initializer if tensor.name == name)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("outputs", [("y",), ("h",)])
def test_what_was_written_can_be_read(direction: str, after: int, outputs: tuple[str, ...]) -> None:
    proto = network("GRU", direction=direction, linear_before_reset=after, outputs=outputs)
    written = quantize_static(proto, [samples()], recurrent="all").SerializeToString()
    load(onnx.ModelProto.FromString(written))


def _other_operator(proto: onnx.ModelProto) -> None:
    node = next(node for node in body_of(proto).node if node.op_type == "Tanh")
    node.op_type = "Exp"


def _one_node_more(proto: onnx.ModelProto) -> None:
    body_of(proto).node.append(helper.make_node("Tanh", ["cell step 0 new"], ["more"]))


def _a_loop_inside(proto: onnx.ModelProto) -> None:
    body_of(proto).node.append(scan_of(made()))


def _another_axis(proto: onnx.ModelProto) -> None:
    scan_of(proto).attribute.append(helper.make_attribute("scan_input_axes", [1, 1]))


def _wide_steps(proto: onnx.ModelProto) -> None:
    """A row of steps for each unit would make a step's values grow with their square."""
    tensor = constant(proto, "cell 0 state steps")
    wide = np.ones((512, tensor.dims[0]), np.float32)
    tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))


def _other_type(proto: onnx.ModelProto) -> None:
    tensor = constant(proto, "cell 0 state")
    values = numpy_helper.to_array(tensor).astype(np.uint8)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _computed_weight(proto: onnx.ModelProto) -> None:
    constant(proto, "cell 0 state").name = "elsewhere"
    node = helper.make_node("Identity", ["elsewhere"], ["cell 0 state"])
    proto.graph.node.insert(0, node)


def _giant(proto: onnx.ModelProto) -> None:
    body_of(proto).input[0].type.tensor_type.shape.dim[1].dim_value = 2**62


def _no_shape(proto: onnx.ModelProto) -> None:
    body_of(proto).input[0].ClearField("type")


def _no_body(proto: onnx.ModelProto) -> None:
    scan = scan_of(proto)
    kept = [attribute for attribute in scan.attribute if attribute.name != "body"]
    del scan.attribute[:]
    scan.attribute.extend(kept)


@pytest.mark.parametrize(
    "change",
    [
        _other_operator,
        _one_node_more,
        _a_loop_inside,
        _another_axis,
        _wide_steps,
        _other_type,
        _computed_weight,
        _giant,
        _no_shape,
        _no_body,
    ],
)
def test_a_loop_that_was_changed_is_refused(change: Callable[[onnx.ModelProto], None]) -> None:
    proto = made(linear_before_reset=1)
    load(proto)
    change(proto)
    with pytest.raises(ModelError, match=r"Scan 'cell': loops inside a graph are not supported"):
        load(proto)


def test_the_same_loop_inside_a_branch_is_refused() -> None:
    proto = made()
    branch = helper.make_graph([scan_of(proto)], "branch", [], [])
    node = helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch)
    proto.graph.node.append(node)
    with pytest.raises(ModelError, match="loops inside a graph"):
        load(proto)
