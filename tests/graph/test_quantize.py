import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from quantize_nets import give, network, outputs, samples

from narrows.errors import ModelError
from narrows.graph.cuts import find_cuts
from narrows.graph.load import load
from narrows.graph.ort import session, simplified
from narrows.graph.quantize import default_activation, quantize_static
from narrows.graph.quantized import is_quantized, weight_bearing


def relative_error(proto: onnx.ModelProto, made: onnx.ModelProto) -> float:
    x = samples(64, seed=2)
    exact = outputs(proto, x)
    return float(np.std(outputs(made, x) - exact) / np.std(exact))


def kernels(proto: onnx.ModelProto, folder: Path) -> dict[str, int]:
    """Operators that the runtime makes of a model."""
    session(proto, optimised_path=folder / "optimised.onnx")
    found: dict[str, int] = {}
    for node in onnx.load(folder / "optimised.onnx").graph.node:
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return found


@pytest.fixture(scope="module")
def int8() -> onnx.ModelProto:
    return quantize_static(network(), [samples()], activation="uint8")


def test_all_operators_with_weights_run_in_integers(int8: onnx.ModelProto, tmp_path: Path) -> None:
    assert weight_bearing(int8).int8 == ("stem", "depth", "point", "head")
    found = kernels(int8, tmp_path)
    assert found["QLinearConv"] == 3
    assert found["QGemm"] == 1
    assert {"QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearConcat"} <= set(found)
    assert not {"Conv", "FusedConv", "Gemm", "FusedGemm", "BatchNormalization", "Clip"} & set(found)


def test_answers_stay_near_the_original(int8: onnx.ModelProto) -> None:
    assert relative_error(network(), int8) < 0.06


def test_a_step_for_each_channel_keeps_small_channels() -> None:
    """With one step for all, the smallest of them would be rounded to nothing."""
    weights = next(
        numpy_helper.to_array(t) for t in simplified(network()).graph.initializer if t.name == "w3"
    )
    kept = []
    for per_channel in (True, False):
        made = quantize_static(network(), [samples(4)], per_channel=per_channel)
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
        steps = stored["w3_scale"].reshape(-1, 1, 1, 1)
        smallest = (stored["w3_quantized"] * steps)[-1] - weights[-1]
        kept.append(np.abs(smallest).max() / np.abs(weights[-1]).max())
    assert kept[0] < 0.01
    assert kept[1] > 0.2


def test_weights_are_symmetric_with_their_largest_value_at_level_127(
    int8: onnx.ModelProto,
) -> None:
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in int8.graph.initializer}
    folded = {t.name: numpy_helper.to_array(t) for t in simplified(network()).graph.initializer}
    for name in ("w2", "w3", "w4"):
        levels = stored[f"{name}_quantized"]
        assert levels.dtype == np.int8
        assert not stored[f"{name}_zero_point"].any()
        largest = np.abs(levels).reshape(len(levels), -1).max(axis=1)
        assert (largest == 127).all()
        steps = stored[f"{name}_scale"].reshape(-1, *[1] * (levels.ndim - 1))
        assert np.abs(levels * steps - folded[name]).max() <= 0.5001 * steps.max()


@pytest.mark.parametrize("activation", ["uint8", "int8"])
def test_both_types_of_activations_answer_alike(activation: str, tmp_path: Path) -> None:
    made = quantize_static(network(), [samples()], activation=activation)  # type: ignore[arg-type]
    assert relative_error(network(), made) < 0.06
    kinds = {
        numpy_helper.to_array(tensor).dtype.name
        for tensor in made.graph.initializer
        if tensor.name == "a3_zero_point"
    }
    assert kinds == {activation}


def test_the_batch_stays_open_and_names_stay(int8: onnx.ModelProto) -> None:
    model = load(int8)
    assert (model.input.name, model.outputs[0].name) == ("x", "y")
    for count in (1, 3):
        assert outputs(int8, samples(count)).shape == (count, 5)
    cuts = {cut.tensor for cut in find_cuts(model)}
    assert "a3_QuantizeLinear_Output" in cuts


@pytest.mark.parametrize(
    ("exclude", "floating"),
    [
        (["first"], ("stem",)),
        (["last"], ("head",)),
        (["first", "last"], ("stem", "head")),
        (["point"], ("point",)),
        (["Conv"], ("stem", "depth", "point")),
    ],
    ids=str,
)
def test_what_is_excluded_stays_in_float(exclude: list[str], floating: tuple[str, ...]) -> None:
    made = quantize_static(network(), [samples(4)], exclude=exclude)
    assert weight_bearing(made).floating == floating
    assert relative_error(network(), made) < 0.08


