"""Answers of a network before and after a change, as commands write them down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from narrows.measure.judging import Judged


def quality_record(before: Judged, after: Judged, *, name: str) -> dict[str, Any]:
    """Both metrics on the same examples; of classes both accuracies too, and the paired drop.

    Args:
        before: The original's answers.
        after: Those of what was made of it.
        name: What the record calls that, e.g. "compressed".
    """
    from narrows.measure.quality import paired_drop

    judged = {"original": before.quality, name: after.quality}
    found: dict[str, Any] = {
        "set": before.split,
        "n": before.quality.n,
        "metric": before.metric,
        **{which: quality.metric for which, quality in judged.items()},
    }
    if before.classes is not None:
        drop, low, high = paired_drop(before.quality, after.quality)
        found["accuracy"] = {which: quality.accuracy for which, quality in judged.items()}
        found["drop"] = {"value": drop, "low": low, "high": high}
    return found
