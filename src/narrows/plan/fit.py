"""Codecs for every planned cut, fitted in two passes over the fit set.

    pass 1   every cut's features ──► moments ──► a transform for each block size
    pass 2   a part of the set: transform ──► block and steps ──► symbols at every rate ──► counts
             ──► tables of each coder

The features themselves are never kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from narrows.coding import CODERS, Table
from narrows.coding.base import Fitter, Floats, Shape
from narrows.coding.transforms.blocked_pca import BlockedPCA
from narrows.graph.cuts import Cut
from narrows.graph.load import Model
from narrows.plan.features import FeatureReader, Tail
from narrows.plan.fitted import FittedCut, FittedRate, quantizer
from narrows.plan.samples import Samples
from narrows.plan.scale import Scale, find_scale
from narrows.plan.settings import Settings

Progress = Callable[[int], None]

GROUP = 8  # cuts whose tables or tails are in memory together
_TRIAL_EXAMPLES = 16
# Huffman's fitter keeps what it is given first, to group the components.
_HUFFMAN_SYMBOLS = 1 << 20


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
    for group in moment_groups(cuts, settings):
        reader = FeatureReader(model, group, threads=settings.threads)
        tables = _transforms(reader, samples, group, settings, progress)
        for start in range(0, len(group), GROUP):
            part = group[start : start + GROUP]
            yield from _rates(model, samples, part, tables, settings, progress, classed=classed)


def fit_passes(cuts: Sequence[Cut], settings: Settings, examples: int) -> int:
    """Examples that `fit_cuts` passes in all, for a progress bar."""
    counted = min(settings.table_examples, examples)
    groups = moment_groups(cuts, settings)
    parts = sum(-(-len(group) // GROUP) for group in groups)
    return len(groups) * examples + parts * (counted + min(_TRIAL_EXAMPLES, examples))


def moment_groups(cuts: Sequence[Cut], settings: Settings) -> list[list[Cut]]:
    """Cuts whose moments fit into the memory allowed together, in order."""
    groups: list[list[Cut]] = []
    held = settings.moments_bytes + 1
    for cut in cuts:
        needed = sum(BlockedPCA(block=b).moments_bytes(cut.shape) for b in blocks_of(cut, settings))
        if held + needed > settings.moments_bytes:
            groups.append([])
            held = 0
        groups[-1].append(cut)
        held += needed
    return groups


def blocks_of(cut: Cut, settings: Settings) -> tuple[int, ...]:
    """Block sizes worth fitting: a feature without positions has only one."""
    spatial = len(cut.shape) >= 3
    return settings.blocks if spatial else (1,)


def _transforms(
    reader: FeatureReader,
    samples: Samples,
    cuts: Sequence[Cut],
    settings: Settings,
    progress: Progress,
) -> dict[tuple[int, int], Table]:
    """Pass 1: transform tables by cut and block."""
    fitters = {
        (cut.index, block): BlockedPCA(block=block).fitter(cut.shape)
        for cut in cuts
        for block in blocks_of(cut, settings)
    }
    for rows, inputs in samples.batches(samples.rows, settings.batch):
        features, _ = reader.read(inputs)
        for (index, _), fitter in fitters.items():
            fitter.add(features[index])
        progress(len(rows))
    return {key: fitter.table() for key, fitter in fitters.items()}


def _rates(
    model: Model,
    samples: Samples,
    cuts: Sequence[Cut],
    tables: dict[tuple[int, int], Table],
    settings: Settings,
    progress: Progress,
    *,
    classed: bool,
) -> list[FittedCut]:
    """Pass 2: block and steps of each cut, then quantizers and coder tables of each rate."""
    reader = FeatureReader(model, cuts, threads=settings.threads)
    rows = samples.spread(min(_TRIAL_EXAMPLES, len(samples)))
    features, reference = reader.read(samples.inputs(rows))
    counters = []
    for cut in cuts:
        mine = {block: tables[cut.index, block] for block in blocks_of(cut, settings)}
        tail = Tail(model, cut, threads=settings.threads)
        scale = find_scale(
            cut, features[cut.index], reference, tail, mine, settings, classed=classed
        )
        counters.append(_Counter(cut, scale, mine[scale.block], settings))
    del features
    progress(len(rows))
    counted = samples.spread(min(settings.table_examples, len(samples)))
    for part, inputs in samples.batches(counted, settings.batch):
        features, _ = reader.read(inputs)
        for counter in counters:
            counter.add(features[counter.cut.index])
        progress(len(part))
    return [counter.result() for counter in counters]


class _Counter:
    """Quantizers and coder tables of all rates of one cut, from batches of features."""

    def __init__(self, cut: Cut, scale: Scale, table: Table, settings: Settings) -> None:
        self.cut, self._scale, self._settings = cut, scale, settings
        self._transform, self._table = BlockedPCA(block=scale.block), table
        self._shape: Shape | None = None
        self._quantizers = [
            quantizer(scale.rms * share, settings.threshold) for share in scale.step_shares
        ]
        self._shifts: list[Fitter] = []
        self._coders: list[dict[str, Fitter]] = []
        self._seen = 0

    def add(self, feature: Floats) -> None:
        """Count the symbols of features (n, *shape)."""
        y = self._transform.forward(feature, self._table)
        if self._shape is None:
            self._start(y.shape[1:])
        huffman_too = self._seen < _HUFFMAN_SYMBOLS or not self._seen
        self._seen += y.size
        for member, shifts, coders in zip(
            self._quantizers, self._shifts, self._coders, strict=True
        ):
            shifts.add(y)
            symbols = member.quantize(y, shifts.table())
            for name, fitter in coders.items():
                if name != "huffman" or huffman_too:
                    fitter.add(symbols)

    def _start(self, shape: Shape) -> None:
        self._shape = shape
        self._shifts = [member.fitter(shape) for member in self._quantizers]
        names = self._settings.coders
        self._coders = [
            {name: CODERS[name]().fitter(shape) for name in names} for _ in self._quantizers
        ]

    def result(self) -> FittedCut:
        """What was fitted."""
        assert self._shape is not None
        rates = [
            FittedRate(
                index=k,
                step=self._scale.rms * share,
                step_share=share,
                quantizer_table=self._shifts[k].table(),
                coder_tables={name: f.table() for name, f in self._coders[k].items()},
            )
            for k, share in enumerate(self._scale.step_shares)
        ]
        return FittedCut(
            cut=self.cut.index,
            block=self._transform.block,
            shape=self.cut.shape,
            component_shape=self._shape,
            transform_table=self._table,
            threshold=self._settings.threshold,
            rates=tuple(rates),
        )
