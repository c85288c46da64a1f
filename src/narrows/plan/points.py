"""Every cut × rate on some examples: real payloads, and answers of the tails alone.

examples ──whole model, once──► features ──transform──► y ──each rate──► symbols
symbols ──each coder──► payload bytes        symbols ──back──► feature' ──tail──► answers
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding import CODERS
from narrows.coding.base import Floats, Symbols
from narrows.errors import PlanError
from narrows.graph.cost import size_bytes
from narrows.graph.cuts import Cut
from narrows.plan.features import FeatureReader, Tail
from narrows.plan.fit import Progress
from narrows.plan.fitted import FittedCut, FittedRate
from narrows.plan.halves import Halves
from narrows.plan.judge import Answers, Judge, joined
from narrows.plan.samples import Rows, Samples
from narrows.plan.settings import Settings

_DECODED_EXAMPLES = 4
_GROUP = 8  # cuts that an interrupted plan has to run again at most


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Payloads:
    """Payloads of one coder at one point.

    Args:
        sizes: Bytes of each example that was coded (m,): all of them, or a part while screening.
        encode_s: Encoding time of each (m,), seconds, on this machine.
        decode_s: Decoding time of some of them.
    """

    sizes: NDArray[np.int64]
    encode_s: NDArray[np.float64]
    decode_s: NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Point:
    """What was found out about one cut at one rate, or one picture codec at one quality.

    Args:
        answers: Example by example.
        payloads: By coder.
    """

    answers: Answers
    payloads: Mapping[str, Payloads]


PointKey = tuple[int, int]  # cut, rate


def run_points(
    halves: Halves,
    fitted: Mapping[int, FittedCut],
    wanted: Mapping[int, Sequence[int]],
    samples: Samples,
    rows: Rows,
    reference: Callable[[Rows], Floats],
    judge: Judge,
    settings: Settings,
    coded: int,
    done: Callable[[int, Mapping[PointKey, Point]], None],
    progress: Progress = lambda _: None,
) -> None:
    """Run rates of cuts on some examples.

    Args:
        halves: Where heads and tails come from.
        fitted: Codecs by cut index.
        wanted: Rate indexes by index of the cuts to run.
        samples: The set.
        rows: Which of its examples.
        reference: The uncompressed outputs of rows.
        judge: Of the task.
        settings: Batch, threads, memory for tails.
        coded: How many of the examples to code for real, spread over them.
        done: Called for each cut that is finished, with its points.
        progress: Called with the number of points × examples that are finished.

    Raises:
        PlanError: A feature is not finite, or a coder does not give back what it was given.
    """
    for group in tail_groups(wanted, halves, settings):
        heads = [halves.heads[index] for index in group]
        reader = FeatureReader(halves.device, heads, threads=settings.threads)
        runners = [_Runner(halves, i, fitted[i], wanted[i], judge, settings) for i in group]
        count = min(coded, len(rows))
        picked = set(rows[np.arange(count) * len(rows) // max(1, count)].tolist())
        for part, inputs in samples.batches(rows, settings.batch):
            features, _ = reader.read(inputs)
            to_code = np.array([row in picked for row in part.tolist()])
            for runner in runners:
                labels = samples.labels[part]
                feature = features[runner.cut.index]
                runner.add(part, feature, labels, reference(part), to_code)
                progress(len(part) * len(wanted[runner.cut.index]))
        for runner in runners:
            done(runner.cut.index, runner.points())


def tail_groups(wanted: Iterable[int], halves: Halves, settings: Settings) -> list[list[int]]:
    """Indices of cuts whose tails fit into the memory allowed together, eight at most."""
    weights = sum(size_bytes(tensor) for tensor in halves.cloud.proto.graph.initializer)
    groups: list[list[int]] = []
    held = 0
    for index in sorted(wanted):
        size = max(0, weights - halves.tails[index].head_weight_bytes)
        if not groups or len(groups[-1]) == _GROUP or held + size > settings.tails_bytes:
            groups.append([])
            held = 0
        groups[-1].append(index)
        held += size
    return groups


class _Runner:
    """One cut with its tail and its rates."""

    def __init__(
        self,
        halves: Halves,
        index: int,
        fitted: FittedCut,
        rates: Sequence[int],
        judge: Judge,
        settings: Settings,
    ) -> None:
        self.cut: Cut = halves.tails[index]
        self._fitted, self._judge = fitted, judge
        self._tail = Tail(halves.cloud, self.cut, threads=settings.threads)
        self._rates = [fitted.rates[k] for k in rates]
        self._answers: dict[int, list[Answers]] = {k: [] for k in rates}
        names = settings.coders
        self._coded = {k: {name: _Coded(name) for name in names} for k in rates}

    def add(
        self,
        rows: Rows,
        feature: Floats,
        labels: NDArray[Any],
        reference: Floats,
        to_code: NDArray[np.bool_],
    ) -> None:
        """Run all rates on a batch of features (n, *shape)."""
        fitted = self._fitted
        components = fitted.components(feature)
        for rate in self._rates:
            symbols = fitted.symbols(components, rate)
            for coded in self._coded[rate.index].values():
                coded.add(symbols[to_code], rate)
            outputs = self._tail.run(fitted.restored(symbols, rate))
            if not np.isfinite(outputs).all():
                msg = (
                    f"the tail after cut {self.cut.index} ({self.cut.tensor!r}) answers with NaN "
                    f"or infinity at step {rate.step:.3g}: leave that cut out"
                )
                raise PlanError(msg)
            self._answers[rate.index].append(self._judge.answers(rows, outputs, labels, reference))

    def points(self) -> dict[PointKey, Point]:
        """What was found, by cut and rate."""
        return {
            (self.cut.index, k): Point(
                answers=joined(parts),
                payloads={name: coded.payloads() for name, coded in self._coded[k].items()},
            )
            for k, parts in self._answers.items()
        }


class _Coded:
    """Sizes and times of one coder; the first payloads are decoded again and compared."""

    def __init__(self, name: str) -> None:
        self._name, self._coder = name, CODERS[name]()
        self._sizes: list[int] = []
        self._encode_s: list[float] = []
        self._decode_s: list[float] = []

    def add(self, batch: Symbols, rate: FittedRate) -> None:
        table = rate.coder_tables[self._name]
        for symbols in batch:
            started_s = perf_counter()
            payload = self._coder.encode(symbols, table)
            self._encode_s.append(perf_counter() - started_s)
            self._sizes.append(len(payload))
            if len(self._decode_s) < _DECODED_EXAMPLES:
                started_s = perf_counter()
                found = self._coder.decode(payload, symbols.shape, table)
                self._decode_s.append(perf_counter() - started_s)
                if not np.array_equal(found, symbols):
                    msg = (
                        f"coder {self._name!r} does not give back the symbols it was given at "
                        f"step {rate.step:.3g}: its tables do not fit; please report this"
                    )
                    raise PlanError(msg)

    def payloads(self) -> Payloads:
        return Payloads(
            sizes=np.array(self._sizes, np.int64),
            encode_s=np.array(self._encode_s),
            decode_s=np.array(self._decode_s),
        )


def joined_points(parts: Sequence[Point]) -> Point:
    """Points of several parts of a set as one."""
    payloads = {
        name: Payloads(
            sizes=np.concatenate([p.payloads[name].sizes for p in parts]),
            encode_s=np.concatenate([p.payloads[name].encode_s for p in parts]),
            decode_s=np.concatenate([p.payloads[name].decode_s for p in parts]),
        )
        for name in parts[0].payloads
    }
    return Point(answers=joined([p.answers for p in parts]), payloads=payloads)
