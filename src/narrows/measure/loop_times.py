"""Time of loops, which the runtime's profiler disturbs.

It notes every kernel of every step, and a note takes longer than many of these kernels do: an
integer GRU of 32 steps seems to take several times what it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from narrows.measure.operators import OperatorTime

_WARM_UP_CALLS: Final = 2


def with_loop_times(
    times: Sequence[OperatorTime], call: Callable[[], object], *, runs: int, threads: int
) -> tuple[OperatorTime, ...]:
    """Kernels whose loops take what the others leave of a call, shared as the profiler saw them.

    Args:
        times: As the profiler tells them.
        call: Runs the model without the profiler.
        runs: Calls that count, after two that do not.
        threads: Threads inside an operator; of one, processor time is taken.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    calls_s = []
    for _ in range(_WARM_UP_CALLS + runs):
        began_s = clock()
        call()
        calls_s.append(clock() - began_s)
    whole_s = float(np.quantile(calls_s[_WARM_UP_CALLS:], 0.25))
    loops_s = sum(one.time_s for one in times if one.loops_int8)
    left_s = whole_s - sum(one.time_s for one in times if not one.loops_int8)
    factor = min(1.0, max(0.0, left_s / loops_s)) if loops_s else 1.0
    return tuple(
        replace(one, time_s=factor * one.time_s) if one.loops_int8 else one for one in times
    )