def test_wider_batches_do_not_change_the_model() -> None:
    """Samples may come one at a time or together, from a generator that is read once."""
    x = samples(8)
    together = quantize_static(network(), [x])
    apart = quantize_static(network(), (x[i : i + 1] for i in range(8)))
    for a, b in zip(together.graph.initializer, apart.graph.initializer, strict=True):
        assert a.name == b.name
        np.testing.assert_allclose(numpy_helper.to_array(a), numpy_helper.to_array(b), rtol=1e-4)


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_outliers_are_held_off(method: str) -> None:
    """One mad value in a thousand would cost all others most of their levels."""
    x = samples(16)
    x[0, 0, 0, 0] = 400.0
    plain = quantize_static(network(), [x])
    held = quantize_static(network(), [x], method=method)  # type: ignore[arg-type]
    assert relative_error(network(), held) < 0.7 * relative_error(network(), plain)


def test_nothing_is_printed_or_logged_and_no_file_stays(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    caplog.set_level(logging.DEBUG)
    quantize_static(network(), [samples(4)])
    assert (capfd.readouterr().out, capfd.readouterr().err, caplog.records) == ("", "", [])
    assert list(tmp_path.iterdir()) == []
    assert logging.root.manager.disable == logging.NOTSET


def test_an_old_operator_set_is_converted() -> None:
    text = """<ir_version: 6, opset_import: ["" : 11]>
    g (float[N, 8] x) => (float[N, 4] y) {h = MatMul(x, w) y = Relu(h)}"""
    proto = onnx.parser.parse_model(text)
    give(proto, "w", np.random.default_rng(0).normal(size=(8, 4)))
    x = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32)
    made = quantize_static(proto, [x])
    assert len(weight_bearing(made).int8) == 1
    assert np.abs(outputs(made, x) - outputs(proto, x)).max() < 0.1


def test_the_batch_may_be_on_another_axis() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[5, N, 8] x) => (float[5, N, 4] y) {h = MatMul(x, w) y = Relu(h)}"""
    proto = onnx.parser.parse_model(text)
    give(proto, "w", np.random.default_rng(0).normal(size=(8, 4)))
    x = np.random.default_rng(1).normal(size=(5, 6, 8)).astype(np.float32)
    made = quantize_static(proto, [x])
    assert np.abs(outputs(made, x) - outputs(proto, x)).max() < 0.1


def test_what_integers_cannot_compute_stays_in_float() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 2, 4, 4] x) => (float[N, 4] y) {
      [up] u = ConvTranspose<strides=[2,2], kernel_shape=[2,2]>(x, wt)
      d = Cast<to=11>(u)
      e = Sqrt(d)
      h = Cast<to=1>(u)
      [down] c = Conv(h, wc)
      p = GlobalAveragePool(c)
      y = Flatten(p)
      z = Flatten(e)
    }"""
    proto = onnx.parser.parse_model(text)
    give(proto, "wt", np.random.default_rng(0).normal(size=(2, 3, 2, 2)))
    give(proto, "wc", np.random.default_rng(0).normal(size=(4, 3, 1, 1)))
    made = quantize_static(proto, [np.ones((2, 2, 4, 4), np.float32)])
    held = weight_bearing(made)
    assert (held.int8, held.floating) == (("down",), ("up",))


def test_double_precision_is_refused_by_name() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (double[N, 8] x) => (double[N, 4] y) {y = MatMul(x, w)}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((8, 4)), "w"))
    with pytest.raises(ModelError, match="weights 'w' are double"):
        quantize_static(proto, [np.ones((2, 8))])


def test_the_processor_decides_the_type_of_activations() -> None:
    assert default_activation("AMD64") == "uint8"
    assert default_activation("arm64") == "int8"
    assert is_quantized(quantize_static(network(), [samples(2)]))


def test_ranges_are_those_of_the_runtimes_own_calibrator(tmp_path: Path) -> None:
    """The whole against `onnxruntime.quantization.quantize_static`, which keeps all in memory."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType
    from onnxruntime.quantization import quantize_static as reference

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = [{"x": one[None]} for one in samples(6)]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self._left.pop(0) if self._left else None

    own = quantize_static(network(), [samples(6)], activation="uint8")
    onnx.save(simplified(network()), tmp_path / "simple.onnx")
    logging.disable(logging.WARNING)
    reference(
        str(tmp_path / "simple.onnx"),
        str(tmp_path / "reference.onnx"),
        Reader(),
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    logging.disable(logging.NOTSET)
    theirs = outputs(onnx.load(tmp_path / "reference.onnx"), samples(32, seed=3))
    found = outputs(own, samples(32, seed=3))
    assert np.std(found - theirs) < 0.02 * np.std(theirs)
    assert ort.__version__
