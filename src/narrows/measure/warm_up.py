"""Warm-up: call until it no longer gets faster, and say whether it settled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from narrows.measure.contender import Clock, Contender

_LIMIT_S = 5.0
_AGREEMENT = 0.02
_WINDOW_CALLS = 5
_WINDOW_S = 0.01


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """How a warm-up ended.

    Args:
        settled: Whether two windows one after the other agreed to 2 % before five seconds were up.
        call_s: Wall time of a call in the last window.
    """

    settled: bool
    call_s: float


def warm_up(contender: Contender, clock: Clock) -> WarmUp:
    """Call until the medians of two consecutive windows agree to 2 %, at most five seconds.

    One thread is judged by CPU time, so that other load does not look like warming up.
    """
    until_ns = clock.wall_ns() + int(_LIMIT_S * 1e9)
    last_s = float("inf")
    while True:
        wall_s, cpu_s = contender.call(min_calls=_WINDOW_CALLS, seconds=_WINDOW_S)
        median_s = float(np.median(cpu_s if contender.threads == 1 else wall_s))
        settled = abs(median_s - last_s) <= _AGREEMENT * median_s
        if settled or clock.wall_ns() >= until_ns:
            return WarmUp(settled=settled, call_s=float(np.median(wall_s)))
        last_s = median_s
