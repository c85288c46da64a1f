"""Quantizers: numbers to integers and back. One line per member."""

from narrows.coding.base import Quantizer
from narrows.coding.quantizers.affine import Affine
from narrows.coding.quantizers.scaled import Scaled
from narrows.coding.quantizers.uniform import Uniform

QUANTIZERS: dict[str, type[Quantizer]] = {
    Affine.name: Affine,
    Scaled.name: Scaled,
    Uniform.name: Uniform,
}

__all__ = ["QUANTIZERS", "Affine", "Scaled", "Uniform"]
