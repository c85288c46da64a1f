"""Runtimes that a model can be measured in, by name. Each imports its library when it is used."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from narrows.errors import MeasureError
from narrows.measure.backends.base import Backend
from narrows.measure.backends.litert import LiteRt
from narrows.measure.backends.onnxruntime import OnnxRuntime
from narrows.measure.backends.openvino import OpenVino

BACKENDS: Final[Mapping[str, Backend]] = MappingProxyType(
    {backend.name: backend for backend in (OnnxRuntime(), OpenVino(), LiteRt())}
)


def backend_of(name: str) -> Backend:
    """The runtime of that name.

    Raises:
        MeasureError: There is none.
    """
    if name not in BACKENDS:
        msg = f"no runtime {name!r}: choose from {', '.join(BACKENDS)}"
        raise MeasureError(msg)
    return BACKENDS[name]
