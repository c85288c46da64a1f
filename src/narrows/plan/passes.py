"""The passes of one model variant over its sets; what a former run has kept is not run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from narrows.coding import ImageCodec
from narrows.errors import PlanError
from narrows.graph.cuts import Cut
from narrows.graph.load import Model
from narrows.packed import PackedFile
from narrows.plan.alternatives import run_pictures
from narrows.plan.fit import fit_cuts, fit_passes
from narrows.plan.fitted import FittedCut
from narrows.plan.halves import Halves
from narrows.plan.judge import Judge
from narrows.plan.points import Point, PointKey, run_points
from narrows.plan.reference import Reference
from narrows.plan.samples import Rows, Samples
from narrows.plan.settings import Settings
from narrows.plan.stages import Stages
from narrows.plan.store import PlanFolder, slug
from narrows.task import Task


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Variant:
    """A model and the task it is judged by, prepared for its input size.

    Args:
        name: Unique in the plan; starts the ids of its candidates.
        source: What the user called it.
        model: The checked model.
        task: With this model's preprocessing.
        original: Name of the variant that it was made smaller from, which what it loses is
            against; None for an original.
        packed: The packed file it was read from, in which its weights lie on the device.
    """

    name: str
    source: str
    model: Model
    task: Task
    original: str | None = None
    packed: PackedFile | None = None

    @property
    def width(self) -> int:
        """Number of outputs."""
        return int(np.prod(self.model.outputs[0].shape))


def check_original(variant: Variant, original: Variant) -> None:
    """Refuse a variant that cannot be judged against its original.

    Raises:
        PlanError: It gives other outputs, or is asked for other examples.
    """
    if variant.width != original.width:
        msg = (
            f"{variant.name} gives {variant.width} outputs and {original.name}, which it is a "
            f"variant of, {original.width}: give a model of the same classes"
        )
        raise PlanError(msg)
    for name, split in original.task.sets.items():
        if not np.array_equal(split.labels, variant.task.sets[name].labels):
            msg = (
                f"{variant.name} and {original.name}, which it is a variant of, have tasks with "
                f"other examples to {name}: give both the same task"
            )
            raise PlanError(msg)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenSet:
    """One set, decoded, with the uncompressed model's outputs.

    Args:
        samples: The examples.
        own: The outputs of the variant's model.
        reference: The outputs that answers are judged against: its original's.
        pass_s: Seconds that decoding and running the model took.
    """

    samples: Samples
    own: Reference
    reference: Reference
    pass_s: float


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Passes:
    """Runs one variant.

    Args:
        variant: The model and its task.
        halves: Where its heads and tails come from.
        judge: Of the task.
        settings: Batch, threads, memory.
        folder: Where results are kept.
        stages: Takes progress and times.
    """

    variant: Variant
    halves: Halves
    judge: Judge
    settings: Settings
    folder: PlanFolder
    stages: Stages

    def open(self, name: str, count: int | None, original: OpenSet | None) -> OpenSet:
        """Decode one set and run the uncompressed model over it.

        Args:
            name: Of the set.
            count: Examples to take; None for all.
            original: The same set of the variant's original; None where it is one.
        """
        samples = self._samples(name, count)
        path = self.folder.progress / f"{slug(self.variant.name)}-{name}.outputs"
        own = Reference(samples, self.variant.width, path)
        title = f"{self.variant.name}: uncompressed on the {name} set"
        with self.stages.stage(title, len(samples)) as advance:
            pass_s = own.prepare(self.variant.model, self.settings, advance)
        reference = own if original is None else original.reference
        return OpenSet(samples=samples, own=own, reference=reference, pass_s=pass_s)

    def fit(self, planned: Sequence[Cut]) -> dict[int, FittedCut]:
        """Fit the codecs of cuts; tables go to the folder."""
        name, settings = self.variant.name, self.settings
        left = [c for c in planned if not self.folder.tables(name, c.index).is_file()]
        samples = self._samples("fit", settings.fit_examples)
        total = len(samples) + fit_passes(left, settings, len(samples)) if left else 0
        with self.stages.stage(f"{name}: fitting {len(left)} cuts", total) as advance:
            if left:
                samples.prepare(advance)
            classed = self.judge.classed
            model = self.variant.model
            for fitted in fit_cuts(model, samples, left, settings, advance, classed=classed):
                self.folder.save_fitted(name, fitted)
        samples.close()
        return {cut.index: self.folder.load_fitted(name, cut.index) for cut in planned}

    def splits(
        self,
        stage: str,
        held: OpenSet,
        rows: Rows,
        fitted: Mapping[int, FittedCut],
        wanted: Mapping[int, Sequence[int]],
        *,
        coded: int,
    ) -> dict[PointKey, Point]:
        """Points by cut and rate.

        Args:
            stage: What the kept results are called.
            held: The set.
            rows: Which of its examples.
            fitted: Codecs by cut.
            wanted: Rates by cut.
            coded: How many examples to code for real.
        """
        start = f"{self.variant.name}-{stage}"
        found: dict[PointKey, Point] = {}
        for index, k in [(index, k) for index, rates in wanted.items() for k in rates]:
            point = self.folder.load_point(f"{start}-cut{index}-r{k}")
            if point is not None:
                found[index, k] = point
        left = {i: tuple(k for k in ks if (i, k) not in found) for i, ks in wanted.items()}
        left = {i: ks for i, ks in left.items() if ks}

        def done(_: int, points: Mapping[PointKey, Point]) -> None:
            for (cut, rate), point in points.items():
                self.folder.save_point(f"{start}-cut{cut}-r{rate}", point)
            found.update(points)

        total = len(rows) * sum(map(len, left.values()))
        title = f"{self.variant.name}: cuts and rates, {stage}"
        with self.stages.stage(title, total) as advance:
            run_points(
                self.halves,
                fitted,
                left,
                held.samples,
                rows,
                held.reference.outputs,
                self.judge,
                self.settings,
                coded,
                done,
                advance,
            )
        return found

    def pictures(
        self, stage: str, held: OpenSet, rows: Rows, codecs: Mapping[str, ImageCodec]
    ) -> dict[str, Point]:
        """Points by id of the picture codec.

        Args:
            stage: What the kept results are called.
            held: The set.
            rows: Which of its examples.
            codecs: By id.
        """
        start = f"{self.variant.name}-{stage}"
        kept = {name: self.folder.load_point(f"{start}-{name}") for name in codecs}
        found = {name: point for name, point in kept.items() if point is not None}
        left = {name: codec for name, codec in codecs.items() if name not in found}
        title = f"{self.variant.name}: picture codecs, {stage}"
        with self.stages.stage(title, len(rows) * len(left)) as advance:
            if left:
                made = run_pictures(
                    self.variant.model,
                    self.variant.task,
                    left,
                    held.samples,
                    rows,
                    held.reference.outputs,
                    self.judge,
                    self.settings,
                    advance,
                )
                for name, point in made.items():
                    self.folder.save_point(f"{start}-{name}", point)
                found.update(made)
        return found

    def _samples(self, name: str, count: int | None) -> Samples:
        return Samples(
            self.variant.task,
            self.variant.task.sets[name],
            count=count,
            folder=self.folder.progress,
            name=f"{slug(self.variant.name)}-{name}",
        )
