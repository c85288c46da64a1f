"""Everything about one model on this machine, in one record.

    latency: all candidates in the same rounds, a worker process each
      ├► energy: the same workers, one after another
      └► cold start, presets, LoadGen: fresh processes
    operators, what really runs, quality: ONNX Runtime in this process

One record holds what a reader needs to trust a figure, and to see why it may not be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, final

from narrows.errors import MeasureError
from narrows.measure.candidates import Candidate
from narrows.measure.graph_facts import GraphFacts, graph_facts, open_model
from narrows.measure.judging import Judged, judge
from narrows.measure.latency import Schedule
from narrows.measure.model_record import Against, ModelRecord, RatioRecord, RuntimeRecord
from narrows.measure.session import Progress, Session, Wanted, measure_session, ratio_of
from narrows.measure.size import model_size
from narrows.task import Task
from narrows.units import percent_text

_PLAIN: Final = ("f32", "no weights", "not known")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """What a model's answers are judged on.

    Args:
        task: The data and the metric.
        split: Which of its sets: "fit", "choose" or "report".
    """

    task: Task
    split: str = "choose"


def measure_model(
    own: Sequence[Candidate],
    *,
    against: Sequence[Candidate] = (),
    schedule: Schedule | None = None,
    wanted: Wanted | None = None,
    judging: Judging | None = None,
    input_shape: tuple[int, ...] | None = None,
    progress: Progress | None = None,
) -> ModelRecord:
    """Measure a model in one or more runtimes, alone or against another.

    Args:
        own: The model in each runtime; the first needs a file.
        against: Another model in runtimes of the same names.
        schedule: Rounds of the latency, and threads.
        wanted: What else is measured.
        judging: What its answers are judged on.
        input_shape: Shape of one sample, where the graph leaves more open than the batch.
        progress: Called with what is being done, the steps done and to do.

    Raises:
        ModelError: The model cannot be read or run.
        MeasureError: Something cannot be measured.
        TaskError: The task does not fit the model.
    """
    if not own or own[0].path is None:
        msg = "cannot measure nothing: give a model's file and a runtime"
        raise MeasureError(msg)
    schedule, wanted = schedule or Schedule(), wanted or Wanted()
    note = progress or (lambda what, done, total: None)
    read = (own[0], *against[:1]) if wanted.operators else (own[0],)
    session = measure_session(
        (*own, *against),
        schedule=schedule,
        wanted=wanted,
        progress=note,
        ready=partial(_check_graphs, read, input_shape),
    )
    ratios = _ratios(session, own, against, schedule)
    facts = graph_facts(
        own[0].path,
        backends=[one.backend for one in own],
        against=against[0].path if against else None,
        ratio=next((one.ratio for one in ratios if one.base == _base(own, against)), None),
        threads=schedule.threads,
        input_shape=input_shape,
        operators=wanted.operators,
        progress=lambda what: note(what, 0, 1),
    )
    return ModelRecord(
        model=own[0].model,
        inputs=session.inputs,
        file_bytes=facts.file_bytes,
        size=facts.size,
        macs=facts.macs,
        unknown_operators=facts.unknown_operators,
        runtimes=session.runtimes[: len(own)],
        ratios=ratios,
        against=_against(session, own, against),
        breakdowns=facts.breakdowns,
        execution=facts.execution,
        estimated=facts.estimated,
        judged=_judged(facts, judging, schedule.threads, note),
        flags=tuple(_flags(session.runtimes, facts, wanted)),
    )


def _check_graphs(candidates: Sequence[Candidate], input_shape: tuple[int, ...] | None) -> None:
    """Refuse graphs that could not be looked at after the session.

    The workers come first: of a file that does not run at all a runtime says more.
    """
    for one in candidates:
        if one.path is not None and one.path.suffix == ".onnx":
            open_model(one.path, input_shape)


def _ratios(
    session: Session, own: Sequence[Candidate], against: Sequence[Candidate], schedule: Schedule
) -> tuple[RatioRecord, ...]:
    """Each other runtime over the first, and the model over the other in the same runtime."""
    if schedule.rule == "paper":  # its calls are in no rounds that could be paired
        return ()
    pairs = [(one.label, own[0].label) for one in own[1:]]
    others = {one.backend: one.label for one in against}
    pairs += [(one.label, others[one.backend]) for one in own if one.backend in others]
    return tuple(ratio_of(session.comparison, name, base) for name, base in pairs)


def _base(own: Sequence[Candidate], against: Sequence[Candidate]) -> str | None:
    return next((one.label for one in against if one.backend == own[0].backend), None)


def _against(
    session: Session, own: Sequence[Candidate], against: Sequence[Candidate]
) -> Against | None:
    if not against:
        return None
    path = against[0].path
    assert path is not None
    size = model_size(path).file_bytes if path.suffix == ".onnx" else path.stat().st_size
    return Against(model=against[0].model, file_bytes=size, runtimes=session.runtimes[len(own) :])


def _judged(
    facts: GraphFacts, judging: Judging | None, threads: int, progress: Progress
) -> Judged | None:
    if judging is None:
        return None
    if facts.model is None:
        msg = "quality is judged on ONNX files only: give one, or leave out the task"
        raise MeasureError(msg)
    return judge(
        facts.model,
        judging.task,
        judging.split,
        threads=threads,
        progress=lambda done, total: progress(f"{judging.split} set", done, total),
    )


def _flags(runtimes: Sequence[RuntimeRecord], facts: GraphFacts, wanted: Wanted) -> list[str]:
    """What a reader must know before using the figures."""
    flags = []
    for one in runtimes:
        where, taken = f"{one.model} on {one.backend}", one.latency
        if sum(taken.contended_rounds):
            count, total = sum(taken.contended_rounds), len(taken.contended_rounds)
            why = next(reasons for reasons in taken.round_reasons if reasons)
            advice = "; trust the CPU time" if taken.contended else ""
            flags.append(
                f"{where}: {count} of {total} rounds were contended ({', '.join(why)}){advice}"
            )
        if taken.reached is False and taken.target is not None:
            flags.append(
                f"{where}: the interval's half-width is {percent_text(taken.half_width)},"
                f" {percent_text(taken.target)} was not reached in time"
            )
        threads, cores = taken.environment.threads, taken.environment.cores
        if threads > cores:
            flags.append(f"{where}: {threads} threads on {cores} cores wait for each other")
        if wanted.loadgen is not None and one.loadgen is None:
            flags.append(f"{where}: not driven by LoadGen, which runs files alone")
        if not all(taken.settled):
            flags.append(f"{where}: it was still getting faster or slower after the warm-up")
    if len(runtimes) > 1 and runtimes[0].latency.rule == "paper":
        flags.append("calls by the paper's rule lie in no common rounds: no ratio is given")
    execution = facts.execution
    if execution is not None:
        if not execution.asked_int8:
            name = runtimes[0].model
            flags += [
                f"{one.model} on {one.backend}: computed in {one.precision}, the file asks for f32"
                for one in runtimes
                if one.model == name and one.precision not in _PLAIN
            ]
        flags += execution.flags
    return flags
