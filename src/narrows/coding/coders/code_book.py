"""Canonical Huffman codes of a few groups of components, as arrays.

A *token* is the class of a zero run joined with the class and sign of the value after it. Two
more tokens are in every code: the end of a group, and the escape, after which the classes of
a token without a code of its own follow as plain bits.
"""

from __future__ import annotations

import heapq
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from narrows.coding.base import Table
from narrows.coding.coders.grouping import MAX_GROUPS
from narrows.coding.coders.symbols import table_array
from narrows.coding.transforms.zero_runs import CLASSES
from narrows.errors import CorruptData

SIGNED_CLASSES = 2 * CLASSES
END = CLASSES * SIGNED_CLASSES
ESCAPE = END + 1
ALPHABET = ESCAPE + 1
MAX_LENGTH = 31
MAX_TOKENS = 4096
"""Most tokens with a code in one group; rarer ones are escaped."""
MAX_TOTAL = 2**16
"""Counts of a code sum to at most this, which keeps its lengths below 31 (Fibonacci)."""


class CodeBook(NamedTuple):
    """What encoding and decoding look up. Token t of group g has the flat index g * ALPHABET + t.

    Attributes:
        order: Components sorted by group (components,).
        edges: Where each group begins in that order, and the end (groups + 1,).
        lengths: Code length of every flat index, zero without a code.
        codes: Code of every flat index.
        counts: For each group, the number of codes of each length, as bitarray takes it.
        tokens: For each group, its tokens in canonical order.
    """

    order: NDArray[np.int64]
    edges: NDArray[np.int64]
    lengths: NDArray[np.uint8]
    codes: NDArray[np.uint32]
    counts: list[list[int]]
    tokens: list[list[int]]


def read_code_book(components: int, table: Table) -> CodeBook:
    """The code book of a table.

    Raises:
        CorruptData: The table does not hold complete canonical codes for so many components.
    """
    groups = table_array(table, "groups", np.uint8, (components,))
    counts = table_array(table, "counts", np.int32, (None, MAX_LENGTH + 1))
    tokens = table_array(table, "tokens", np.uint16, (None,))
    n_groups = len(counts)
    if not 1 <= n_groups <= MAX_GROUPS or tokens.size > n_groups * MAX_TOKENS:
        msg = (
            f"{n_groups} Huffman codes with {tokens.size} tokens found in the table, 1 to "
            f"{MAX_GROUPS} codes can be; fit it again"
        )
        raise CorruptData(msg)
    return _code_book(groups.tobytes(), counts.tobytes(), tokens.tobytes())


@lru_cache(maxsize=8)
def _code_book(groups_bytes: bytes, counts_bytes: bytes, tokens_bytes: bytes) -> CodeBook:
    """The code book, kept for the next call: a link uses one table for thousands of payloads."""
    groups = np.frombuffer(groups_bytes, np.uint8).astype(np.int64)
    counts = np.frombuffer(counts_bytes, np.int32).reshape(-1, MAX_LENGTH + 1).astype(np.int64)
    tokens = np.frombuffer(tokens_bytes, np.uint16).astype(np.int64)
    weights = 1 << (MAX_LENGTH - np.arange(MAX_LENGTH + 1))
    bounded = groups.max() < len(counts) and counts.min() >= 0 and counts.max() <= ALPHABET
    complete = bounded and (counts[:, 0] == 0).all() and (counts @ weights == 1 << MAX_LENGTH).all()
    if not complete or counts.sum() != tokens.size or tokens.max() >= ALPHABET:
        msg = "the Huffman table does not hold complete codes of its components; fit it again"
        raise CorruptData(msg)
    sizes = counts.sum(1)
    group_of = np.repeat(np.arange(len(counts)), sizes)
    flat = group_of * ALPHABET + tokens
    lengths = np.zeros(len(counts) * ALPHABET, np.uint8)
    each = np.repeat(np.tile(np.arange(MAX_LENGTH + 1), len(counts)), counts.reshape(-1))
    lengths[flat] = each
    rows = lengths.reshape(len(counts), ALPHABET)
    if np.count_nonzero(lengths) != flat.size or not rows[:, [END, ESCAPE]].all():
        msg = "a Huffman code has a token twice, or lacks its end or escape; fit it again"
        raise CorruptData(msg)
    # Left-aligned, a canonical code is the sum of the widths of the codes before it.
    shares = weights[each]
    position = (np.cumsum(shares) - shares) & ((1 << MAX_LENGTH) - 1)
    codes = np.zeros(lengths.size, np.uint32)
    codes[flat] = position >> (MAX_LENGTH - each)
    ends = np.cumsum(sizes)
    return CodeBook(
        order=np.argsort(groups, kind="stable"),
        edges=np.searchsorted(np.sort(groups), np.arange(len(counts) + 1)),
        lengths=lengths,
        codes=codes,
        counts=[row.tolist() for row in counts],
        tokens=[tokens[end - size : end].tolist() for end, size in zip(ends, sizes, strict=True)],
    )


def code_table(groups: NDArray[np.uint8], histograms: NDArray[np.int64]) -> Table:
    """The table of the best codes for token counts (groups, ALPHABET).

    The end is counted by the caller. The escape is given as many counts as there are tokens that
    were seen once: that is the share of unseen tokens to expect (Good-Turing).
    """
    counts = np.zeros((len(histograms), MAX_LENGTH + 1), np.int32)
    tokens = []
    for group, histogram in enumerate(histograms):
        seen = histogram.copy()
        rare = np.argsort(-seen[:END], kind="stable")[MAX_TOKENS - 2 :]
        seen[ESCAPE] = max(1, int((histogram == 1).sum()), int(seen[rare].sum()))
        seen[rare] = 0
        seen[END] = max(1, seen[END])
        present = np.flatnonzero(seen)
        lengths = _code_lengths(_scaled(seen[present]))
        counts[group] = np.bincount(lengths, minlength=MAX_LENGTH + 1)
        tokens.append(present[np.lexsort((present, lengths))])
    return {
        "groups": groups,
        "counts": counts,
        "tokens": np.concatenate(tokens).astype(np.uint16),
    }


def _scaled(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts with a sum of at most 2**16, none below one."""
    limit = MAX_TOTAL
    scaled = counts
    while scaled.sum() > MAX_TOTAL:
        scaled = np.maximum(counts * limit // int(counts.sum()), 1)
        limit -= int(scaled.sum() - MAX_TOTAL)
    return scaled


def _code_lengths(counts: NDArray[Any]) -> NDArray[np.int64]:
    """Huffman's code lengths; equal weights are merged in the order they came."""
    heap = [(int(count), index, [index]) for index, count in enumerate(counts)]
    heapq.heapify(heap)
    lengths = np.zeros(len(heap), np.int64)
    serial = len(heap)
    while len(heap) > 1:
        first_count, _, first = heapq.heappop(heap)
        second_count, _, second = heapq.heappop(heap)
        merged = first + second
        lengths[merged] += 1
        heapq.heappush(heap, (first_count + second_count, serial, merged))
        serial += 1
    return lengths
