"""OpenVINO on the processor, its arithmetic pinned to what the file says.

Left alone it computes float32 networks in bfloat16 where the processor can, and rounds the data of
layers whose weights are stored in 8 bits to 8 bits too, both silently; the settings below keep such
arithmetic in float32. Int8 operators stay int8.

A model is compiled for the shapes it is fed. With an open batch OpenVINO 2026.4 computes int8
networks wrong whose graph computes the indices of a flattening from the input's shape, as torch's
exporter writes it for weights with their channels last (four of nine trained networks lost 9 to 33
points of accuracy), and most int8 networks slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, final

from narrows.errors import ModelError
from narrows.measure.backends.base import Backend, Input, Loaded, told_precision

if TYPE_CHECKING:
    from narrows.measure.backends.base import Array

_Shapes: TypeAlias = tuple[tuple[int, ...], ...]
_KEPT = 4  # compiled shapes: the last batch of a set is often smaller
_WEIGHTED = frozenset(
    {"Convolution", "GroupConvolution", "Deconvolution", "FullyConnected", "MatMul"}
    | {"RNNCell", "RNNSeq", "LSTMCell", "GRUCell"}
)


@final
class OpenVino(Backend):
    """OpenVINO's processor plugin."""

    name: ClassVar[str] = "openvino"
    package: ClassVar[str] = "openvino"
    distribution: ClassVar[str] = "openvino"
    extra: ClassVar[str] = "openvino"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx", ".tflite", ".xml")
    revision: ClassVar[int] = 2

    def bring_in(self) -> None:
        """Import OpenVINO."""
        import openvino  # noqa: F401

    def load(self, path: Path, *, threads: int) -> Loaded:
        """Compile the model for the processor.

        Raises:
            ModelError: OpenVINO does not take it.
        """
        return _Compiled(path, threads)


@final
class _Compiled(Loaded):
    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        self._settings: dict[str, object] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._core = openvino.Core()
        self._requests: dict[_Shapes, Any] = {}
        try:
            self._model = self._core.read_model(path)
        except RuntimeError as error:
            raise _refused(error) from error
        self.inputs = tuple(_input(port) for port in self._model.inputs)
        # One sample, until something else is fed; -1 leaves an axis open.
        self._request(
            tuple(
                tuple(axis or (-1 if place else 1) for place, axis in enumerate(one.shape))
                for one in self.inputs
            )
        )

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        request = self._request(tuple(feeds[one.name].shape for one in self.inputs))
        try:
            found = request.infer(dict(feeds), share_inputs=True)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO failed: {_message(error)}") from error
        return [found[port] for port in self._compiled.outputs]

    def _request(self, shapes: _Shapes) -> Any:
        """What runs the model on inputs of these shapes, compiled at the first of them."""
        if shapes not in self._requests:
            model = self._model.clone()
            names = [one.name for one in self.inputs]
            try:
                model.reshape(dict(zip(names, shapes, strict=True)))
                compiled = self._core.compile_model(model, "CPU", self._settings)
            except (RuntimeError, TypeError) as error:
                raise _refused(error) from error
            self._requests = dict([*self._requests.items()][-_KEPT + 1 :])
            self._requests[shapes] = compiled, compiled.create_infer_request()
        self._compiled, request = self._requests[shapes]
        return request

    def precision(self) -> str:
        """From the kernels that the compiled graph executes, e.g. "brgconv_avx512_amx_I8".

        Its runtimePrecision is the type of the weights where only they are stored in 8 bits.
        """
        kinds = []
        for operator in self._compiled.get_runtime_model().get_ordered_ops():
            facts = operator.get_rt_info()
            if _fact(facts, "layerType") in _WEIGHTED:
                kinds.append(_fact(facts, "primitiveType").rpartition("_")[2].lower())
        return told_precision(["i8" if kind in ("i8", "u8") else kind for kind in kinds])


def _refused(error: BaseException) -> ModelError:
    return ModelError(f"OpenVINO does not take the file: {_message(error)}")


def _fact(facts: Any, name: str) -> str:
    return str(facts[name].astype(str)) if name in facts else ""


def _input(port: Any) -> Input:
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        raise ModelError(f"input {port.any_name!r} has no known number of axes: export it with one")
    return Input(
        name=port.any_name,
        shape=tuple(axis.get_length() if axis.is_static else None for axis in shape),
        dtype=str(port.element_type.to_dtype()),
    )


def _message(error: BaseException) -> str:
    """The line of OpenVINO's many that says something."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return (told or lines or [type(error).__name__])[-1][:400]
