import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from quantize_nets import give, network, samples

from narrows.errors import InputError, ModelError
from narrows.graph.quantize import quantize_static
from narrows.graph.quantize_weights import quantize_weights


def _recurrent() -> onnx.ModelProto:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[6, N, 4] x) => (float[1, N, 3] h)
    <float[1, 9, 4] w, float[1, 9, 3] r> {_, h = GRU<hidden_size=3>(x, w, r)}"""
    proto = onnx.parser.parse_model(text.replace("<float[1, 9, 4] w, float[1, 9, 3] r>", ""))
    give(proto, "w", np.ones((1, 9, 4)))
    give(proto, "r", np.ones((1, 9, 3)))
    return proto


@pytest.mark.parametrize(
    ("proto", "x", "message"),
    [
        (_recurrent(), np.ones((6, 2, 4)), "nothing with weights is left to quantize"),
        (network(), np.ones((2, 3, 8, 8)), "takes samples of shape"),
        (network(), np.full((2, 3, 16, 16), np.nan), "NaN or infinite"),
        (network(), np.zeros((0, 3, 16, 16)), "no samples"),
    ],
    ids=["recurrent", "shape", "nan", "empty"],
)
def test_what_cannot_be_done_is_said(proto: onnx.ModelProto, x: np.ndarray, message: str) -> None:
    with pytest.raises((ModelError, InputError), match=message):
        quantize_static(proto, [x.astype(np.float32)])


def test_a_damaged_or_quantized_model_is_refused() -> None:
    broken = network()
    values = numpy_helper.to_array(broken.graph.initializer[0]).copy()
    values.flat[0] = np.nan
    broken.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w1"))
    with pytest.raises(ModelError, match="NaN or infinite"):
        quantize_static(broken, [samples(2)])
    with pytest.raises(ModelError, match="quantized already"):
        quantize_static(quantize_static(network(), [samples(2)]), [samples(2)])
    with pytest.raises(ModelError, match=r"no such node or operator.*similar: head"):
        quantize_static(network(), [samples(2)], exclude=["heads"])
    with pytest.raises(ModelError, match="no calibration method"):
        quantize_static(network(), [samples(2)], method="guess")  # type: ignore[arg-type]


def test_an_activation_that_overflows_is_named() -> None:
    x = samples(2)
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 3, 16, 16] x) => (float[N, 3] y) {
      big = Exp(x) f = GlobalAveragePool(big) v = Flatten(f) y = MatMul(v, w) }"""
    proto = onnx.parser.parse_model(text)
    give(proto, "w", np.eye(3))
    with pytest.raises(ModelError, match="'big' is NaN or infinite"):
        quantize_static(proto, [200 * x])


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_weights_of_another_type_are_named(kind: type) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g ({"float16" if kind is np.float16 else "double"}[N, 64] x)
    => ({"float16" if kind is np.float16 else "double"}[N, 64] y) {{ y = MatMul(x, w) }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(np.eye(64, dtype=kind), "w"))
    for quantize in (lambda: quantize_weights(proto), lambda: quantize_static(proto, [])):
        with pytest.raises(ModelError, match=r"'w' are .*float32"):
            quantize()
