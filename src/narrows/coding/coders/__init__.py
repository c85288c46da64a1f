"""Coders: integers to bytes, exactly. One line per member."""

from narrows.coding.base import Coder
from narrows.coding.coders.adaptive import Adaptive
from narrows.coding.coders.ans import Ans
from narrows.coding.coders.huffman import Huffman
from narrows.coding.coders.raw import Raw

CODERS: dict[str, type[Coder]] = {
    Adaptive.name: Adaptive,
    Ans.name: Ans,
    Huffman.name: Huffman,
    Raw.name: Raw,
}

__all__ = ["CODERS", "Adaptive", "Ans", "Huffman", "Raw"]
