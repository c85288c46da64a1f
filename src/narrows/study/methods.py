"""How a variant is made of its original: the table of methods a study's file may name.

A method is a name, a function from the checked original and samples to a model, and a version,
which is raised when what the function makes changes, so that kept models are made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, final

import onnx
from numpy.typing import NDArray

from narrows.graph.load import Model
from narrows.graph.quantize import quantize_static
from narrows.graph.quantize_weights import quantize_weights

Array = NDArray[Any]
Make = Callable[[Model, Sequence[Array]], onnx.ModelProto]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VariantMethod:
    """One way to make a variant.

    Args:
        name: What a study's file calls it.
        summary: What it does, in a line.
        calibrated: Whether it looks at samples.
        version: Of what it makes.
        make: (original, batches of samples in its input's layout) → model.
    """

    name: str
    summary: str
    calibrated: bool
    version: int
    make: Make


def _int8(model: Model, samples: Sequence[Array]) -> onnx.ModelProto:
    return quantize_static(model, samples)


def _weights(model: Model, samples: Sequence[Array]) -> onnx.ModelProto:
    return quantize_weights(model)


METHODS: Final[Mapping[str, VariantMethod]] = MappingProxyType(
    {
        method.name: method
        for method in (
            VariantMethod(
                name="int8",
                summary="weights and activations of 8 bits, computed in integers",
                calibrated=True,
                version=2,
                make=_int8,
            ),
            VariantMethod(
                name="weights",
                summary="weights of 8 bits in the file, computed in floats",
                calibrated=False,
                version=1,
                make=_weights,
            ),
        )
    }
)
