"""Counts of bits, compiled by numba, with 64 of them in eight vector registers.

    for each word of the input:   count[64] += popcount(panel[word, 64] XOR word)

The inner loop is written for LLVM, in vectors of eight words, and LLVM turns them into what the
processor has: VPOPCNTQ of AVX-512, look-ups of AVX2, CNT of Arm. No index is checked here;
`narrows.binary.layers` has checked all shapes. All of this is one file because numba keeps what it
has compiled on disk until the file of a function changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from narrows.binary.packing import WORD

_LANES: Final = 8
_VECTORS: Final = WORD // _LANES
_INT: Final = ir.IntType(64)
_VECTOR: Final = ir.VectorType(_INT, _LANES)


def _counting(combine: str, *, binary_digits: bool) -> Callable[..., Any]:
    """An intrinsic that adds up the bits of an input combined with the weights of a panel.

    Args:
        combine: How they are combined, as llvmlite's builder names it.
        binary_digits: The first run counts once, the second twice, the next four times.
    """

    def count(
        typing: Any, x: Any, x_skip: Any, w: Any, w_skip: Any, run: Any, steps: Any, counts: Any
    ) -> Any:
        """Bits of `steps` words, at addresses, in runs with words left out between them."""

        def emit(context: Any, build: ir.IRBuilder, _: Any, args: Any) -> ir.Value:
            start = dict(
                zip(("left", "run", "x", "w"), (args[5], args[4], *args[0:4:2]), strict=True)
            )
            skips = {"x": build.mul(args[1], _INT(8)), "w": build.mul(args[3], _INT(8 * WORD))}
            sums = _emit_count(build, combine, start, skips, binary_digits)
            for number, value in enumerate(sums):
                build.store(value, _place(build, args[6], number), align=8)
            return context.get_dummy_value()

        return numba.void(*[numba.intp] * 7), emit

    return intrinsic(count)  # type: ignore[no-any-return]


def _emit_count(
    build: ir.IRBuilder,
    combine: str,
    start: dict[str, ir.Value],
    skips: dict[str, ir.Value],
    binary_digits: bool,
) -> list[ir.Value]:
    """One loop over words whose 64 counts are eight vectors in registers."""
    before, loop = build.block, build.append_basic_block("words")
    after = build.append_basic_block("counted")
    build.branch(loop)
    build.position_at_end(loop)
    state = {name: build.phi(_INT) for name in (*start, "digit")}
    sums = [build.phi(_VECTOR) for _ in range(_VECTORS)]
    for name, phi in state.items():
        phi.add_incoming(start.get(name, _INT(0)), before)
    for phi in sums:
        phi.add_incoming(ir.Constant(_VECTOR, None), before)
    seen = _spread(build, build.load(build.inttoptr(state["x"], _INT.as_pointer()), typ=_INT))
    kind = ir.FunctionType(_VECTOR, [_VECTOR])
    popcount = cgutils.get_or_insert_function(build.module, kind, f"llvm.ctpop.v{_LANES}i64")
    digits = _spread(build, state["digit"])
    added = []
    for number, phi in enumerate(sums):
        bits = getattr(build, combine)(_load(build, state["w"], number), seen)
        count = build.call(popcount, [bits])
        added.append(build.add(phi, build.shl(count, digits) if binary_digits else count))
    ends = build.icmp_signed("==", state["run"], _INT(1))
    moved = {
        "left": build.sub(state["left"], _INT(1)),
        "run": build.select(ends, start["run"], build.sub(state["run"], _INT(1))),
        "digit": build.add(state["digit"], build.zext(ends, _INT)),
    }
    for name, step in (("x", 8), ("w", 8 * WORD)):
        skipped = build.select(ends, skips[name], _INT(0))
        moved[name] = build.add(state[name], build.add(skipped, _INT(step)))
    for name, phi in state.items():
        phi.add_incoming(moved[name], build.block)
    for phi, value in zip(sums, added, strict=True):
        phi.add_incoming(value, build.block)
    build.cbranch(build.icmp_signed(">", moved["left"], _INT(0)), loop, after)
    build.position_at_end(after)
    return added


@intrinsic  # type: ignore[untyped-decorator]
def _at_least(typing: Any, sums: Any, thresholds: Any) -> Any:
    """Which of 64 sums, at an address, reach their thresholds: a word."""

    def emit(context: Any, build: ir.IRBuilder, _: Any, args: Any) -> ir.Value:
        word = _INT(0)
        for number in range(_VECTORS):
            pair = [_load(build, start, number) for start in args]
            reached = build.bitcast(build.icmp_signed(">=", *pair), ir.IntType(_LANES))
            shifted = build.shl(build.zext(reached, _INT), _INT(number * _LANES))
            word = build.or_(word, shifted)
        return word

    return numba.uint64(numba.intp, numba.intp), emit


def _spread(build: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A word in every lane of a vector."""
    empty, zero = ir.Constant(_VECTOR, ir.Undefined), ir.IntType(32)(0)
    places = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), None)
    return build.shuffle_vector(build.insert_element(empty, value, zero), empty, places)


def _place(build: ir.IRBuilder, start: ir.Value, number: int) -> ir.Value:
    """Pointer to a vector that stands so many vectors after an address."""
    address = build.add(start, _INT(number * _LANES * 8))
    return build.inttoptr(address, _VECTOR.as_pointer())


