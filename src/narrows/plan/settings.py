"""What a plan tries: which cuts, rates and codecs, on how many examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, final

from narrows.errors import PlanError, shown

QUALITIES: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "jpeg": (40, 60, 75, 88, 95),
        "webp": (40, 60, 75, 88, 95),
        "avif": (50, 65, 80, 90),
    }
)
NUMBERS: Final = ("float", "int8")
CODERS: Final = ("ans", "huffman")
TRANSFORMS: Final = ("pca1", "pca2", "klt")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a plan tries. The defaults are what `narrows plan` does without options.

    Args:
        numbers: "float", and "int8" for the variants that compute in 8-bit integers: all of the
            network on the device, or its head, with the original's tail in the cloud.
        int8_examples: Fit examples that ranges of activations are calibrated on.
        cuts: "auto" (those no other cut dominates), "auto:20" (those, then the smallest others
            until there are 20), "all", or numbers and tensor names with commas between.
        rates: Quantizer steps for each cut, laid around the step at which the answers begin to
            change.
        step_ratio: Each step over the one before.
        transforms: Transforms to try on maps; the one that codes a cut in the fewest bits is kept.
            "pca" with the side of its blocks, or "klt", the separable one with large blocks.
        coders: Entropy coders; the symbols are the same, so a second one costs next to nothing.
        threshold: Where a quantizer rounds up, in steps; 0.5 is plain rounding, above it zero gets
            a wider bin, which saves more bytes than it costs in accuracy.
        pictures: Picture formats tried as the honest alternative; none for arrays.
        qualities: Picture format → qualities.
        scales: Sides of the picture sent over its own side; below one only the best two
            qualities are tried.
        fit_examples: Examples of the fit set to use; None for all.
        choose_examples: Examples of the choose set to use; None for all.
        report_examples: Examples of the report set to use; None for all, 0 to leave it unread.
        table_examples: Fit examples that coder tables are counted on.
        screen_share: Share of the choose set every candidate is run on; what does not come near
            the constraints or the frontier there is not run on the rest.
        batch: Examples a batch.
        threads: Threads that inference uses while planning.
        moments_bytes: Most memory for the moments of all cuts together; more takes more passes.
        tails_bytes: Most weights of tails held at once; more takes more passes.
    """

    numbers: tuple[str, ...] = NUMBERS
    int8_examples: int = 100
    cuts: str = "auto"
    rates: int = 6
    step_ratio: float = 2**0.5
    transforms: tuple[str, ...] = TRANSFORMS
    coders: tuple[str, ...] = CODERS
    threshold: float = 0.57
    pictures: tuple[str, ...] = ("jpeg", "webp", "avif")
    qualities: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: dict(QUALITIES))
    scales: tuple[float, ...] = (1.0, 0.75)
    fit_examples: int | None = None
    choose_examples: int | None = None
    report_examples: int | None = None
    table_examples: int = 128
    screen_share: float = 0.125
    batch: int = 8
    threads: int = 1
    moments_bytes: int = 2 << 30
    tails_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        """Refuse what cannot be planned.

        Raises:
            PlanError: A number is out of its range, or a codec is unknown.
        """
        known = "float" in self.numbers and set(self.numbers) <= set(NUMBERS)
        _check(known, "numbers", self.numbers, f"float, or {' and '.join(NUMBERS)}")
        _check(self.int8_examples >= 1, "int8_examples", self.int8_examples, "at least 1")
        _check(self.rates >= 1, "rates", self.rates, "at least 1")
        _check(1 < self.step_ratio <= 4, "step_ratio", self.step_ratio, "over 1, 4 at most")
        known = all(_is_transform(name) for name in self.transforms)
        _check(bool(self.transforms) and known, "transforms", self.transforms, "pca1, pca2, klt …")
        _check(0 < self.screen_share <= 1, "screen_share", self.screen_share, "in (0, 1]")
        _check(self.batch >= 1, "batch", self.batch, "at least 1")
        _check(self.threads >= 1, "threads", self.threads, "at least 1")
        _check(self.table_examples >= 1, "table_examples", self.table_examples, "at least 1")
        _check(all(0 < s <= 1 for s in self.scales), "scales", self.scales, "in (0, 1]")
        formats = sorted(self.qualities)
        _check(
            set(self.pictures) <= set(formats),
            "pictures",
            self.pictures,
            f"some of {shown(formats)}",
        )
        _check(set(self.coders) <= set(CODERS), "coders", self.coders, f"some of {shown(CODERS)}")


def codec_settings(names: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Transforms and coders from names with commas between, e.g. "pca-ans,klt-ans".

    Raises:
        PlanError: A name is not one of a codec.

    Example:
        >>> codec_settings("pca-ans"), codec_settings("klt-ans,pca2-huffman")
        ((('pca1', 'pca2'), ('ans',)), (('klt', 'pca2'), ('ans', 'huffman')))
    """
    transforms: list[str] = []
    coders: list[str] = []
    for name in names.split(","):
        transform, _, coder = name.strip().partition("-")
        meant = ("pca1", "pca2") if transform == "pca" else (transform,)
        if coder not in CODERS or not all(_is_transform(one) for one in meant):
            msg = (
                f"no codec {name.strip()!r}: give TRANSFORM-CODER, TRANSFORM one of pca, "
                f"pcaBLOCK and klt, CODER one of {shown(CODERS)}"
            )
            raise PlanError(msg)
        transforms += meant
        coders.append(coder)
    return tuple(dict.fromkeys(transforms)), tuple(dict.fromkeys(coders))


def _is_transform(name: str) -> bool:
    block = name.removeprefix("pca")
    return name == "klt" or (name != block and block.isdigit() and 1 <= int(block) <= 16)


def _check(holds: bool, name: str, found: object, wanted: str) -> None:
    if not holds:
        msg = f"plan setting {name} is {shown(found)}: it must be {wanted}"
        raise PlanError(msg)
