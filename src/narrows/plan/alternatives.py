"""The honest alternatives: the picture as JPEG, WebP or AVIF, and the input as it is."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import final

import numpy as np

from narrows.coding import ImageCodec
from narrows.coding.base import Floats
from narrows.graph.load import Model
from narrows.plan.candidate import CodecSpec
from narrows.plan.features import FeatureReader
from narrows.plan.fit import Progress
from narrows.plan.judge import Answers, Judge, joined
from narrows.plan.points import Payloads, Point
from narrows.plan.samples import Rows, Samples
from narrows.plan.settings import Settings
from narrows.task import Task

_LEVEL = 6
_SMALL = 2  # qualities of pictures that are sent smaller


def picture_codecs(task: Task, settings: Settings) -> dict[str, ImageCodec]:
    """Picture codecs to try, by id, e.g. "jpeg-q60-s75"; none unless the task has pictures."""
    if task.kind != "image" or task.preprocess.channels != 3:
        return {}
    return {
        f"{name}-q{quality}" + (f"-s{100 * scale:.0f}" if scale < 1 else ""): ImageCodec(
            format=name,  # type: ignore[arg-type]
            quality=quality,
            scale=scale,
        )
        for name in settings.pictures
        for scale in settings.scales
        for quality in sorted(settings.qualities[name])[-(_SMALL if scale < 1 else 99) :]
    }


def picture_spec(codec: ImageCodec) -> CodecSpec:
    """The codec as a record."""
    return CodecSpec(name=codec.format, quality=codec.quality, scale=codec.scale)


def run_pictures(
    model: Model,
    task: Task,
    codecs: Mapping[str, ImageCodec],
    samples: Samples,
    rows: Rows,
    reference: Callable[[Rows], Floats],
    judge: Judge,
    settings: Settings,
    progress: Progress = lambda _: None,
) -> dict[str, Point]:
    """Run the whole model on pictures that went through each codec.

    Args:
        model: The whole model.
        task: Prepares pixels.
        codecs: By id.
        samples: The set.
        rows: Which of its examples.
        reference: The outputs of rows for the pictures as they are.
        judge: Of the task.
        settings: Batch and threads.
        progress: Called with the number of codecs × examples that are finished.
    """
    reader = FeatureReader(model, (), threads=settings.threads)
    runs = {name: _PictureRun(codec) for name, codec in codecs.items()}
    for start in range(0, len(rows), settings.batch):
        part = rows[start : start + settings.batch]
        pixels = [samples.pixels(int(row)) for row in part]
        for run in runs.values():
            inputs = np.stack([task.to_input(run.through(picture)) for picture in pixels])
            _, outputs = reader.read(inputs)
            run.answers.append(judge.answers(part, outputs, samples.labels[part], reference(part)))
            progress(len(part))
    return {name: run.point() for name, run in runs.items()}


@final
class _PictureRun:
    """Sizes, times and answers of one picture codec."""

    def __init__(self, codec: ImageCodec) -> None:
        self._codec = codec
        self._sizes: list[int] = []
        self._encode_s: list[float] = []
        self._decode_s: list[float] = []
        self.answers: list[Answers] = []

    def through(
        self, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """Encode and decode one picture."""
        started_s = perf_counter()
        data = self._codec.encode(pixels)
        encoded_s = perf_counter()
        height, width, channels = pixels.shape
        found = self._codec.decode(data, (height, width, channels))
        self._decode_s.append(perf_counter() - encoded_s)
        self._encode_s.append(encoded_s - started_s)
        self._sizes.append(len(data))
        return found

    def point(self) -> Point:
        """What was found."""
        payloads = Payloads(
            sizes=np.array(self._sizes, np.int64),
            encode_s=np.array(self._encode_s),
            decode_s=np.array(self._decode_s),
        )
        return Point(answers=joined(self.answers), payloads={self._codec.format: payloads})


def run_raw(samples: Samples, rows: Rows, exact: Answers) -> dict[str, Point]:
    """The input as it is, and deflated: the answers are the uncompressed model's own.

    Args:
        samples: The set.
        rows: Which of its examples.
        exact: The uncompressed model's answers to them.
    """
    plain, deflated = [], []
    encode_s, decode_s = [], []
    for row in rows:
        data = np.ascontiguousarray(samples.array(int(row))).tobytes()
        started_s = perf_counter()
        small = zlib.compress(data, _LEVEL)
        encoded_s = perf_counter()
        zlib.decompress(small)
        decode_s.append(perf_counter() - encoded_s)
        encode_s.append(encoded_s - started_s)
        plain.append(len(data))
        deflated.append(len(small))
    none = [0.0] * len(plain)
    name = "pixels" if samples.pictures else "values"
    return {
        name: _raw_point(name, exact, plain, none, none),
        f"{name}-deflate": _raw_point(f"{name}-deflate", exact, deflated, encode_s, decode_s),
    }


def _raw_point(
    name: str,
    exact: Answers,
    sizes: Sequence[int],
    encode_s: Sequence[float],
    decode_s: Sequence[float],
) -> Point:
    payloads = Payloads(
        sizes=np.array(sizes, np.int64),
        encode_s=np.array(encode_s),
        decode_s=np.array(decode_s),
    )
    return Point(answers=exact, payloads={name: payloads})
