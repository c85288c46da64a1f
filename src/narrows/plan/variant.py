"""One model variant on its way through a plan: fitted, screened, run on what is worth it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from narrows.graph.cuts import Cut, Cuts, find_cuts
from narrows.graph.load import Model
from narrows.plan.alternatives import picture_codecs, run_pictures, run_raw
from narrows.plan.assemble import Assembler
from narrows.plan.candidate import Candidate, Drop, Route, Score
from narrows.plan.constraints import Constraints
from narrows.plan.fit import fit_cuts, fit_passes
from narrows.plan.fitted import FittedCut
from narrows.plan.judge import Answers, judge_of
from narrows.plan.narrow import Seen, kept_rates, last_kept, screened_examples
from narrows.plan.points import Point, PointKey, joined_points, run_points
from narrows.plan.predict import Places
from narrows.plan.record import CutRow, VariantRow
from narrows.plan.reference import Reference, check_above_chance
from narrows.plan.samples import Rows, Samples
from narrows.plan.select_cuts import select_cuts
from narrows.plan.settings import Settings
from narrows.plan.stages import Stages
from narrows.plan.store import PlanFolder, slug
from narrows.plan.timing import PartTimes
from narrows.task import Task

_REPLY_BYTES = 16  # frame header and the time the service took
_TOP_BYTES = 6 * 5  # five classes with their scores


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Variant:
    """A model and the task it is judged by, prepared for its input size.

    Args:
        name: Unique in the plan; starts the ids of its candidates.
        source: What the user called it.
        model: The checked model.
        task: With this model's preprocessing.
    """

    name: str
    source: str
    model: Model
    task: Task


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
    """

    def __init__(
        self,
        variant: Variant,
        settings: Settings,
        constraints: Constraints,
        places: Places,
        folder: PlanFolder,
        stages: Stages,
    ) -> None:
        self.variant, self._settings, self._constraints = variant, settings, constraints
        self._places, self._folder, self._stages = places, folder, stages
        self.cuts: Cuts = find_cuts(variant.model)
        self.planned = select_cuts(self.cuts, settings.cuts)
        output = variant.model.outputs[0]
        self._width = int(np.prod(output.shape))
        variant.task.check_model(variant.model.input.shape, self._width)
        self.judge = judge_of(variant.task)
        self._codecs = picture_codecs(variant.task, settings)
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
        self.choose, self._reference, plain_pass_s = self._opened(
            "choose", self._settings.choose_examples
        )
        self.exact = self._reference.answers(self.judge)
        self.score = self.judge.score(self.exact, self.choose.labels, self._width)
        check_above_chance(self.score.accuracy, self.variant.task, self.variant.source)
        self._fit()
        count = screened_examples(len(self.choose), self._settings.screen_share)
        first = self.choose.spread(count)
        rest = np.setdiff1d(self.choose.rows, first)
        every = {cut.index: tuple(range(self._settings.rates)) for cut in self.planned}
        self._extend(self._split_points("screen", self.choose, first, self._reference, every))
        self._extend_pictures(self._run_pictures("screen", first, list(self._codecs)))
        if len(rest):
            kept = self._kept_rates()
            self._extend(self._split_points("whole", self.choose, rest, self._reference, kept))
            self._extend_pictures(self._run_pictures("whole", rest, self._kept_pictures()))
        return plain_pass_s

    def candidates(self) -> list[Candidate]:
        """Every point that was run, with its cost, and the alternatives."""
        task, model = self.variant.task, self.variant.model
        with self._stages.stage(f"times of {self.variant.name}"):
            height_width = task.preprocess.size or (0, 0)
            assembler = Assembler(
                variant=self.variant.name,
                model=model,
                cuts=self.cuts.cuts,
                places=self._places,
                times=PartTimes(model, self._places, self.choose.inputs(self.choose.rows[:1])),
                judge=self.judge,
                labels=self.choose.labels,
                exact=self.exact,
                width=self._width,
                reply_bytes=self._reply_bytes(),
                pixels=int(np.prod(height_width)),
            )
            raw_rows = self.choose.spread(screened_examples(len(self.choose), 0.0))
            raw = run_raw(self.choose, raw_rows, self.exact)
            return [
                assembler.local(),
                *assembler.raw(raw),
                *assembler.pictures(self._codecs, self._pictures),
                *assembler.splits(self.fitted, self._points),
            ]

    def report(
        self, chosen: Sequence[Candidate]
    ) -> tuple[Score, dict[str, tuple[Score, Drop, float]]]:
        """Read the report set once, for candidates that are settled.

        Returns:
            Score of the uncompressed model, and score, drop and mean payload by candidate id.
        """
        samples, reference, _ = self._opened("report", self._settings.report_examples)
        exact = reference.answers(self.judge)
        labels = samples.labels
        rates: dict[int, set[int]] = {}
        for c in chosen:
            if c.route is Route.SPLIT and c.cut is not None and c.rate_index is not None:
                rates.setdefault(c.cut, set()).add(c.rate_index)
        wanted = {cut: tuple(sorted(found)) for cut, found in rates.items()}
        points = self._split_points("report", samples, samples.rows, reference, wanted)
        names = [c.id.split("/", 1)[1] for c in chosen if c.route is Route.IMAGE]
        pictures = self._run_pictures("report", samples.rows, names, samples, reference)
        found = {}
        for c in chosen:
            answers, sizes = exact, None
            if c.route is Route.SPLIT and c.cut is not None and c.rate_index is not None:
                point = points[c.cut, c.rate_index]
                assert c.codec is not None
                answers = point.answers
                sizes = point.payloads[c.codec.name.split("-")[1]].sizes
            elif c.route is Route.IMAGE and c.codec is not None:
                point = pictures[c.id.split("/", 1)[1]]
                answers, sizes = point.answers, point.payloads[c.codec.name].sizes
            found[c.id] = (
                self.judge.score(answers, labels, self._width),
                self.judge.drop(exact, answers, labels),
                c.payload_bytes if sizes is None else float(sizes.mean()),
            )
        score = self.judge.score(exact, labels, self._width)
        samples.close()
        return score, found

    def row(self, report: Score | None) -> VariantRow:
        """The variant as a record."""
        model, last = self.variant.model, self.cuts[-1]
        planned = {cut.index for cut in self.planned}
        return VariantRow(
            name=self.variant.name,
            source=self.variant.source,
            input_shape=model.input.shape,
            total_macs=last.head_macs,
            weight_bytes=last.head_weight_bytes,
            choose=self.score,
            report=report,
            cuts=tuple(cut_row(cut, cut.index in planned) for cut in self.cuts),
            refused_cuts=len(self.cuts.refused),
        )

    def _opened(self, name: str, count: int | None) -> tuple[Samples, Reference, float]:
        samples = self._samples(name, count)
        path = self._folder.progress / f"{slug(self.variant.name)}-{name}.outputs"
        reference = Reference(samples, self._width, path)
        title = f"{self.variant.name}: uncompressed on the {name} set"
        with self._stages.stage(title, len(samples)) as advance:
            seconds = reference.prepare(self.variant.model, self._settings, advance)
        return samples, reference, seconds

    def _samples(self, name: str, count: int | None) -> Samples:
        return Samples(
            self.variant.task,
            self.variant.task.sets[name],
            count=count,
            folder=self._folder.progress,
            name=f"{slug(self.variant.name)}-{name}",
        )

    def _fit(self) -> None:
        name = self.variant.name
        left = [c for c in self.planned if not self._folder.tables(name, c.index).is_file()]
        samples = self._samples("fit", self._settings.fit_examples)
        title = f"{name}: fitting {len(left)} cuts"
        total = len(samples) + fit_passes(left, self._settings, len(samples)) if left else 0
        with self._stages.stage(title, total) as advance:
            if left:
                samples.prepare(advance)
            fits = fit_cuts(
                self.variant.model,
                samples,
                left,
                self._settings,
                advance,
                classed=self.judge.classed,
            )
            for fitted in fits:
                self._folder.save_fitted(name, fitted)
        samples.close()
        for cut in self.planned:
            self.fitted[cut.index] = self._folder.load_fitted(name, cut.index)

    def _split_points(
        self,
        stage: str,
        samples: Samples,
        rows: Rows,
        reference: Reference,
        wanted: Mapping[int, Sequence[int]],
    ) -> dict[PointKey, Point]:
        """Points by cut and rate; those that a former run has kept are not run again."""
        found: dict[PointKey, Point] = {}
        start = f"{self.variant.name}-{stage}"
        for index, rates in wanted.items():
            for k in rates:
                point = self._folder.load_point(f"{start}-cut{index}-r{k}")
                if point is not None:
                    found[index, k] = point
        left = {i: tuple(k for k in ks if (i, k) not in found) for i, ks in wanted.items()}
        left = {i: ks for i, ks in left.items() if ks}

        def done(_: int, points: Mapping[PointKey, Point]) -> None:
            for (cut, rate), point in points.items():
                self._folder.save_point(f"{start}-cut{cut}-r{rate}", point)
            found.update(points)

        total = len(rows) * sum(map(len, left.values()))
        title = f"{self.variant.name}: cuts and rates, {stage}"
        with self._stages.stage(title, total) as advance:
            run_points(
                self.variant.model,
                [cut for cut in self.cuts if cut.index in left],
                self.fitted,
                left,
                samples,
                rows,
                reference.outputs,
                self.judge,
                self._settings,
                done,
                advance,
            )
        return found

    def _run_pictures(
        self,
        stage: str,
        rows: Rows,
        names: Sequence[str],
        samples: Samples | None = None,
        reference: Reference | None = None,
    ) -> dict[str, Point]:
        start = f"{self.variant.name}-{stage}"
        kept = {name: self._folder.load_point(f"{start}-{name}") for name in names}
        found = {name: point for name, point in kept.items() if point is not None}
        left = {name: self._codecs[name] for name in names if name not in found}
        title = f"{self.variant.name}: picture codecs, {stage}"
        with self._stages.stage(title, len(rows) * len(left)) as advance:
            if left:
                made = run_pictures(
                    self.variant.model,
                    self.variant.task,
                    left,
                    samples or self.choose,
                    rows,
                    (reference or self._reference).outputs,
                    self.judge,
                    self._settings,
                    advance,
                )
                for name, point in made.items():
                    self._folder.save_point(f"{start}-{name}", point)
                found.update(made)
        return found

    def _extend(self, points: Mapping[PointKey, Point]) -> None:
        for key, point in points.items():
            old = self._points.get(key)
            self._points[key] = point if old is None else joined_points([old, point])

    def _extend_pictures(self, points: Mapping[str, Point]) -> None:
        for name, point in points.items():
            old = self._pictures.get(name)
            self._pictures[name] = point if old is None else joined_points([old, point])

    def _seen(self, answers: Answers) -> Seen:
        labels = self.choose.labels
        return (
            self.judge.score(answers, labels, self._width),
            self.judge.drop(self.exact, answers, labels),
        )

    def _kept_rates(self) -> dict[int, tuple[int, ...]]:
        seen = {key: self._seen(point.answers) for key, point in self._points.items()}
        return kept_rates(self.planned, seen, self._settings.rates, self._constraints)

    def _kept_pictures(self) -> list[str]:
        """Of each format and scale the coarsest quality that keeps to the drop, and neighbours."""
        curves: dict[tuple[str, float], list[str]] = {}
        for name, codec in sorted(self._codecs.items(), key=lambda item: -item[1].quality):
            curves.setdefault((codec.format, codec.scale), []).append(name)
        kept: list[str] = []
        for curve in curves.values():
            seen = [self._seen(self._pictures[name].answers) for name in curve]
            best = last_kept(seen, self._constraints)
            kept += curve[max(0, best - 1) : best + 2]
        return kept

    def _reply_bytes(self) -> float:
        top = _REPLY_BYTES + _TOP_BYTES
        whole = _REPLY_BYTES + 4 * self._width
        return float(min(top, whole) if self.judge.classed else whole)


def cut_row(cut: Cut, planned: bool) -> CutRow:
    """A cut as a record."""
    return CutRow(
        index=cut.index,
        tensor=cut.tensor,
        shape=cut.shape,
        size_bytes=cut.size_bytes,
        head_macs=cut.head_macs,
        head_macs_share=cut.head_macs_share,
        head_weight_bytes=cut.head_weight_bytes,
        head_peak_bytes=cut.head_peak_bytes,
        tail_macs=cut.tail_macs,
        dominated_by=cut.dominated_by,
        planned=planned,
    )
