"""Points and times → candidates with their costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from narrows.coding import ImageCodec
from narrows.coding.transforms import BlockedPCA, SeparableKLT
from narrows.graph.cuts import Cut
from narrows.graph.packed_model import pack_model
from narrows.packed import PackedFile
from narrows.plan.alternatives import picture_spec
from narrows.plan.candidate import Candidate, CodecSpec, Route, Term
from narrows.plan.fitted import FittedCut, FittedRate
from narrows.plan.halves import Halves
from narrows.plan.judge import Answers, Judge
from narrows.plan.points import Payloads, Point, PointKey
from narrows.plan.predict import Places, Work, cost
from narrows.plan.profile import Cloud, Device
from narrows.plan.timing import PartTimes

# Short names of transforms, in the names of codecs.
_KINDS = {BlockedPCA.name: "pca", SeparableKLT.name: "klt"}
_NONE = Term(seconds=0.0, measured=True)
_LOCAL = Payloads(sizes=np.zeros(1, np.int64), encode_s=np.zeros(1), decode_s=np.zeros(1))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Assembler:
    """Makes the candidates of one model variant.

    Args:
        variant: Its name.
        halves: Where its heads and tails come from.
        places: The plan's.
        times: Of the model's parts.
        judge: Of the task.
        labels: Of the choose set.
        exact: The uncompressed model's answers on all of the choose set.
        local_answers: Those of the network that the device runs alone.
        width: Number of outputs.
        reply_bytes: Size of an answer.
        pixels: Values of a picture, height × width; 0 for arrays.
        prepare: Makes one input of pixels or an array, as a device does before its head.
        packed: The packed file of the device's network, where it is kept in one.
    """

    variant: str
    halves: Halves
    places: Places
    times: PartTimes
    judge: Judge
    labels: NDArray[Any]
    exact: Answers
    local_answers: Answers
    width: int
    reply_bytes: float
    pixels: int
    prepare: Callable[[], object]
    packed: PackedFile | None = None
    _files: dict[int | None, int] = field(default_factory=dict)
    _known: dict[str, Term] = field(default_factory=dict)

    def local(self) -> Candidate:
        """All on the device."""
        last = self.halves.heads[max(self.halves.heads)]
        work = Work(
            head=_sum(self._prepared(self.places.device), self.times.whole(self.places.device)),
            encode=_NONE,
            tail=_NONE,
            crosses=False,
            payload_bytes=0.0,
            reply_bytes=0.0,
            device_macs=last.head_macs,
            device_memory_bytes=last.head_weight_bytes + last.head_peak_bytes,
            device_flash_bytes=self._flash_bytes(None),
        )
        return self._candidate("local", Route.LOCAL, None, _LOCAL, self.local_answers, work)

    def pictures(
        self, codecs: Mapping[str, ImageCodec], points: Mapping[str, Point]
    ) -> list[Candidate]:
        """The picture to the whole model in the cloud."""
        made = []
        for name, point in points.items():
            codec = codecs[name]
            payloads = point.payloads[codec.format]
            encode = self._on_device(
                payloads,
                self.places.device.picture_encode_s_per_pixel.get(codec.format, 0.0)
                * self.pixels
                * codec.scale**2,
            )
            decode = self._in_cloud(
                payloads,
                self.places.cloud.picture_decode_s_per_pixel.get(codec.format, 0.0) * self.pixels,
            )
            work = self._remote(encode, decode, float(payloads.sizes.mean()))
            made.append(
                self._candidate(
                    name, Route.IMAGE, picture_spec(codec), payloads, point.answers, work
                )
            )
        return made

    def raw(self, points: Mapping[str, Point]) -> list[Candidate]:
        """The input as it is to the whole model in the cloud."""
        made = []
        for name, point in points.items():
            payloads = point.payloads[name]
            # Deflating is timed here and scaled: profiles state no rate for it.
            encode = self._on_device(payloads, float(np.median(payloads.encode_s)))
            decode = self._in_cloud(payloads, float(np.median(payloads.decode_s)))
            work = self._remote(encode, decode, float(payloads.sizes.mean()))
            made.append(
                self._candidate(
                    name, Route.RAW, CodecSpec(name=name), payloads, point.answers, work
                )
            )
        return made

    def splits(
        self, fitted: Mapping[int, FittedCut], points: Mapping[PointKey, Point]
    ) -> list[Candidate]:
        """Every cut × rate × coder."""
        made = []
        run = {index for index, _ in points}
        parts = {
            index: (
                _sum(self._prepared(self.places.device), self.times.head(index, fit)),
                self.times.tail(index, fit),
            )
            for index, fit in fitted.items()
            if index in run
        }
        for (index, k), point in sorted(points.items()):
            fit = fitted[index]
            for coder, payloads in point.payloads.items():
                head = self.halves.heads[index]
                work = self._split_work(head, fit, fit.rates[k], payloads, *parts[index])
                spec = split_spec(fit, fit.rates[k], coder)
                made.append(
                    self._candidate(
                        f"cut{index}/{spec.name}/r{k}",
                        Route.SPLIT,
                        spec,
                        payloads,
                        point.answers,
                        work,
                        cut=self.halves.tails[index],
                        rate_index=k,
                    )
                )
        return made

    def _split_work(
        self,
        cut: Cut,
        fit: FittedCut,
        rate: FittedRate,
        payloads: Payloads,
        head: Term,
        tail: Term,
    ) -> Work:
        device, cloud = self.places.device, self.places.cloud
        symbols = int(np.prod(fit.component_shape(rate)))
        encode = self._on_device(
            payloads, device.encode_overhead_s + device.encode_s_per_symbol * symbols
        )
        decode = self._in_cloud(payloads, cloud.decode_s_per_symbol * symbols)
        transform_bytes = sum(array.nbytes for array in fit.rate_table(rate).values())
        return Work(
            head=head,
            encode=encode,
            tail=_sum(tail, decode, Term(seconds=cloud.service_s)),
            crosses=True,
            payload_bytes=float(payloads.sizes.mean()),
            reply_bytes=self.reply_bytes,
            device_macs=cut.head_macs + fit.macs(rate),
            device_memory_bytes=cut.head_weight_bytes + cut.head_peak_bytes + transform_bytes,
            device_flash_bytes=self._flash_bytes(cut.index) + transform_bytes,
        )

    def _remote(self, encode: Term, decode: Term, payload_bytes: float) -> Work:
        cloud = self.places.cloud
        if "whole" not in self._known:
            self._known["whole"] = self.times.whole(cloud)
        return Work(
            head=_NONE,
            encode=encode,
            tail=_sum(
                self._prepared(cloud),
                self._known["whole"],
                decode,
                Term(seconds=cloud.service_s),
            ),
            crosses=True,
            payload_bytes=payload_bytes,
            reply_bytes=self.reply_bytes,
            device_macs=0,
            device_memory_bytes=0,
            device_flash_bytes=0,
        )

    def _flash_bytes(self, index: int | None) -> int:
        """The file of the head of a cut, its transform apart; of the whole network for None."""
        if index not in self._files:
            proto = self.halves.device.proto if index is None else self.halves.head(index)
            packed = self.packed and pack_model(proto, like=self.packed)
            self._files[index] = len(packed) if packed else proto.ByteSize()
        return self._files[index]

    def _prepared(self, place: Device | Cloud) -> Term:
        name = f"prepare on {type(place).__name__}"
        if name not in self._known:
            self._known[name] = self.times.prepare(place, self.prepare)
        return self._known[name]

    def _on_device(self, payloads: Payloads, predicted_s: float) -> Term:
        device = self.places.device
        if device.here:
            return Term(seconds=float(np.median(payloads.encode_s)), measured=True)
        return Term(seconds=predicted_s * device.slowdown)

    def _in_cloud(self, payloads: Payloads, predicted_s: float) -> Term:
        cloud = self.places.cloud
        if cloud.here:
            return Term(seconds=float(np.median(payloads.decode_s)), measured=True)
        return Term(seconds=predicted_s * cloud.slowdown)

    def _candidate(
        self,
        name: str,
        route: Route,
        codec: CodecSpec | None,
        payloads: Payloads,
        answers: Answers,
        work: Work,
        *,
        cut: Cut | None = None,
        rate_index: int | None = None,
    ) -> Candidate:
        return Candidate(
            id=f"{self.variant}/{name}",
            variant=self.variant,
            route=route,
            cut=None if cut is None else cut.index,
            tensor=None if cut is None else cut.tensor,
            codec=codec,
            rate_index=rate_index,
            payload_bytes=float(payloads.sizes.mean()),
            payload_bytes_p95=float(np.quantile(payloads.sizes, 0.95)),
            payload_n=len(payloads.sizes),
            choose=self.judge.score(answers, self.labels, self.width),
            choose_drop=self.judge.drop(self.exact, answers, self.labels),
            cost=cost(work, self.places),
        )


def split_spec(fit: FittedCut, rate: FittedRate, coder: str) -> CodecSpec:
    """The codec of a rate as a record."""
    return CodecSpec(
        name=f"{_KINDS[fit.transform.name]}{fit.transform.block}-{coder}",
        block=fit.transform.block,
        step=rate.step,
        step_share=rate.step_share,
        dead_zone=fit.threshold,
        side_bytes=fit.codec(rate, coder).side_bytes,
    )


def _sum(*terms: Term) -> Term:
    """Several parts of one term: measured if every part that takes time is."""
    taken = [term for term in terms if term.seconds > 0]
    return Term(
        seconds=sum(term.seconds for term in taken), measured=all(t.measured for t in taken)
    )
