"""Plan records as what the figures are about: networks, plans, and what the numbers stand on.

    plan.json … ──read_plans──► PlanRecord … ──gather──► Scene ──► figures, page

Text of a record comes from file names, tensor names and users. `read_plans` takes out control
characters, lone surrogates and marks that turn the direction of writing; escaping for HTML, SVG
and plotly's own markup is done where each is written.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from narrows.config import from_dict, read_json, to_dict
from narrows.errors import PlanError
from narrows.plan.candidate import Candidate, Route
from narrows.plan.record import CutRow, PlanRecord, VariantRow
from narrows.report.palette import codec_text, family_of

PLAN_FILE = "plan.json"
SHARES = ("top1", "top5", "f1-macro")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A model variant of one of the plans.

    Args:
        label: Unique in the report.
        plan: Index of its plan.
        variant: Its facts and cuts.
        candidates: Those of its plan that run it.
        exact: Metric of the original, uncompressed, which a drop of none stands for: its own,
            unless it was made of another variant.
    """

    label: str
    plan: int
    variant: VariantRow
    exact: float
    candidates: tuple[Candidate, ...]

    @property
    def input_bytes(self) -> int:
        """Bytes of the input, uncompressed: those of cut 0."""
        return self.variant.cuts[0].size_bytes if self.variant.cuts else 0

    def is_whole(self, candidate: Candidate) -> bool:
        """Whether a candidate was judged on the whole choose set, not screened out on a part.

        The planner chooses only among these: a part is too few to tell a loss.
        """
        return candidate.choose.n == self.variant.choose.n

    def cut(self, index: int) -> CutRow | None:
        """The cut of this index, or None."""
        return next((cut for cut in self.variant.cuts if cut.index == index), None)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a report shows.

    Args:
        title: Heading.
        plans: The records, at least one.
        networks: All their variants.
    """

    title: str
    plans: tuple[PlanRecord, ...]
    networks: tuple[Network, ...]

    @property
    def is_share(self) -> bool:
        """Whether the metric is a share of examples, written as per cent."""
        return all(is_share(plan) for plan in self.plans)

    @property
    def metric(self) -> str:
        """What the metric is called on an axis."""
        names = list(dict.fromkeys(plan.metric for plan in self.plans))
        text = "accuracy" if names == ["top1"] else " / ".join(names)
        return f"{text} (%)" if self.is_share else f"{text} (higher is better)"

    @property
    def scope(self) -> str:
        """What every metric in a figure was counted on: data, n, whether it is a demonstration."""
        return "; ".join(dict.fromkeys(scope_text(plan) for plan in self.plans))

    def network(self, plan: int, variant: str) -> Network:
        """The network of a plan's variant."""
        return next(n for n in self.networks if n.plan == plan and n.variant.name == variant)


def read_plans(paths: Sequence[str | Path]) -> tuple[PlanRecord, ...]:
    """Read plan.json files, or the folders that hold them, and make their text safe to show.

    Raises:
        InputError: A file is missing.
        ConfigError: A file does not hold a plan of this version.
    """
    files = (Path(path) / PLAN_FILE if Path(path).is_dir() else Path(path) for path in paths)
    return tuple(_cleaned(read_json(path, PlanRecord)) for path in files)


def gather(plans: Sequence[PlanRecord]) -> Scene:
    """What the report shows of some plans.

    Raises:
        PlanError: There is no plan, or one has no variant or no candidate.
    """
    for plan in plans:
        if not plan.variants or not plan.candidates:
            msg = (
                f"cannot report on plan {plan.title!r}: it has {len(plan.variants)} models and "
                f"{len(plan.candidates)} candidates: run `narrows plan` to its end"
            )
            raise PlanError(msg)
        _check_candidates(plan)
    if not plans:
        msg = "cannot report on no plans: give at least one plan.json"
        raise PlanError(msg)
    counts = Counter(variant.name for plan in plans for variant in plan.variants)
    networks = []
    for index, plan in enumerate(plans):
        for variant in plan.variants:
            twice = counts[variant.name] > 1
            label = f"{variant.name} ({plan.title}, plan {index + 1})" if twice else variant.name
            own = tuple(c for c in plan.candidates if c.variant == variant.name)
            exact = plan.variant(variant.original).choose.accuracy
            networks.append(
                Network(label=label, plan=index, variant=variant, exact=exact, candidates=own)
            )
    title = plans[0].title if len(plans) == 1 else f"{plans[0].title} and {len(plans) - 1} more"
    return Scene(title=title, plans=tuple(plans), networks=tuple(networks))


