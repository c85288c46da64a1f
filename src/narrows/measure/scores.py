"""Scores of a batch: what makes them fit to be judged, and the label's place among them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.errors import MeasureError
from narrows.measure.divergence import Floats

Labels = NDArray[Any]


def check_batch(outputs: Floats, labels: Labels, reference: Floats | None) -> None:
    """Refuse a batch that cannot be judged.

    Raises:
        MeasureError: Shapes do not fit, or outputs are not finite.
    """
    if outputs.ndim != 2 or len(labels) != len(outputs):
        msg = (
            f"outputs {outputs.shape} and labels {labels.shape} do not fit:"
            " give (n, k) outputs and n labels"
        )
        raise MeasureError(msg)
    if reference is not None and reference.shape != outputs.shape:
        msg = (
            f"outputs {outputs.shape} and reference outputs {reference.shape} differ in shape:"
            " give the outputs of both models for the same samples"
        )
        raise MeasureError(msg)
    for title, values in (("outputs", outputs), ("reference outputs", reference)):
        if values is None or np.isfinite(values).all():
            continue
        rows = np.flatnonzero(~np.isfinite(values).all(1))
        msg = (
            f"{title} of {len(rows)} of {len(values)} samples are not finite (first: {rows[0]}):"
            " look at the model's weights and at the preprocessing"
        )
        raise MeasureError(msg)


def class_numbers(labels: Labels, classes: int) -> NDArray[np.int64]:
    """Labels (n,) as numbers of classes.

    Raises:
        MeasureError: Some are none.
    """
    numbers = np.asarray(labels)
    whole = numbers.ndim == 1 and np.issubdtype(numbers.dtype, np.integer)
    if not whole or (len(numbers) and not 0 <= numbers.min() <= numbers.max() < classes):
        low, high = (numbers.min(), numbers.max()) if numbers.size else (0, 0)
        msg = (
            f"labels are {numbers.dtype} {numbers.shape} from {low} to {high}:"
            f" class numbers 0 to {classes - 1} are needed"
        )
        raise MeasureError(msg)
    return numbers.astype(np.int64)


def ranks(outputs: Floats, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of the label among the outputs, 0 = highest; ties go to the lower class number."""
    own = outputs[np.arange(len(labels)), labels.clip(max=outputs.shape[1] - 1)][:, None]
    earlier = np.arange(outputs.shape[1]) < labels[:, None]
    places: NDArray[np.int64] = ((outputs > own) | ((outputs == own) & earlier)).sum(1)
    return np.where(labels < outputs.shape[1], places, outputs.shape[1])
