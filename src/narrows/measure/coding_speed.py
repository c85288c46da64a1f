"""How fast this machine codes: symbols of a feature, and pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from narrows.coding import CODERS, Coder, ImageCodec
from narrows.coding.base import fit
from narrows.measure.latency import Schedule, compare

_SMALL, _LARGE = (20, 7, 7), (80, 14, 14)
_PICTURE = (224, 224, 3)
_FORMATS = ("jpeg", "webp", "avif")
_SCHEDULE = Schedule(target=None, rounds=6, round_s=0.01, min_calls=1, session_s=0.5)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CodingSpeed:
    """Processor times of coding, all by one thread.

    Args:
        encode_s_per_symbol, encode_overhead_s: A payload of n symbols takes n times the first
            plus the second.
        decode_s_per_symbol: The same, decoding.
        picture_encode_s_per_pixel, picture_decode_s_per_pixel: By picture format.
    """

    encode_s_per_symbol: float
    encode_overhead_s: float
    decode_s_per_symbol: float
    picture_encode_s_per_pixel: dict[str, float]
    picture_decode_s_per_pixel: dict[str, float]


def coding_speed(*, coder: str = "ans", seed: int = 0) -> CodingSpeed:
    """Time a coder on Laplacian symbols of two sizes, and the picture formats.

    Args:
        coder: Name of the coder.
        seed: Of the symbols and the picture.
    """
    runs: dict[str, Callable[[], object]] = {}
    for title, shape in (("small", _SMALL), ("large", _LARGE)):
        runs.update(_coder_runs(CODERS[coder](), title, shape, seed))
    for kind in _FORMATS:
        runs.update(_picture_runs(kind, seed))
    taken = compare(runs, schedule=_SCHEDULE).measurements
    times_s = {title: record.cpu.median for title, record in taken.items()}
    few, many, pixels = np.prod(_SMALL), np.prod(_LARGE), np.prod(_PICTURE[:2])
    slopes = {
        verb: max(0.0, (times_s[f"{verb} large"] - times_s[f"{verb} small"]) / (many - few))
        for verb in ("encode", "decode")
    }
    return CodingSpeed(
        encode_s_per_symbol=float(slopes["encode"]),
        encode_overhead_s=float(max(0.0, times_s["encode small"] - few * slopes["encode"])),
        decode_s_per_symbol=float(slopes["decode"]),
        picture_encode_s_per_pixel={k: float(times_s[f"encode {k}"] / pixels) for k in _FORMATS},
        picture_decode_s_per_pixel={k: float(times_s[f"decode {k}"] / pixels) for k in _FORMATS},
    )


def _coder_runs(
    coder: Coder, title: str, shape: tuple[int, ...], seed: int
) -> dict[str, Callable[[], object]]:
    rng = np.random.default_rng(seed)
    spread = np.geomspace(2.0, 0.2, shape[0]).reshape(-1, 1, 1)
    symbols = np.rint(rng.laplace(0, spread, (16, *shape))).astype(np.int32)
    table = fit(coder, [symbols])
    payload = coder.encode(symbols[0], table)
    return {
        f"encode {title}": lambda: coder.encode(symbols[0], table),
        f"decode {title}": lambda: coder.decode(payload, shape, table),
    }


def _picture_runs(kind: str, seed: int) -> dict[str, Callable[[], object]]:
    """A smooth picture with some noise, about as hard as a photograph."""
    height, width, channels = _PICTURE
    rng = np.random.default_rng(seed)
    coarse = rng.normal(128, 50, (height // 8, width // 8, channels))
    fine = np.kron(coarse, np.ones((8, 8, 1))) + rng.normal(0, 6, _PICTURE)
    pixels = fine.clip(0, 255).astype(np.uint8)
    codec = ImageCodec(format=kind, quality=75)  # type: ignore[arg-type]
    data = codec.encode(pixels)
    return {
        f"encode {kind}": lambda: codec.encode(pixels),
        f"decode {kind}": lambda: codec.decode(data, _PICTURE),
    }
