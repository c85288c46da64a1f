"""ONNX → ONNX static int8: weights per channel, activations by calibration (QuantizeLinear pairs).

The numbers are made by ONNX Runtime's own quantizer, whose pairs its kernels are known to fuse.
Calibration is narrows's (`calibrate.py`): the runtime's keeps every activation of every sample.
Recurrent layers, which that quantizer leaves alone, are narrows's too (`recurrent_integers.py`).
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from narrows.errors import ModelError
from narrows.graph.average_pool import with_average_pools
from narrows.graph.calibrate import Method, Range, activation_ranges
from narrows.graph.load import Model, load
from narrows.graph.ort import simplified
from narrows.graph.quantized import data_nodes, excluded, has_weights, opened, with_opset
from narrows.graph.recurrent import RecurrentLayer, recurrent_layers
from narrows.graph.recurrent_integers import gru_ranges, watched, with_integer_layers
from narrows.graph.recurrent_parts import Levels
from narrows.graph.wide_stem import with_wide_stems

Array = NDArray[Any]
Integer = Literal["uint8", "int8"]

Recurrent = Literal["faster", "all"]

# What ONNX Runtime's CPU kernels compute in 8-bit integers; what is left out of it (ConvTranspose,
# normalisations) would be dequantized, computed in float and quantized again.
INT8_OPERATORS: Final = (
    "Conv",
    "Gemm",
    "MatMul",
    "Add",
    "Mul",
    "Relu",
    "Clip",
    "LeakyRelu",
    "Sigmoid",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Concat",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Split",
    "Slice",
)
_NAMED: Final = 3
_ARM: Final = ("aarch64", "arm64", "armv7l", "armv8l")


def quantize_static(
    model: Model | onnx.ModelProto | str | Path,
    samples: Iterable[Array],
    *,
    activation: Integer | None = None,
    weight: Integer = "int8",
    per_channel: bool = True,
    reduce_range: bool = False,
    exclude: Sequence[str] = (),
    recurrent: Recurrent = "faster",
    method: Method = "minmax",
    threads: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> onnx.ModelProto:
    """A model whose convolutions, matrix products and recurrent layers run on 8-bit integers.

    Batch normalisation is folded into weights first, and an activation function into the range of
    its output. Operators that the runtime has no integer kernel for stay in floating point;
    `weight_bearing` says which of those with weights these are.

    An LSTM becomes the runtime's DynamicQuantizeLSTM, which takes the steps of data from the data;
    a GRU becomes one integer product over all time steps and a loop of integer steps. Small ones
    stay as they are, since integers would be slower, and so do those with other activations,
    clipping, peepholes or sequences of several lengths: `recurrent_layers` of the result says which
    and why.

    Args:
        model: In float32.
        samples: Batches of real inputs in the model's layout, of the fit set; read once, in little
            memory. A hundred samples are usual.
        activation: Type of activations; None for what the processor computes fastest: uint8, and
            int8 on Arm.
        weight: Type of weights, which are symmetric; those of recurrent layers are always int8.
        per_channel: Whether each output channel has its own step; one for all loses several points
            of accuracy on small networks.
        reduce_range: Weights of 7 bits: on x86 without VNNI sums of uint8 × int8 saturate.
        exclude: What to leave in float: names of nodes, types of operators, "first" and "last" for
            the first and the last operator with weights.
        recurrent: "faster": recurrent layers that are large enough to gain (`least_hidden`); "all":
            every one that can be computed in integers, however slow.
        method: How ranges follow from the samples.
        threads: Threads inside an operator while calibrating.
        progress: Called with the number of samples that are finished.

    Returns:
        The quantized model; the same names of inputs and outputs.

    Raises:
        ModelError: The model cannot be read, is quantized already, holds nothing to quantize, or
            gives values that are not finite; something to exclude is not in it.
        InputError: There are no samples, or they do not fit.

    Example:
        >>> from narrows.graph.quantized import weight_bearing
        >>> text = '''<ir_version: 8, opset_import: ["" : 17]>
        ... g (float[N, 4] x) => (float[N, 2] y) <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}>
        ... {[product] h = MatMul(x, w) y = Relu(h)}'''
        >>> made = quantize_static(onnx.parser.parse_model(text), [np.eye(4, dtype=np.float32)])
        >>> weight_bearing(made).int8
        ('product',)
    """
    chosen = activation or default_activation()
    ready = _prepared(model)
    if chosen == "uint8":  # that of the kernels which this is for
        ready = load(with_wide_stems(ready, excluded(ready, exclude)))
    layers = recurrent_layers(ready, left_out=excluded(ready, exclude), slower=recurrent == "all")
    loops = [layer.name for layer in layers if not layer.reason]
    wanted = _wanted(ready, exclude, layers)
    names = list(dict.fromkeys([*_tensors_of(ready, wanted), *watched(ready, loops)]))
    ranges = activation_ranges(
        ready, names, samples, method=method, threads=threads, progress=progress
    )
    made = _quantized(
        ready.proto,
        ranges,
        wanted,
        activation=chosen,
        weight=weight,
        per_channel=per_channel,
        reduce_range=reduce_range,
    )
    if loops:
        levels = Levels(activation=chosen, per_channel=per_channel, reduce_range=reduce_range)
        made = with_integer_layers(made, loops, gru_ranges(ready, loops, ranges), levels)
    made.producer_name = "narrows"
    del made.graph.value_info[:]  # of tensors that are gone
    return made


def default_activation(machine: str | None = None) -> Integer:
    """The type of activations that a processor computes fastest with weights of int8.

    Example:
        >>> default_activation("x86_64"), default_activation("aarch64")
        ('uint8', 'int8')
    """
    return "int8" if (machine or platform.machine()).lower() in _ARM else "uint8"


def _prepared(model: Model | onnx.ModelProto | str | Path) -> Model:
    found = opened(model)
    return load(with_opset(simplified(with_average_pools(found))))


def _wanted(model: Model, exclude: Sequence[str], layers: Sequence[RecurrentLayer]) -> list[str]:
    """Names of the nodes for the runtime's quantizer; none where no product or convolution is."""
    nodes, left_out = data_nodes(model), excluded(model, exclude)
    wanted = [
        node
        for node in nodes
        if node.op_type in INT8_OPERATORS and node.name not in left_out and _is_float32(model, node)
    ]
    if any(has_weights(model, node) for node in wanted):
        return [node.name for node in wanted]
    if any(not layer.reason for layer in layers):
        return []
    types = sorted({node.op_type for node in nodes})
    told = "".join(f"; {layer.text}" for layer in layers[:_NAMED])
    msg = (
        "nothing with weights is left to quantize: the model has "
        f"{', '.join(types[:12])}{' …' if len(types) > 12 else ''}, excluded are "
        f"{', '.join(exclude) or 'none'}{told}"
    )
    raise ModelError(msg)


