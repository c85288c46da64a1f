"""LiteRT (the former TensorFlow Lite) on the processor, with its XNNPACK kernels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from narrows.errors import ModelError
from narrows.measure.backends.base import Backend, Input, Loaded, told_precision

if TYPE_CHECKING:
    from narrows.measure.backends.base import Array

_WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"})
_KINDS = {"float32": "f32", "float16": "f16", "int8": "i8", "uint8": "i8"}


@final
class LiteRt(Backend):
    """LiteRT's interpreter."""

    name: ClassVar[str] = "litert"
    package: ClassVar[str] = "ai_edge_litert"
    distribution: ClassVar[str] = "ai-edge-litert"
    extra: ClassVar[str] = "litert"
    suffixes: ClassVar[tuple[str, ...]] = (".tflite",)

    def bring_in(self) -> None:
        """Import LiteRT's interpreter."""
        import ai_edge_litert.interpreter  # noqa: F401

    def load(self, path: Path, *, threads: int) -> Loaded:
        """Make an interpreter.

        Raises:
            ModelError: LiteRT does not take the model.
        """
        return _Interpreted(path, threads)


@final
class _Interpreted(Loaded):
    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"LiteRT does not take the file: {error}") from error
        details = self._interpreter.get_input_details()
        self._places = {detail["name"]: detail["index"] for detail in details}
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.inputs = tuple(_input(detail) for detail in details)

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        try:
            self._fit(feeds)
            for name, value in feeds.items():
                self._interpreter.set_tensor(self._places[name], value)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"LiteRT failed: {error}") from error
        return [self._interpreter.get_tensor(place) for place in self._outputs]

    def precision(self) -> str:
        """From the types that the weight-bearing operators read."""
        types = {
            detail["index"]: str(detail["dtype"]().dtype)
            for detail in self._interpreter.get_tensor_details()
        }
        kinds = [
            types.get(operator["inputs"][0], "?")
            for operator in self._interpreter._get_ops_details()
            if operator["op_name"] in _WEIGHTED
        ]
        return told_precision([_KINDS.get(kind, kind) for kind in kinds])

    def _fit(self, feeds: Mapping[str, Array]) -> None:
        """Give open axes the size of what is fed, once."""
        changed = False
        for name, value in feeds.items():
            if self._shapes.get(name) != value.shape:
                self._interpreter.resize_tensor_input(self._places[name], value.shape)
                self._shapes[name] = value.shape
                changed = True
        if changed:
            self._interpreter.allocate_tensors()


def _input(detail: Mapping[str, Any]) -> Input:
    open_axes = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    return Input(
        name=detail["name"],
        shape=tuple(int(size) if size > 0 else None for size in open_axes),
        dtype=str(detail["dtype"]().dtype),
    )
