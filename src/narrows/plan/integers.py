"""The int8 variant of a planned network: all of it on the device, or its head before a float tail.

It is made here from the fit set and judged against its original, whose codecs it shares: a codec
fitted to the features of the int8 head codes them no better (docs/results.md). So it costs a
plan no fitting, and only the rates that were worth the whole choose set are run. The int8 variant
of a network that was made smaller shares that one's codecs and tails, and is judged, as that one
is, against the network they were made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import final

import numpy as np

from narrows.errors import ModelError, PlanError
from narrows.files import write_atomic
from narrows.graph.cuts import Cut
from narrows.graph.load import load
from narrows.graph.quantize import quantize_static
from narrows.plan.candidate import Candidate, Score
from narrows.plan.halves import INT8_SUFFIX, int8_halves
from narrows.plan.judge import Answers
from narrows.plan.passes import OpenSet, Passes, Variant
from narrows.plan.points import Point, PointKey
from narrows.plan.record import VariantRow
from narrows.plan.reference import Reference
from narrows.plan.rows import Reported, cut_row, reported, wanted_rates
from narrows.plan.samples import Samples
from narrows.plan.settings import Settings
from narrows.plan.stages import Stages
from narrows.plan.store import PlanFolder, slug
from narrows.plan.variant import CODED, VariantRun

_BATCH = 4


def int8_variant(
    variant: Variant, settings: Settings, folder: PlanFolder, stages: Stages
) -> Variant:
    """Quantize a variant with ranges from the fit set; what a former run made is used.

    Raises:
        PlanError: It cannot be quantized; the message says why.
    """
    name = f"{variant.name}{INT8_SUFFIX}"
    path, mark = folder.model(name), folder.progress / f"{slug(name)}.made"
    if path.is_file() and mark.is_file() and mark.read_text() == _digest(path):
        return replace(variant, name=name, model=load(path), packed=None)
    split = variant.task.sets["fit"]
    count = min(settings.int8_examples, settings.fit_examples or settings.int8_examples)
    samples = Samples(
        variant.task, split, count=count, folder=folder.progress, name=f"{slug(name)}-fit"
    )
    axis = variant.model.input.batch_axis or 0
    with stages.stage(f"{name}: calibrating", 2 * len(samples)) as advance:
        samples.prepare(advance)
        batches = samples.batches(samples.rows, _BATCH)
        try:
            proto = quantize_static(
                variant.model,
                (np.moveaxis(inputs, 0, axis) for _, inputs in batches),
                threads=settings.threads,
                progress=advance,
            )
            model = load(proto)
        except ModelError as error:
            msg = f"{variant.name} has no int8 variant: {error}"
            raise PlanError(msg) from error
        finally:
            samples.close()
    write_atomic(path, model.proto.SerializeToString())
    write_atomic(mark, _digest(path))
    return replace(variant, name=name, model=model, packed=None)


@final
class Int8Run:
    """Everything a plan does with an int8 variant before anything is chosen.

    Args:
        base: What was found of its original.
        variant: The int8 model, with its original's task.
        settings: What to try.
        folder: Where progress is kept.
        stages: Takes progress and times.
    """

    def __init__(
        self,
        base: VariantRun,
        variant: Variant,
        settings: Settings,
        folder: PlanFolder,
        stages: Stages,
    ) -> None:
        self.variant, self.choose = variant, base.choose
        self._base, self._settings, self._folder, self._stages = base, settings, folder, stages
        self._halves = int8_halves(base.variant.model, base.cuts, variant.model)
        self._passes = Passes(
            variant=variant,
            halves=self._halves,
            judge=base.judge,
            settings=settings,
            folder=folder,
            stages=stages,
        )
        self._points: dict[PointKey, Point] = {}

    def run(self) -> None:
        """Judge all of it, and its heads where the original's cuts were worth the choose set."""
        held = self._base.held
        self._exact = self._whole("choose", held)
        wanted = {
            index: rates
            for index, rates in self._base.best_rates().items()
            if index in self._halves.heads
        }
        rows, fitted = self.choose.rows, self._base.fitted
        self._points = self._passes.splits("whole", held, rows, fitted, wanted, coded=CODED)

    def candidates(self) -> list[Candidate]:
        """All of it on the device, and every head that was run, with their costs."""
        with self._stages.stage(f"{self.variant.name}: times"):
            assembler = self._base.assembler(self.variant.name, self._halves, self._exact)
            return [assembler.local(), *assembler.splits(self._base.fitted, self._points)]

    def report(self, chosen: Sequence[Candidate]) -> tuple[Score, dict[str, Reported]]:
        """Read the report set once, for candidates that are settled.

        Returns:
            Score of the int8 model, and score, drop against the original and mean payload by
            candidate id.
        """
        held, judge, width = self._base.report_set(), self._base.judge, self.variant.width
        labels, rows = held.samples.labels, held.samples.rows
        exact, own = held.reference.answers(judge), self._whole("report", held)
        wanted = wanted_rates(chosen)
        points = self._passes.splits(
            "report", held, rows, self._base.fitted, wanted, coded=len(rows)
        )
        found = {
            c.id: reported(judge, c, exact, own, labels, _point(c, points), width) for c in chosen
        }
        return judge.score(own, labels, width), found

    def row(self, report: Score | None) -> VariantRow:
        """The variant as a record; its cuts are those that it shares with its original."""
        heads = self._halves.heads
        last = heads[max(heads)]
        run = {index for index, _ in self._points}
        return replace(
            self._base.row(report),
            name=self.variant.name,
            source=f"{self.variant.source}, int8",
            total_macs=last.head_macs,
            weight_bytes=last.head_weight_bytes,
            choose=self._base.judge.score(self._exact, self.choose.labels, self.variant.width),
            cuts=tuple(cut_row(self._named(cut), cut.index in run) for cut in heads.values()),
        )

    def _named(self, head: Cut) -> Cut:
        """A head's end, called as in the original."""
        return replace(head, tensor=self._halves.tails[head.index].tensor)

    def _whole(self, name: str, held: OpenSet) -> Answers:
        """The int8 model's own answers, judged against its original's."""
        path = self._folder.progress / f"{slug(self.variant.name)}-{name}.outputs"
        own = Reference(held.samples, self.variant.width, path)
        title = f"{self.variant.name}: all of it on the {name} set"
        with self._stages.stage(title, len(held.samples)) as advance:
            own.prepare(self.variant.model, self._settings, advance)
        return own.answers(self._base.judge, held.reference.outputs)


def _point(candidate: Candidate, points: Mapping[PointKey, Point]) -> Point | None:
    if candidate.cut is None or candidate.rate_index is None:
        return None
    return points[candidate.cut, candidate.rate_index]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
