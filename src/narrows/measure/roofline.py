"""What this machine can do at best: multiply-accumulates per second, and bytes.

The peaks are those of the runtime's own kernels on large operands (matrix products and
convolutions in float32 and in 8-bit integers), and of copying memory: what no cache holds, and
less, which some cache does. No operator of a model can be expected to beat them.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Final, Literal, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from narrows.graph.ort import run, session
from narrows.measure.environment import environment

Limit = Literal["arithmetic", "memory"]

_HEADER: Final = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>\n'
_LEAST_RUNS: Final = 5
_ENOUGH_S: Final = 0.2
# Read and written by one copy: what caches of one level after the other hold, then what none does.
_CACHED_BYTES: Final = (256 << 10, 1 << 20, 4 << 20, 16 << 20)
_MEMORY_BYTES: Final = (128 << 20, 512 << 20)  # least and most of the last

# Kernel → (graph, weight shape, multiply-accumulates per weight). Sizes at which kernels are near
# their best and a small board still answers within a second.
_FLOAT: Final[Mapping[str, tuple[str, tuple[int, ...], int]]] = {
    "MatMul": (
        "g (float[512, 1024] x) => (float[m, n] y) {y = MatMul(x, w)}",
        (1024, 1024),
        512,
    ),
    "Conv": (
        "g (float[1, 256, 28, 28] x) => (float[n, c, h, w] y) "
        "{y = Conv<pads = [1, 1, 1, 1]>(x, w)}",
        (256, 256, 3, 3),
        784,
    ),
}
_INT8: Final[Mapping[str, tuple[str, tuple[int, ...], int]]] = {
    "MatMulInteger": (
        "g (uint8[512, 1024] x) => (int32[m, n] y) {y = MatMulInteger(x, w, z, v)}",
        (1024, 1024),
        512,
    ),
    "QGemm": (
        "g (uint8[512, 1024] x) => (uint8[m, n] y) "
        "{y = com.microsoft.QGemm(x, s, z, w, s, v, , s, z)}",
        (1024, 1024),
        512,
    ),
    "QLinearConv": (
        "g (uint8[1, 256, 28, 28] x) => (uint8[n, c, h, w] y) "
        "{y = QLinearConv<pads = [1, 1, 1, 1]>(x, s, z, w, s, v, s, z)}",
        (256, 256, 3, 3),
        784,
    ),
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """The limits of a machine.

    Args:
        macs_per_s: Float32 multiply-accumulates per second.
        int8_macs_per_s: The same in 8-bit integers.
        bandwidth_bytes_per_s: Bytes read and written per second while copying what no cache holds.
        bandwidths: (bytes read and written, bytes per second) of smaller copies as well, the
            smallest first; each at least as fast as the next.
        kernels: Multiply-accumulates per second of each kernel that was tried.
        threads: Threads that were used.
        environment_key: Of the machine.
    """

    FORMAT: ClassVar[int] = 1

    macs_per_s: float
    int8_macs_per_s: float
    bandwidth_bytes_per_s: float
    bandwidths: tuple[tuple[int, float], ...]
    kernels: Mapping[str, float]
    threads: int
    environment_key: str

    def least_s(self, macs: int, moved_bytes: int, *, int8: bool) -> tuple[float, Limit]:
        """The least time that work can take, and which limit sets it.

        What it moves is taken to lie in the smallest cache that holds it.

        Example:
            >>> roof = Roofline(
            ...     macs_per_s=50e9, int8_macs_per_s=200e9, bandwidth_bytes_per_s=10e9,
            ...     bandwidths=((10**6, 40e9), (10**8, 10e9)),
            ...     kernels={}, threads=1, environment_key="",
            ... )
            >>> roof.least_s(10**9, 10**6, int8=False), roof.least_s(0, 2 * 10**6, int8=False)
            ((0.02, 'arithmetic'), (0.0002, 'memory'))
        """
        arithmetic_s = macs / (self.int8_macs_per_s if int8 else self.macs_per_s)
        fitting = (speed for size, speed in self.bandwidths if moved_bytes <= size)
        memory_s = moved_bytes / next(fitting, self.bandwidth_bytes_per_s)
        if arithmetic_s >= memory_s:
            return arithmetic_s, "arithmetic"
        return memory_s, "memory"


def machine_roofline(*, threads: int = 1) -> Roofline:
    """Measure this machine; a few seconds.

    The best of several runs is taken: a peak is what it can do, and other load only lowers it.

    Args:
        threads: Threads of the runtime and of the copy.
    """
    speeds = {
        name: _macs_per_s(*kernel, threads=threads) for name, kernel in {**_FLOAT, **_INT8}.items()
    }
    bandwidths = _bandwidths(threads)
    return Roofline(
        macs_per_s=max(speeds[name] for name in _FLOAT),
        int8_macs_per_s=max(speeds[name] for name in _INT8),
        bandwidth_bytes_per_s=bandwidths[-1][1],
        bandwidths=bandwidths,
        kernels=speeds,
        threads=threads,
        environment_key=environment(threads=threads).key,
    )


def _macs_per_s(graph: str, shape: tuple[int, ...], macs: int, *, threads: int) -> float:
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(_HEADER + graph)
    given = proto.graph.input[0]
    dims = tuple(dim.dim_value for dim in given.type.tensor_type.shape.dim)
    constants: dict[str, NDArray[Any]] = {"w": rng.standard_normal(shape, dtype=np.float32)}
    x: NDArray[Any] = rng.standard_normal(dims, dtype=np.float32)
    if given.type.tensor_type.elem_type == onnx.TensorProto.UINT8:
        constants = {
            "w": rng.integers(-127, 128, shape).astype(np.int8),
            "s": np.array(0.02, np.float32),
            "z": np.array(128, np.uint8),
            "v": np.array(0, np.int8),
        }
        x = rng.integers(0, 256, dims).astype(np.uint8)
    proto.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items()
    )
    running = session(proto, threads=threads)
    return macs * math.prod(shape) / _best_s(lambda: run(running, {"x": x}), threads)


def _bandwidths(threads: int) -> tuple[tuple[int, float], ...]:
    """Bytes, and bytes per second of copying them, from small to large."""
    known = "SC_LEVEL3_CACHE_SIZE" in os.sysconf_names
    cache = os.sysconf("SC_LEVEL3_CACHE_SIZE") if known else 0
    memory = min(max(4 * cache, _MEMORY_BYTES[0]), _MEMORY_BYTES[1])
    source, target = np.ones(memory // 16), np.empty(memory // 16)
    found: list[tuple[int, float]] = []
    with ThreadPoolExecutor(threads) as pool:
        for size in (memory, *reversed(_CACHED_BYTES)):
            speed = _copy_speed(pool, threads, source[: size // 16], target[: size // 16])
            found.append((size, max(speed, found[-1][1] if found else 0.0)))
    return tuple(reversed(found))


def _copy_speed(
    pool: ThreadPoolExecutor, threads: int, source: NDArray[Any], target: NDArray[Any]
) -> float:
    """Bytes read and written per second by as many threads, each copying its part."""
    edges = [len(source) * i // threads for i in range(threads + 1)]
    times = max(1, _CACHED_BYTES[-1] // (2 * source.nbytes))

    def copy(ends: tuple[int, int]) -> None:
        into, out = target[slice(*ends)], source[slice(*ends)]
        for _ in range(times):
            np.copyto(into, out)

    parts = list(pairwise(edges))
    return 2 * source.nbytes * times / _best_s(lambda: list(pool.map(copy, parts)), threads)


def _best_s(work: Callable[[], object], threads: int) -> float:
    """Seconds of the fastest of at least five runs; of one thread by processor time."""
    clock = time.process_time if threads == 1 else time.perf_counter
    work()
    found: list[float] = []
    while len(found) < _LEAST_RUNS or sum(found) < _ENOUGH_S:
        started_s = clock()
        work()
        found.append(clock() - started_s)
    return min(found)