def _check_candidates(plan: PlanRecord) -> None:
    """Refuse what no figure can show.

    Raises:
        PlanError: A candidate runs no model of the plan, or has a number that is not finite.
    """
    known = {variant.name for variant in plan.variants}
    for candidate in plan.candidates:
        drop, cost = candidate.choose_drop, candidate.cost
        numbers = [candidate.choose.accuracy, drop.value, drop.low, drop.high, cost.latency_s]
        numbers += [candidate.payload_bytes, candidate.payload_bytes_p95]
        finite = all(math.isfinite(n) for n in (*numbers, cost.bytes_up, cost.bytes_down))
        if candidate.variant in known and finite:
            continue
        found = "a number of it is not finite" if not finite else f"no model {candidate.variant!r}"
        msg = f"cannot show candidate {candidate.id!r} of plan {plan.title!r}: {found}; plan again"
        raise PlanError(msg)


def is_share(plan: PlanRecord) -> bool:
    """Whether a plan's metric is a share of examples: a known one, or one that looks like it."""
    if plan.metric in SHARES:
        return True
    scores = [variant.choose.accuracy for variant in plan.variants]
    return plan.classes is not None and all(0 <= score <= 1 for score in scores)


def points_text(plan: PlanRecord, loss: float) -> str:
    """A loss of the metric, in points where it is a share."""
    return f"{100 * loss:z.1f} points" if is_share(plan) else f"{loss:.3g}"


def scope_text(plan: PlanRecord) -> str:
    """Data set, number of examples, and whether they are too few for the metric to mean much."""
    text = f"{plan.task}, choose set, n = {plan.sets.choose}"
    return f"demonstration, {text}" if plan.demonstration else text


def name_of(candidate: Candidate, network: Network, *, with_variant: bool) -> str:
    """A candidate in a few words, for an axis or a legend.

    Example: "cut 17 (14×14×80) pca2-ans step 0.5", "jpeg q40", "all on the device".
    """
    start = f"{network.label}: " if with_variant else ""
    return start + _route_name(candidate, network)


def _route_name(candidate: Candidate, network: Network) -> str:
    if candidate.route is Route.LOCAL:
        return family_of(candidate).label
    codec = codec_text(candidate.codec)
    if candidate.route is not Route.SPLIT or candidate.cut is None:
        return codec
    cut = network.cut(candidate.cut)
    return f"cut {candidate.cut} {codec}" if cut is None else f"{cut_text(cut)} {codec}"


def cut_text(cut: CutRow) -> str:
    """A cut by index and shape, channels last where there are two dimensions of place."""
    return f"cut {cut.index} ({'×'.join(str(side) for side in cut.shape)})"


def plain(text: str) -> str:
    r"""Text without characters that draw nothing, break a file format or turn the writing.

    Example:
        >>> plain("a\x00b\u202ec\ud800")
        'a�b�c�'
    """
    return "".join("\ufffd" if unicodedata.category(c)[0] == "C" else c for c in text)


def _cleaned(plan: PlanRecord) -> PlanRecord:
    return from_dict(PlanRecord, clean(to_dict(plan)))


def clean(value: Any) -> Any:
    """JSON with every text, keys among them, made safe to show by `plain`."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {plain(key): clean(item) for key, item in value.items()}
    return value