def _is_float32(model: Model, node: onnx.NodeProto) -> bool:
    names = [name for name in (*node.input[:1], *node.output[:1]) if name in model.tensors]
    return all(model.tensors[name].dtype == "float32" for name in names)


def _tensors_of(model: Model, wanted: Sequence[str]) -> list[str]:
    """The float data that the wanted nodes read and make, in order."""
    chosen = set(wanted)
    names = [
        name
        for node in model.flow.nodes
        if node.name in chosen
        for name in (*node.input, *node.output)
        if name in model.flow.data and model.tensors[name].dtype == "float32"
    ]
    return list(dict.fromkeys(names))


def _quantized(
    proto: onnx.ModelProto,
    ranges: Mapping[str, Range],
    wanted: Sequence[str],
    *,
    activation: Integer,
    weight: Integer,
    per_channel: bool,
    reduce_range: bool,
) -> onnx.ModelProto:
    if not wanted:
        return proto
    # Imported here: it takes longer than the rest of the package, and few commands need it.
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    types = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
    data = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.items()
    }
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    with _quiet():
        try:
            quantizer = QDQQuantizer(
                copy,
                per_channel,
                reduce_range,
                types[weight],
                types[activation],
                TensorsData(CalibrationMethod.MinMax, data),
                list(wanted),
                [],
                list(INT8_OPERATORS),
                {},
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        except Exception as error:  # the quantizer's errors have nothing in common
            msg = f"ONNX Runtime cannot quantize the model: {' '.join(str(error).split())[:300]}"
            raise ModelError(msg) from error
    made: onnx.ModelProto = quantizer.model.model
    return made


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantizer's notes, which are about its own defaults."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.ERROR))
    try:
        yield
    finally:
        logging.disable(before)
