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


def quality_text(quality: dict[str, Any], *, name: str) -> str:
    """One line of a record of `quality_record`.

    Args:
        quality: The record.
        name: As it was given there.
    """
    examples = f"{quality['n']} {quality['set']} examples"
    if "drop" not in quality:
        before, after = quality["original"], quality[name]
        return f"{quality['metric']} {before:.5g} → {after:.5g} on {examples}"
    accuracy = quality["accuracy"]
    value, low, high = (100 * quality["drop"][key] for key in ("value", "low", "high"))
    return (
        f"accuracy {accuracy['original']:.4f} → {accuracy[name]:.4f} on {examples}: "
        f"drop {value:+.2f} points ({low:+.2f}, {high:+.2f})"
    )