def _load(build: ir.IRBuilder, start: ir.Value, number: int) -> ir.Value:
    return build.load(_place(build, start, number), typ=_VECTOR, align=8)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled at its first call, and kept beside Python's own caches if it can be."""
    try:
        return numba.njit(nogil=True, cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # no place for the cache
        return numba.njit(nogil=True)(function)  # type: ignore[no-any-return]


_differing = _counting("xor", binary_digits=False)
_common = _counting("and_", binary_digits=True)


@_compiled
def _window_sums(x, panels, moves, channels, number, place, sums):  # type: ignore[no-untyped-def]
    """Sums of one panel over one window, places outside the picture left out."""
    _, height, width, words = x.shape
    _, tall, wide, _, _ = panels.shape
    sample, down, across = place
    top, left = down * moves[0] - moves[2], across * moves[1] - moves[3]
    first, last = max(0, -top), min(tall, height - top)
    begin, end = max(0, -left), min(wide, width - left)
    rows, columns = last - first, end - begin
    at_x = ((sample * height + top + first) * width + left + begin) * words
    at_w = ((number * tall + first) * wide + begin) * words
    run = columns * words
    _differing(
        np.intp(x.ctypes.data) + 8 * at_x,
        (width - columns) * words,
        np.intp(panels.ctypes.data) + 512 * at_w,
        (wide - columns) * words,
        run,
        rows * run,
        np.intp(sums.ctypes.data),
    )
    inputs = channels * rows * columns
    for lane in range(64):
        sums[lane] = inputs - 2 * sums[lane]


@_compiled
def sign_bits(x, panels, moves, channels, thresholds, flips, out):  # type: ignore[no-untyped-def]
    """Signs of every window, panel by panel, so that its weights stay in the cache."""
    sums = np.empty(64, np.int64)
    count, height, width, _ = out.shape
    for number in range(len(panels)):
        limits = np.intp(thresholds.ctypes.data) + 512 * number
        for sample in range(count):
            for down in range(height):
                for across in range(width):
                    place = (sample, down, across)
                    _window_sums(x, panels, moves, channels, number, place, sums)
                    reached = _at_least(np.intp(sums.ctypes.data), limits)
                    out[sample, down, across, number] = reached ^ flips[number]


@_compiled
def sign_sums(x, panels, moves, channels, out):  # type: ignore[no-untyped-def]
    """Sums of every window, those of what is no output too."""
    sums = np.empty(64, np.int64)
    count, height, width, _ = out.shape
    for number in range(len(panels)):
        for sample in range(count):
            for down in range(height):
                for across in range(width):
                    place = (sample, down, across)
                    _window_sums(x, panels, moves, channels, number, place, sums)
                    for lane in range(64):
                        out[sample, down, across, 64 * number + lane] = sums[lane]


@_compiled
def _transposed(x):  # type: ignore[no-untyped-def]
    """The bits of a word as a matrix of 8 × 8, rows for columns."""
    for shift, mask in (
        (7, 0x00AA00AA00AA00AA),
        (14, 0x0000CCCC0000CCCC),
        (28, 0x00000000F0F0F0F0),
    ):
        swapped = (x ^ (x >> np.uint64(shift))) & np.uint64(mask)
        x ^= swapped ^ (swapped << np.uint64(shift))
    return x


@_compiled
def split(values, planes, totals):  # type: ignore[no-untyped-def]
    """Bytes (n, 64 · words) as bit planes (n, 8, words), and their sums."""
    for row in range(len(values)):
        total = 0
        for word in range(planes.shape[2]):
            for eight in range(8):
                start, matrix = 64 * word + 8 * eight, np.uint64(0)
                for byte in range(8):
                    value = values[row, start + byte]
                    total += value
                    matrix |= np.uint64(value) << np.uint64(8 * byte)
                matrix = _transposed(matrix)
                for bit in range(8):
                    part = (matrix >> np.uint64(8 * bit)) & np.uint64(255)
                    planes[row, bit, word] |= part << np.uint64(8 * eight)
        totals[row] = total


@_compiled
def _plane_sums(planes, total, panels, number, row, sums):  # type: ignore[no-untyped-def]
    """Sums of one panel over the bit planes of one window; the panel is read once for each."""
    words = planes.shape[2]
    _common(
        np.intp(planes.ctypes.data) + 64 * words * row,
        0,
        np.intp(panels.ctypes.data) + 512 * words * number,
        -words,
        words,
        8 * words,
        np.intp(sums.ctypes.data),
    )
    for lane in range(64):
        sums[lane] = 2 * sums[lane] - total


@_compiled
def byte_bits(planes, totals, panels, thresholds, flips, out):  # type: ignore[no-untyped-def]
    """Signs of every window (n, panels)."""
    sums = np.empty(64, np.int64)
    for number in range(len(panels)):
        limits = np.intp(thresholds.ctypes.data) + 512 * number
        for row in range(len(planes)):
            _plane_sums(planes, totals[row], panels, number, row, sums)
            out[row, number] = _at_least(np.intp(sums.ctypes.data), limits) ^ flips[number]


@_compiled
def byte_sums(planes, totals, panels, out):  # type: ignore[no-untyped-def]
    """Sums of every window (n, 64 · panels)."""
    sums = np.empty(64, np.int64)
    for number in range(len(panels)):
        for row in range(len(planes)):
            _plane_sums(planes, totals[row], panels, number, row, sums)
            for lane in range(64):
                out[row, 64 * number + lane] = sums[lane]
