"""Coding: arrays to bytes and back. Transform, quantizer and coder are three independent axes."""

from narrows.coding.arrays import ArrayCodec
from narrows.coding.base import Codec, Coder, FittedCodec, Fitter, Quantizer, Table, Transform, fit
from narrows.coding.coders import CODERS
from narrows.coding.images import ImageCodec
from narrows.coding.quantizers import QUANTIZERS
from narrows.coding.transforms import TRANSFORMS

__all__ = [
    "CODERS",
    "QUANTIZERS",
    "TRANSFORMS",
    "ArrayCodec",
    "Codec",
    "Coder",
    "FittedCodec",
    "Fitter",
    "ImageCodec",
    "Quantizer",
    "Table",
    "Transform",
    "fit",
]
