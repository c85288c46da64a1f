"""Which cuts a plan runs."""

from __future__ import annotations

from narrows.errors import PlanError
from narrows.graph.cuts import Cut, Cuts, find

_CODED_AXES = (1, 2, 3)  # features, and channels with one or two axes of positions


def select_cuts(cuts: Cuts, wanted: str) -> tuple[Cut, ...]:
    """The cuts to plan, in the model's order; the input and the output are never among them.

    Args:
        cuts: All of a model.
        wanted: "auto" (those no other cut dominates), "auto:20" (those, and the smallest others
            until there are 20), "all", or numbers and tensor names with commas between.

    Raises:
        CutError: A number or a name is no cut; the message names the nearest.
        PlanError: The wish cannot be read, or nothing is left to cut.
    """
    inner = tuple(
        cut for cut in cuts if 0 < cut.index < len(cuts) - 1 and len(cut.shape) in _CODED_AXES
    )
    if not inner:
        msg = (
            f"the model has no cut between input and output: {len(cuts.refused)} places were "
            "looked at and more than one tensor crosses each; `narrows inspect` lists them. "
            "Plan with --cuts none for the routes that need no cut"
        )
        if wanted != "none":
            raise PlanError(msg)
    if wanted == "none":
        return ()
    if wanted == "all":
        return inner
    if wanted == "auto" or wanted.startswith("auto:"):
        return _auto(inner, wanted.removeprefix("auto").removeprefix(":"))
    found = [find(cuts, part.strip()) for part in wanted.split(",")]
    ends = [cut for cut in found if cut not in inner]
    if ends:
        msg = (
            f"cut {ends[0].index} ({ends[0].tensor!r}, {ends[0].shape}) cannot be planned: it is "
            "the model's input or output, or has more than three axes; choose among "
            f"{', '.join(str(cut.index) for cut in inner)}"
        )
        raise PlanError(msg)
    return tuple(sorted(set(found), key=lambda cut: cut.index))


def _auto(inner: tuple[Cut, ...], count: str) -> tuple[Cut, ...]:
    if count and not count.isdigit():
        msg = f"cuts 'auto:{count}' cannot be read: give a number, e.g. auto:20"
        raise PlanError(msg)
    picked = [cut for cut in inner if cut.dominated_by is None]
    others = sorted(
        (cut for cut in inner if cut.dominated_by is not None),
        key=lambda cut: (cut.size_bytes, cut.head_macs),
    )
    if not picked:
        picked, others = others[:1], others[1:]
    picked += others[: max(0, int(count or 0) - len(picked))]
    return tuple(sorted(picked, key=lambda cut: cut.index))
