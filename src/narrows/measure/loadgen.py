"""A model driven by MLCommons LoadGen, the load generator that MLPerf results are made with.

LoadGen issues the queries, takes the times and judges whether the run counts; it writes a summary
and logs. It runs in a fresh process with the model, since it ends the process where it disagrees.

    single-stream   the next query when the last has returned; the result is the 90th percentile
    offline         all samples at once; the result is samples a second
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, final

from narrows.errors import MeasureError, MissingExtra, NarrowsError
from narrows.files import storage_error

# The rules of MLPerf Inference: the least duration, and the least number of samples.
MLPERF_SECONDS: Final = 60.0
MLPERF_SAMPLES: Final = MappingProxyType({"single-stream": 1024, "offline": 24_576})

_SUMMARY = "mlperf_log_summary.txt"
_INPUTS = 16  # different inputs in the library that LoadGen draws from
_WARM_UP_S = 0.5
_SPARE_S = 600.0
_MARGIN = 1.25  # an offline query that ends before its time would not be valid
_PAIR = re.compile(r"\s*\*?\s*(.+?)\s*:\s+(.+?)\s*")


class Scenario(StrEnum):
    """How LoadGen asks."""

    SINGLE_STREAM = "single-stream"
    OFFLINE = "offline"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LoadGenRecord:
    """What LoadGen said of a run.

    Args:
        scenario: "single-stream" or "offline".
        valid: LoadGen's verdict, by the duration and number of queries it was asked for.
        reasons: What it recommends where the run is not valid.
        by_the_rules: Whether those were at least MLPerf's: 60 seconds, and 1 024 samples in a
            single stream or 24 576 offline.
        samples: Answered, batches counted as one.
        median_s: Half of the samples were answered faster.
        p90_s: Nine tenths were.
        samples_per_s: Throughput.
        version: Of LoadGen.
        summary: All it wrote, by its own names.
        logs: The folder of its logs; None where they were not kept.
    """

    scenario: str
    valid: bool
    reasons: tuple[str, ...]
    by_the_rules: bool
    samples: int
    median_s: float
    p90_s: float
    samples_per_s: float
    version: str
    summary: Mapping[str, str]
    logs: str | None


def run_loadgen(
    model: Path,
    *,
    scenario: Scenario = Scenario.SINGLE_STREAM,
    backend: str = "onnxruntime",
    threads: int = 1,
    seconds: float = MLPERF_SECONDS,
    samples: int | None = None,
    logs: Path | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> LoadGenRecord:
    """Drive a model through LoadGen.

    Args:
        model: Its file.
        scenario: How it is asked.
        backend: Name of the runtime.
        threads: Threads inside one call.
        seconds: LoadGen's least duration,
        samples: and least number of samples; by default MLPerf's.
        logs: Folder for its logs; it is made if need be. By default they are dropped.
        shapes: Of every input by name, its batch included; by default as the model says, one
            sample where it leaves the batch open.

    Raises:
        MissingExtra: LoadGen or the runtime is not installed.
        MeasureError: The model does not run, or LoadGen gave up.
        StorageError: The logs cannot be written.
    """
    from narrows.measure.backends import backend_of

    if importlib.util.find_spec("mlperf_loadgen") is None:
        raise MissingExtra("driving a model by LoadGen", "loadgen")
    backend_of(backend).check()
    backend_of(backend).check_file(model)
    least = samples or MLPERF_SAMPLES[scenario]
    settings = {
        "model": str(model.resolve()),
        "scenario": scenario.value,
        "backend": backend,
        "threads": threads,
        "seconds": seconds,
        "samples": least,
        "shapes": None if shapes is None else {name: list(shapes[name]) for name in shapes},
    }
    by_the_rules = seconds >= MLPERF_SECONDS and least >= MLPERF_SAMPLES[scenario]
    with tempfile.TemporaryDirectory(prefix="narrows-") as dropped:
        folder = logs or Path(dropped)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _SUMMARY).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(folder, error) from error
        told = _ask(settings | {"logs": str(folder.resolve())}, limit_s=20 * seconds + _SPARE_S)
        text = _read(folder / _SUMMARY)
    return read_summary(
        text, scenario=scenario, by_the_rules=by_the_rules, samples=int(told), logs=logs
    )


def read_summary(
    text: str, *, scenario: Scenario, by_the_rules: bool, samples: int, logs: Path | None
) -> LoadGenRecord:
    """A record of what LoadGen wrote in its summary.

    Raises:
        MeasureError: It lacks a figure.
    """
    from importlib import metadata

    found = (_PAIR.fullmatch(line) for line in text.splitlines())
    pairs = {match[1]: match[2] for match in found if match}
    single = scenario is Scenario.SINGLE_STREAM
    rate = "QPS w/o loadgen overhead" if single else "Samples per second"
    try:
        return LoadGenRecord(
            scenario=scenario.value,
            valid=pairs["Result is"] == "VALID",
            reasons=_reasons(text),
            by_the_rules=by_the_rules,
            samples=samples,
            median_s=float(pairs["50.00 percentile latency (ns)"]) / 1e9,
            p90_s=float(pairs["90.00 percentile latency (ns)"]) / 1e9,
            samples_per_s=float(pairs[rate]),
            version=metadata.version("mlcommons-loadgen"),
            summary=pairs,
            logs=None if logs is None else str(logs),
        )
    except (KeyError, ValueError) as error:
        msg = f"LoadGen's summary has no {error}: is its version known to narrows?"
        raise MeasureError(msg) from None


def _reasons(text: str) -> tuple[str, ...]:
    """Its recommendations, where the run is not valid."""
    after = text.partition("Recommendations:")[2].splitlines()[1:]
    starred = itertools.takewhile(lambda line: line.startswith(" *"), after)
    return tuple(line.removeprefix(" *").strip() for line in starred)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        msg = f"LoadGen left no summary {path} ({error.strerror}): is the disk full?"
        raise MeasureError(msg) from None


def _ask(settings: Mapping[str, object], *, limit_s: float) -> str:
    """Run it in a fresh process; gives back the last line of its output."""
    command = [sys.executable, "-P", "-m", "narrows.measure.loadgen", json.dumps(settings)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        msg = f"LoadGen did not come to an end within {limit_s:.0f} s: ask for fewer queries"
        raise MeasureError(msg) from None
    if done.returncode != 0:
        told = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        msg = f"LoadGen gave up: {told[-1]}"
        raise MeasureError(msg)
    return done.stdout.strip().splitlines()[-1]


def _drive(settings: Mapping[str, Any]) -> int:
    """What the fresh process does; gives back the number of samples."""
    import mlperf_loadgen as loadgen

    from narrows.measure.backends import backend_of
    from narrows.measure.backends.feeds import random_feeds

    loaded = backend_of(settings["backend"]).load(
        Path(settings["model"]), threads=settings["threads"]
    )
    shapes = settings["shapes"] or {}
    inputs = [replace(one, shape=tuple(shapes.get(one.name, one.shape))) for one in loaded.inputs]
    fed = [random_feeds(inputs, seed=seed) for seed in range(_INPUTS)]
    rate = _warm_up(lambda: loaded.run(fed[0]))

    answered = 0

    def issue(queries: Sequence[Any]) -> None:
        nonlocal answered
        answered += len(queries)
        for query in queries:
            loaded.run(fed[query.index])
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(query.id, 0, 0)])

    system = loadgen.ConstructSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(_INPUTS, _INPUTS, lambda indices: None, lambda indices: None)
    log = loadgen.LogSettings()
    log.log_output.outdir = settings["logs"]
    log.enable_trace = False
    loadgen.StartTestWithLogSettings(system, library, _test(loadgen, settings, rate), log)
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(system)
    return answered


def _test(loadgen: Any, settings: Mapping[str, Any], rate: float) -> Any:
    """LoadGen's settings. It sizes an offline query by the rate it is told to expect."""
    test = loadgen.TestSettings()
    test.mode = loadgen.TestMode.PerformanceOnly
    test.min_duration_ms = round(settings["seconds"] * 1000)
    if settings["scenario"] == Scenario.SINGLE_STREAM:
        test.scenario = loadgen.TestScenario.SingleStream
        test.min_query_count = settings["samples"]
        test.single_stream_expected_latency_ns = round(1e9 / rate)
    else:
        test.scenario = loadgen.TestScenario.Offline
        least = settings["samples"] / max(settings["seconds"], 1e-3)
        test.offline_expected_qps = max(_MARGIN * rate, least)
    return test


def _warm_up(run: Any) -> float:
    """Calls a second, after calls that are not counted."""
    run()
    count, started_s = 0, time.perf_counter()
    while time.perf_counter() - started_s < _WARM_UP_S or count < 3:
        run()
        count += 1
    return count / (time.perf_counter() - started_s)


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{_drive(json.loads(sys.argv[1]))}\n")
    except NarrowsError as error:
        sys.exit(str(error))
