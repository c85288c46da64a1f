"""Coders: integers to bytes, exactly. One line per member."""

from narrows.coding.base import Coder
from narrows.coding.coders.ans import Ans
from narrows.coding.coders.huffman import Huffman
from narrows.coding.coders.raw import Raw

CODERS: dict[str, type[Coder]] = {
    Ans.name: Ans,
    Huffman.name: Huffman,
    Raw.name: Raw,
}

__all__ = ["CODERS", "Ans", "Huffman", "Raw"]
