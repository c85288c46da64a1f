"""One model variant on its way through a plan: fitted, screened, run on what is worth it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar, final

import numpy as np

from narrows.coding import ImageCodec
from narrows.coding.base import Floats
from narrows.graph.cuts import find_cuts
from narrows.graph.ort import run, session
from narrows.measure.operators import example_input
from narrows.plan.alternatives import picture_codecs, run_raw
from narrows.plan.assemble import Assembler
from narrows.plan.candidate import Candidate, Route, Score
from narrows.plan.constraints import Constraints
from narrows.plan.features import flat_outputs
from narrows.plan.fitted import FittedCut
from narrows.plan.halves import Halves, float_halves
from narrows.plan.judge import Answers, judge_of
from narrows.plan.narrow import Seen, kept_pictures, kept_rates, screened_examples
from narrows.plan.passes import OpenSet, Passes, Variant, check_original
from narrows.plan.points import Point, PointKey, joined_points
from narrows.plan.predict import Places
from narrows.plan.record import VariantRow
from narrows.plan.reference import check_above_chance
from narrows.plan.rows import Reported, cut_row, reported, wanted_rates
from narrows.plan.select_cuts import select_cuts
from narrows.plan.settings import Settings
from narrows.plan.stages import Stages
from narrows.plan.store import PlanFolder
from narrows.plan.timing import PartTimes

__all__ = ["Variant", "VariantRun"]

_REPLY_BYTES = 16  # frame header and the time the service took
_TOP_BYTES = 6 * 5  # five classes with their scores
_RAW_EXAMPLES = 32
CODED = 96  # enough for a mean; the report set is coded whole

Key = TypeVar("Key")


@final
class VariantRun:
    """Everything a plan does with one variant before anything is chosen.

    Args:
        variant: The model and its task.
        settings: What to try.
        constraints: What narrowing keeps near to.
        places: The plan's.
        folder: Where tables and progress are kept.
        stages: Takes progress and times.
        original: The run of the variant it was made smaller from, done before it; None where it
            is an original itself.

    Raises:
        TaskError: The model does not fit the task.
        PlanError: There is no cut, one that was asked for cannot be planned, or the original
            answers something else.
    """

    def __init__(
        self,
        variant: Variant,
        settings: Settings,
        constraints: Constraints,
        places: Places,
        folder: PlanFolder,
        stages: Stages,
        original: VariantRun | None = None,
    ) -> None:
        variant.task.check_model(variant.model.input.shape, variant.width)
        self.variant, self._settings, self._constraints = variant, settings, constraints
        self._places, self._stages, self._original = places, stages, original
        self.cuts = find_cuts(variant.model)
        self.planned = select_cuts(self.cuts, settings.cuts)
        if original is None:
            self.judge = judge_of(variant.task, _first_outputs(variant))
        else:
            check_original(variant, original.variant)
            self.judge = original.judge
        self._codecs = picture_codecs(variant.task, settings)
        self._passes = Passes(
            variant=variant,
            halves=float_halves(variant.model, self.cuts),
            judge=self.judge,
            settings=settings,
            folder=folder,
            stages=stages,
        )
        self._reporting: OpenSet | None = None
        self.fitted: dict[int, FittedCut] = {}
        self._points: dict[PointKey, Point] = {}
        self._pictures: dict[str, Point] = {}

    def run(self) -> float:
        """Judge, fit, screen, and run what is worth it.

        Returns:
            Seconds of one plain accuracy pass over the choose set.

        Raises:
            PlanError: The model scores like chance, or a feature is not finite.
        """
        passes, settings = self._passes, self._settings
        above = None if self._original is None else self._original.held
        held = passes.open("choose", settings.choose_examples, above)
        self.held: OpenSet = held
        self.choose = held.samples
        self.exact = held.reference.answers(self.judge)
        self._own = held.own.answers(self.judge, held.reference.outputs)
        self.score = self._score(self._own)
        if self._original is None:  # what was made too small shows in its drop
            check_above_chance(self.score.accuracy, self.variant.task, self.variant.source)
        self.fitted = passes.fit(self.planned)
        first = self.choose.spread(screened_examples(len(self.choose), settings.screen_share))
        rest = np.setdiff1d(self.choose.rows, first)
        every = {cut.index: tuple(range(settings.rates)) for cut in self.planned}
        coded = len(first) // 2 if len(rest) else len(first)
        points = passes.splits("screen", held, first, self.fitted, every, coded=coded)
        _extend(self._points, points)
        some = first[:: 2 if len(rest) else 1]
        _extend(self._pictures, passes.pictures("screen", held, some, self._codecs))
        if len(rest):
            kept = self._kept_rates()
            points = passes.splits("whole", held, rest, self.fitted, kept, coded=CODED)
            _extend(self._points, points)
            rest = np.setdiff1d(self.choose.rows, some)
            _extend(self._pictures, passes.pictures("whole", held, rest, self._kept_pictures()))
        return held.pass_s

    def candidates(self) -> list[Candidate]:
        """Every point that was run, with its cost, and the alternatives."""
        with self._stages.stage(f"{self.variant.name}: times"):
            assembler = self.assembler(self.variant.name, self._passes.halves, self._own)
            raw = run_raw(self.choose, self.choose.spread(_RAW_EXAMPLES), self._own)
            return [
                assembler.local(),
                *assembler.raw(raw),
                *assembler.pictures(self._codecs, self._pictures),
                *assembler.splits(self.fitted, self._points),
            ]

    def assembler(self, name: str, halves: Halves, local_answers: Answers) -> Assembler:
        """What makes candidates of this variant, or of one that is judged against it.

        Args:
            name: Of the variant.
            halves: Where its heads and tails come from.
            local_answers: Those of its device's network to the choose set.
        """
        task, values = self.variant.task, self.choose.array(0)
        return Assembler(
            variant=name,
            halves=halves,
            places=self._places,
            times=PartTimes(halves, self._places, self.choose.inputs(self.choose.rows[:1])),
            judge=self.judge,
            labels=self.choose.labels,
            exact=self.exact,
            local_answers=local_answers,
            width=self.variant.width,
            reply_bytes=self._reply_bytes(),
            prepare=lambda: task.to_input(values),
            pixels=int(np.prod(task.preprocess.size or (0, 0))),
            packed=self.variant.packed if name == self.variant.name else None,
        )

    def best_rates(self) -> dict[int, tuple[int, ...]]:
        """By cut that was worth it the coarsest rate of enough quality, and the next finer one."""
        kept = self._kept_rates()
        return {index: rates[:2] for index, rates in kept.items()}

    def report_set(self) -> OpenSet:
        """The report set, decoded once, with the uncompressed model's outputs."""
        if self._reporting is None:
            above = None if self._original is None else self._original.report_set()
            self._reporting = self._passes.open("report", self._settings.report_examples, above)
        return self._reporting

    def close(self) -> None:
        """Remove what was decoded of the report set."""
        if self._reporting is not None:
            self._reporting.samples.close()

    def report(self, chosen: Sequence[Candidate]) -> tuple[Score, dict[str, Reported]]:
        """Read the report set once, for candidates that are settled.

        Returns:
            Score of the uncompressed model, and score, drop and mean payload by candidate id.
        """
        held = self.report_set()
        exact = held.reference.answers(self.judge)
        own = held.own.answers(self.judge, held.reference.outputs)
        labels, rows = held.samples.labels, held.samples.rows
        wanted = wanted_rates(chosen)
        points = self._passes.splits("report", held, rows, self.fitted, wanted, coded=len(rows))
        names = [self._own_id(c) for c in chosen if c.route is Route.IMAGE]
        codecs = {name: self._codecs[name] for name in names}
        pictures = self._passes.pictures("report", held, rows, codecs)
        width = self.variant.width
        found = {
            c.id: reported(
                self.judge, c, exact, own, labels, self._point_of(c, points, pictures), width
            )
            for c in chosen
        }
        return self.judge.score(own, labels, width), found

    def row(self, report: Score | None) -> VariantRow:
        """The variant as a record."""
        last, planned = self.cuts[-1], {cut.index for cut in self.planned}
        return VariantRow(
            name=self.variant.name,
            original=self.variant.original or self.variant.name,
            source=self.variant.source,
            input_shape=self.variant.model.input.shape,
            total_macs=last.head_macs,
            weight_bytes=last.head_weight_bytes,
            choose=self.score,
            report=report,
            cuts=tuple(cut_row(cut, cut.index in planned) for cut in self.cuts),
            refused_cuts=len(self.cuts.refused),
        )

    def _own_id(self, candidate: Candidate) -> str:
        return candidate.id.removeprefix(f"{self.variant.name}/")

    def _point_of(
        self,
        candidate: Candidate,
        points: Mapping[PointKey, Point],
        pictures: Mapping[str, Point],
    ) -> Point | None:
        if candidate.cut is not None and candidate.rate_index is not None:
            return points[candidate.cut, candidate.rate_index]
        return pictures.get(self._own_id(candidate))

    def _score(self, answers: Answers) -> Score:
        return self.judge.score(answers, self.choose.labels, self.variant.width)

    def _seen(self, answers: Answers) -> Seen:
        drop = self.judge.drop(self.exact, answers, self.choose.labels)
        return self._score(answers), drop

    def _kept_rates(self) -> dict[int, tuple[int, ...]]:
        seen = {key: self._seen(point.answers) for key, point in self._points.items()}
        sizes = {
            key: float(next(iter(point.payloads.values())).sizes.mean())
            for key, point in self._points.items()
        }
        return kept_rates(self.planned, seen, sizes, self._settings.rates, self._constraints)

    def _kept_pictures(self) -> dict[str, ImageCodec]:
        curves: dict[tuple[str, float], list[str]] = {}
        for name, codec in sorted(self._codecs.items(), key=lambda item: -item[1].quality):
            curves.setdefault((codec.format, codec.scale), []).append(name)
        seen = {name: self._seen(point.answers) for name, point in self._pictures.items()}
        sizes = {
            name: float(point.payloads[self._codecs[name].format].sizes.mean())
            for name, point in self._pictures.items()
        }
        kept = kept_pictures(curves, seen, sizes, self._constraints)
        return {name: self._codecs[name] for name in kept}

    def _reply_bytes(self) -> float:
        top = _REPLY_BYTES + _TOP_BYTES
        whole = _REPLY_BYTES + 4 * self.variant.width
        return float(min(top, whole) if self.judge.classed else whole)


def _first_outputs(variant: Variant) -> Floats:
    """What the model gives for one random input (1, k)."""
    given, made = variant.model.input, variant.model.outputs[0]
    feeds = {given.name: example_input(variant.model)}
    return flat_outputs(run(session(variant.model.proto), feeds, [made.name])[0], made)


def _extend(held: dict[Key, Point], more: Mapping[Key, Point]) -> None:
    for key, point in more.items():
        old = held.get(key)
        held[key] = point if old is None else joined_points([old, point])
