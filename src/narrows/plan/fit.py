"""Codecs for every planned cut, fitted in passes over the fit set; features are never kept.

all of the set   every cut's features ──► moments ──► transforms
a few examples   transform and steps of each cut                        scale.py
a part           symbols at every rate ──► quantizer and coder tables   tally.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from narrows.coding import Table
from narrows.coding.transforms import SeparableKLT
from narrows.graph.cuts import Cut
from narrows.graph.load import Model
from narrows.plan.features import FeatureReader, Tail
from narrows.plan.fitted import FittedCut, MapTransform
from narrows.plan.samples import Samples
from narrows.plan.scale import find_scale, transforms_of
from narrows.plan.settings import Settings
from narrows.plan.tally import Tally

Progress = Callable[[int], None]
Tables = Mapping[tuple[int, MapTransform], Table]

_TRIAL_EXAMPLES = 16
_TRIAL_BYTES = 256 << 20  # of features in memory at once
# Enough to know a covariance by: examples, and vectors for each of its dimensions.
_LEAST_EXAMPLES, _VECTORS = 64, 400
_SEPARABLE_EXAMPLES = 256


def fit_cuts(
    model: Model,
    samples: Samples,
    cuts: Sequence[Cut],
    settings: Settings,
    progress: Progress = lambda _: None,
    *,
    classed: bool,
) -> Iterator[FittedCut]:
    """Fit the codecs of all cuts, a few at a time as memory allows.

    Args:
        model: The whole model.
        samples: The fit set.
        cuts: Where to cut.
        settings: Blocks, rates, coders.
        progress: Called with the examples passed, of `fit_passes` in all.
        classed: Whether the outputs are scores of classes.

    Yields:
        One fitted cut after the other, in the order of the model.

    Raises:
        PlanError: A feature is not finite, or does not vary.
    """
    for group in moment_groups(cuts, settings, len(samples)):
        reader = FeatureReader(model, group, threads=settings.threads)
        tables = _transforms(reader, samples, group, settings, progress)
        for part in _trial_groups(group):
            yield from _rates(model, samples, part, tables, settings, progress, classed=classed)


def fit_passes(cuts: Sequence[Cut], settings: Settings, examples: int) -> int:
    """Examples that `fit_cuts` passes in all, for a progress bar."""
    counted = min(settings.table_examples, examples)
    groups = moment_groups(cuts, settings, examples)
    parts = sum(len(_trial_groups(group)) for group in groups)
    return len(groups) * examples + parts * (counted + min(_TRIAL_EXAMPLES, examples))


def moment_groups(cuts: Sequence[Cut], settings: Settings, examples: int) -> list[list[Cut]]:
    """Cuts whose moments fit into the memory allowed together, in order."""

    def needed(cut: Cut) -> int:
        return sum(t.moments_bytes(cut.shape) for t in transforms_of(cut, settings, examples))

    return grouped(cuts, needed, settings.moments_bytes)


def grouped(cuts: Sequence[Cut], needed: Callable[[Cut], int], most: int) -> list[list[Cut]]:
    """Cuts in order, divided where together they would need more than `most`."""
    groups: list[list[Cut]] = []
    held = most + 1
    for cut in cuts:
        if held + needed(cut) > most:
            groups.append([])
            held = 0
        groups[-1].append(cut)
        held += needed(cut)
    return groups


def _transforms(
    reader: FeatureReader,
    samples: Samples,
    cuts: Sequence[Cut],
    settings: Settings,
    progress: Progress,
) -> Tables:
    fitters = {
        (cut.index, transform): transform.fitter(cut.shape)
        for cut in cuts
        for transform in transforms_of(cut, settings, len(samples))
    }
    needed = {
        (cut.index, transform): _examples_needed(transform, cut)
        for cut in cuts
        for transform in transforms_of(cut, settings, len(samples))
    }
    seen = 0
    for rows, inputs in samples.batches(samples.mixed(), settings.batch):
        features, _ = reader.read(inputs)
        for key, fitter in fitters.items():
            if seen < needed[key]:
                fitter.add(features[key[0]])
        seen += len(rows)
        progress(len(rows))
    return {key: fitter.table() for key, fitter in fitters.items()}


def _examples_needed(transform: MapTransform, cut: Cut) -> int:
    tiles = transform.geometry(cut.shape)
    if isinstance(transform, SeparableKLT):
        return _SEPARABLE_EXAMPLES
    return max(_LEAST_EXAMPLES, math.ceil(_VECTORS * tiles.dimension / math.prod(tiles.blocks)))


def _trial_groups(cuts: Sequence[Cut]) -> list[list[Cut]]:
    """Cuts whose features of the trial examples fit into memory together, in order."""
    return grouped(cuts, lambda c: 4 * math.prod(c.shape) * _TRIAL_EXAMPLES, _TRIAL_BYTES)


def _rates(
    model: Model,
    samples: Samples,
    cuts: Sequence[Cut],
    tables: Tables,
    settings: Settings,
    progress: Progress,
    *,
    classed: bool,
) -> list[FittedCut]:
    reader = FeatureReader(model, cuts, threads=settings.threads)
    rows = samples.mixed()[:_TRIAL_EXAMPLES]
    features, reference = reader.read(samples.inputs(rows))
    tallies = []
    for cut in cuts:
        mine = {t: tables[cut.index, t] for t in transforms_of(cut, settings, len(samples))}
        tail = Tail(model, cut, threads=settings.threads)
        feature = features[cut.index]
        scale = find_scale(cut, feature, reference, tail, mine, settings, classed=classed)
        tallies.append(Tally(cut, scale, mine[scale.transform], feature, settings))
    del features
    progress(len(rows))
    counted = samples.mixed()[: settings.table_examples]
    for part, inputs in samples.batches(counted, settings.batch):
        if all(tally.enough for tally in tallies):
            progress(len(part))
            continue
        features, _ = reader.read(inputs)
        for tally in tallies:
            if not tally.enough:
                tally.count(features[tally.cut.index])
        progress(len(part))
    return [tally.result() for tally in tallies]
