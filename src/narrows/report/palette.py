"""One colour for one meaning, in every figure and in both themes.

Codecs and routes take the eight colours of Okabe and Ito, which stay apart under every common
colour-vision deficiency; places (device, link, cloud) take three hues in two lightnesses; depth in
the network is one scale of blues that ends away from the background. Marks and line styles carry
the same distinctions for print without colour.

Reference:
    Okabe, Ito, "Color Universal Design", 2008, https://jfly.uni-koeln.de/color/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from narrows.plan.candidate import Candidate, CodecSpec, Route

SPLIT_FAMILIES = ("ans", "huffman", "bare")
PICTURE_FAMILIES = ("jpeg", "webp", "avif")
TERMS = ("head", "encode", "send", "queue", "tail", "reply")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Codecs or routes that share a colour and a legend entry.

    Args:
        key: What data calls it.
        label: What a reader sees.
        light: Colour on a light background.
        dark: Colour on a dark background.
        mark: Matplotlib marker.
        symbol: The same for plotly.
        dash: Line style of matplotlib.
    """

    key: str
    label: str
    light: str
    dark: str
    mark: str
    symbol: str
    dash: str


FAMILIES: dict[str, Family] = {
    family.key: family
    for family in (
        Family(
            key="ans",
            label="split, ANS coder",
            light="#0072b2",
            dark="#56b4e9",
            mark="o",
            symbol="circle",
            dash="-",
        ),
        Family(
            key="huffman",
            label="split, Huffman coder",
            light="#009e73",
            dark="#2fc79b",
            mark="s",
            symbol="square",
            dash="--",
        ),
        Family(
            key="bare",
            label="split, other codec",
            light="#6b7b8c",
            dark="#93a4b5",
            mark="v",
            symbol="triangle-down",
            dash=":",
        ),
        Family(
            key="jpeg",
            label="JPEG",
            light="#e69f00",
            dark="#f0b429",
            mark="^",
            symbol="triangle-up",
            dash="-",
        ),
        Family(
            key="webp",
            label="WebP",
            light="#d55e00",
            dark="#f07c33",
            mark="D",
            symbol="diamond",
            dash="--",
        ),
        Family(
            key="avif",
            label="AVIF",
            light="#b8588f",
            dark="#de8fbe",
            mark="P",
            symbol="cross",
            dash="-.",
        ),
        Family(
            key="raw",
            label="raw input",
            light="#8a7a00",
            dark="#d9cb3f",
            mark="X",
            symbol="x",
            dash=":",
        ),
        Family(
            key="local",
            label="all on the device",
            light="#3f4854",
            dark="#cfd6de",
            mark="*",
            symbol="star",
            dash="-",
        ),
    )
}

# Device blues, link oranges, cloud greens; the first of each pair is the larger share as a rule.
TERM_COLOURS: dict[str, tuple[str, str]] = {
    "head": ("#0072b2", "#3f9bd6"),
    "encode": ("#7fc1e8", "#a9d8f5"),
    "send": ("#e69f00", "#f0b429"),
    "queue": ("#9aa5b1", "#6e7b88"),
    "tail": ("#009e73", "#2fc79b"),
    "reply": ("#f5d08a", "#f9e2b0"),
}
TERM_PLACES = {
    "head": "device",
    "encode": "device",
    "send": "link",
    "queue": "cloud",
    "tail": "cloud",
    "reply": "link",
}

# Depth: shallow near the background, deep away from it.
DEPTH_LIGHT = ("#b5d6ee", "#6aaed6", "#3182bd", "#0f569e", "#08264f")
DEPTH_DARK = ("#1f4d78", "#2f77b0", "#4fa3dc", "#8fcbf3", "#e0f2ff")

# One mark for each network where networks, not codecs, are told apart.
NETWORK_MARKS = ("o", "s", "D", "^", "v", "P", "X", "p", "h", "<", ">", "*")
NETWORK_SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "triangle-down",
    "cross",
    "x",
    "pentagon",
    "hexagon",
    "triangle-left",
    "triangle-right",
    "star",
)


def family_of(candidate: Candidate) -> Family:
    """The legend entry of a candidate: its picture format, its coder, or its route."""
    if candidate.route is Route.LOCAL or candidate.codec is None:
        return FAMILIES["local"]
    if candidate.route is Route.RAW:
        return FAMILIES["raw"]
    if candidate.route is Route.IMAGE:
        return FAMILIES.get(candidate.codec.name, FAMILIES["raw"])
    return FAMILIES.get(candidate.codec.name.rpartition("-")[2], FAMILIES["bare"])


def codec_text(codec: CodecSpec | None) -> str:
    """A codec and its settings in a few words.

    Example:
        >>> codec_text(CodecSpec(name="pca2-ans", block=2, step=0.8, step_share=0.5, dead_zone=0.1))
        'pca2-ans step 0.5'
        >>> codec_text(CodecSpec(name="jpeg", quality=40, scale=0.5))
        'jpeg q40 at 50 %'
    """
    if codec is None:
        return "none"
    parts = [codec.name]
    step = codec.step_share if codec.step_share is not None else codec.step
    if step is not None:
        parts.append(f"step {step:.3g}")
    if codec.quality is not None:
        parts.append(f"q{codec.quality}")
    if codec.scale is not None and codec.scale < 1:
        parts.append(f"at {codec.scale:.0%}".replace("%", " %"))
    return " ".join(parts)


def depth_colour(share: float, *, dark: bool = False) -> str:
    """The colour of a depth between 0 (the input) and 1 (the output), as #rrggbb.

    Example:
        >>> depth_colour(0.0), depth_colour(1.0), depth_colour(0.0, dark=True)
        ('#b5d6ee', '#08264f', '#1f4d78')
    """
    stops = DEPTH_DARK if dark else DEPTH_LIGHT
    place = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    index = min(int(place), len(stops) - 2)
    low, high = (_channels(stop) for stop in stops[index : index + 2])
    mixed = (round(a + (b - a) * (place - index)) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def ink_on(colour: str) -> str:
    """Black or white, whichever reads better on a colour (relative luminance of WCAG 2).

    Example:
        >>> ink_on("#08264f"), ink_on("#b5d6ee")
        ('#ffffff', '#000000')
    """
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in _channels(colour))
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#ffffff" if luminance < 0.179 else "#000000"


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
