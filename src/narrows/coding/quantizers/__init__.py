"""Quantizers: numbers to integers and back. One line per member."""

from narrows.coding.base import Quantizer
from narrows.coding.quantizers.affine import Affine
from narrows.coding.quantizers.codebook import Codebook
from narrows.coding.quantizers.fixed_point import FixedPoint
from narrows.coding.quantizers.product import Product
from narrows.coding.quantizers.residual import Residual
from narrows.coding.quantizers.scaled import Scaled
from narrows.coding.quantizers.sign import Sign
from narrows.coding.quantizers.uniform import Uniform

QUANTIZERS: dict[str, type[Quantizer]] = {
    Affine.name: Affine,
    Codebook.name: Codebook,
    FixedPoint.name: FixedPoint,
    Product.name: Product,
    Residual.name: Residual,
    Scaled.name: Scaled,
    Sign.name: Sign,
    Uniform.name: Uniform,
}

__all__ = [
    "QUANTIZERS",
    "Affine",
    "Codebook",
    "FixedPoint",
    "Product",
    "Residual",
    "Scaled",
    "Sign",
    "Uniform",
]
