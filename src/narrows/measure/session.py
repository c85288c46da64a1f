"""One session of measuring: all candidates in the same rounds, then each on its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, final

from narrows.errors import MeasureError
from narrows.measure.candidates import Candidate
from narrows.measure.energy import EnergyRecord, NoEnergy, measure_energy
from narrows.measure.environment import environment
from narrows.measure.latency import Comparison, Schedule, compare
from narrows.measure.loadgen import LoadGenRecord, Scenario, run_loadgen
from narrows.measure.memory import PROCESSES, cold_start_of
from narrows.measure.model_record import RatioRecord, RuntimeRecord
from narrows.measure.record import Measurement
from narrows.measure.sensors import Sensor
from narrows.measure.worker import About
from narrows.measure.workers import WorkerContender

Preset = Literal["mlperf", "tiny"]
Progress = Callable[[str, int, int], None]

MLPERF_CALLS: Final = 1024
MLPERF_SECONDS: Final = 60.0
TINY_INPUTS: Final = 5
TINY_SECONDS: Final = 10.0

_NOT_ASKED: Final = NoEnergy(reason="it was not asked for")
_WARM_UP_S: Final = 0.5


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LoadGenSettings:
    """How MLCommons LoadGen asks.

    Args:
        scenario: "single-stream" or "offline".
        seconds: Its least duration.
        samples: Its least number of samples; None: MLPerf's.
        logs: Folder for its logs; None: they are dropped.
    """

    scenario: Scenario = Scenario.SINGLE_STREAM
    seconds: float = 60.0
    samples: int | None = None
    logs: Path | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is measured beside latency.

    Args:
        energy: A sensor; or why there is none.
        energy_s: Length of its load windows and of its idle windows.
        presets: Other benchmarks' rules to follow, too.
        loadgen: How LoadGen asks; None: it does not.
        operators: Take the time apart by operator, and look at what really runs.
        processes: Fresh processes for memory and cold times.
    """

    energy: Sensor | NoEnergy = _NOT_ASKED
    energy_s: float = 10.0
    presets: tuple[Preset, ...] = ()
    loadgen: LoadGenSettings | None = None
    operators: bool = True
    processes: int = PROCESSES


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What one session gave.

    Args:
        runtimes: One record for each candidate, in their order.
        comparison: Their latencies.
        inputs: What the first was fed.
    """

    runtimes: tuple[RuntimeRecord, ...]
    comparison: Comparison
    inputs: Mapping[str, tuple[int, ...]]


def measure_session(
    candidates: Sequence[Candidate],
    *,
    schedule: Schedule,
    wanted: Wanted,
    progress: Progress,
    ready: Callable[[], None] | None = None,
) -> Session:
    """Measure candidates in the same rounds, then memory, energy and presets of each.

    Args:
        candidates: With labels of their own.
        schedule: Rounds of the latency, and threads.
        wanted: What else is measured.
        progress: Called with what is being done, the steps done and to do.
        ready: Called when every candidate has answered once and none has been timed; what it
            raises ends the session.

    Raises:
        MeasureError: Something cannot be measured, or two candidates have one label.
    """
    labels = [one.label for one in candidates]
    if twice := {label for label in labels if labels.count(label) > 1}:
        msg = f"cannot measure {min(twice)!r} twice: give two models, or two runtimes"
        raise MeasureError(msg)
    with ExitStack() as stack:
        workers: dict[str, WorkerContender] = {}
        for one in candidates:
            progress(f"load {one.label}", len(workers), len(candidates))
            workers[one.label] = stack.enter_context(one.start(0))
        if ready is not None:
            ready()
        comparison = compare(
            workers,
            schedule=schedule,
            progress=lambda done, total: progress("latency", done, total),
        )
        abouts = {label: worker.about for label, worker in workers.items()}
        energies = {
            label: _energy(label, worker, wanted, progress) for label, worker in workers.items()
        }
    runtimes = tuple(
        _runtime(
            one,
            comparison.measurements[one.label],
            abouts[one.label],
            energies[one.label],
            schedule.threads,
            _with_own_logs(wanted, one, candidates),
            progress,
        )
        for one in candidates
    )
    return Session(
        runtimes=runtimes, comparison=comparison, inputs=abouts[candidates[0].label].inputs
    )


def ratio_of(comparison: Comparison, name: str, base: str) -> RatioRecord:
    """Two candidates of a session: ratio and verdict."""
    return RatioRecord(
        name=name,
        base=base,
        ratio=comparison.ratio(name, base),
        verdict=comparison.verdict(name, base),
    )


def _energy(
    label: str, worker: WorkerContender, wanted: Wanted, progress: Progress
) -> EnergyRecord | NoEnergy:
    return measure_energy(
        worker,
        wanted.energy,
        load_s=wanted.energy_s,
        idle_s=wanted.energy_s,
        progress=lambda done, total: progress(f"energy of {label}", done, total),
    )


def _runtime(
    one: Candidate,
    latency: Measurement,
    about: About,
    energy: EnergyRecord | NoEnergy,
    threads: int,
    wanted: Wanted,
    progress: Progress,
) -> RuntimeRecord:
    presets: dict[str, Measurement] = {}
    for name in wanted.presets:
        progress(f"{name} rules, {one.label}", 0, 1)
        presets[name] = mlperf(one, threads) if name == "mlperf" else tiny(one, threads)
    cold = cold_start_of(
        lambda: one.start(0),
        threads=threads,
        processes=wanted.processes,
        progress=lambda done, total: progress(f"fresh processes, {one.label}", done, total),
    )
    return RuntimeRecord(
        model=one.model,
        backend=one.backend,
        version=one.version,
        precision=about.precision,
        latency=latency,
        cold=cold,
        energy=energy,
        presets=presets,
        loadgen=_loadgen(one, threads, about, wanted, progress),
    )


def mlperf(
    one: Candidate, threads: int, *, calls: int = MLPERF_CALLS, seconds: float = MLPERF_SECONDS
) -> Measurement:
    """MLPerf's single stream: one long round of calls; its result is `p90`.

    Args:
        one: What is measured.
        threads: Threads it uses.
        calls: At least so many calls,
        seconds: and so long.
    """
    with closing(one.start(0)) as worker:
        worker.call(min_calls=1, seconds=_WARM_UP_S)
        times = worker.call(min_calls=calls, seconds=seconds)
    return _measurement("mlperf_latency_s", [times], threads)


def tiny(
    one: Candidate, threads: int, *, inputs: int = TINY_INPUTS, seconds: float = TINY_SECONDS
) -> Measurement:
    """MLPerf Tiny's performance run: a round for each input; its result is their median rate.

    Args:
        one: What is measured.
        threads: Threads it uses.
        inputs: So many inputs,
        seconds: each for at least so long.
    """
    found = []
    for seed in range(inputs):
        with closing(one.start(seed)) as worker:
            worker.call(min_calls=1, seconds=_WARM_UP_S)
            found.append(worker.call(min_calls=1, seconds=seconds))
    return _measurement("tiny_latency_s", found, threads)


def _measurement(
    name: str, times: Sequence[tuple[tuple[float, ...], tuple[float, ...]]], threads: int
) -> Measurement:
    return Measurement(
        name=name,
        unit="s",
        samples=tuple(value for wall_s, _ in times for value in wall_s),
        environment=environment(threads=threads),
        round_sizes=tuple(len(wall_s) for wall_s, _ in times),
        cpu_samples=tuple(value for _, cpu_s in times for value in cpu_s),
    )


def _with_own_logs(wanted: Wanted, one: Candidate, candidates: Sequence[Candidate]) -> Wanted:
    """LoadGen's logs of each candidate in a folder of their own, named by the runtime if it can."""
    asked = wanted.loadgen
    if asked is None or asked.logs is None:
        return wanted
    alone = [other.backend for other in candidates].count(one.backend) == 1
    folder = one.backend if alone else re.sub(r"[^\w.-]+", "_", one.label)
    return replace(wanted, loadgen=replace(asked, logs=asked.logs / folder))


def _loadgen(
    one: Candidate, threads: int, about: About, wanted: Wanted, progress: Progress
) -> LoadGenRecord | None:
    asked = wanted.loadgen
    if asked is None or one.path is None:
        return None
    progress(f"LoadGen, {one.label}", 0, 1)
    return run_loadgen(
        one.path,
        scenario=asked.scenario,
        backend=one.backend,
        threads=threads,
        seconds=asked.seconds,
        samples=asked.samples,
        logs=asked.logs,
        shapes=about.inputs,
    )
