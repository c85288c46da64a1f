"""The page: one HTML file with its data, its scripts and plotly; it asks the network nothing.

Text reaches the page in two places only: the title, escaped for HTML, and the JSON block, in which
`<`, `>` and `&` are written as escapes, so that no text can end the block. The scripts put text in
as text nodes. A content-security policy allows exactly the scripts written here, by their hashes,
and no connection at all.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Final

from narrows.errors import MissingExtra, PlanError
from narrows.files import folders, write_atomic
from narrows.report.page_data import page_data
from narrows.report.scene import Scene

NAME = "index.html"
MOST_BYTES = 8_000_000
_SCRIPTS = ("costs.js", "charts.js", "frontier.js", "routes.js", "table.js", "page.js")
_SHARED_SCRIPTS = ("format.js", "plot.js", "theme.js")


_SECTIONS: Final = MappingProxyType(
    {
        "answer": "Answer",
        "frontier": "Frontier",
        "cuts": "Every cut",
        "rates": "With a codec",
        "depth": "Against depth",
        "terms": "Time by term",
        "routes": "Map of routes",
        "table": "Table",
        "profiles": "Profiles",
    }
)


def write_page(scene: Scene, folder: str | Path) -> Path:
    """Write the page into a folder, which is made if it is not there.

    Returns:
        The file.

    Raises:
        MissingExtra: plotly is not installed.
        PlanError: The plans hold so many candidates that the page would pass 8 MB.
        StorageError: It cannot be written.
    """
    page = render_page(scene)
    path = Path(folder) / NAME
    with folders(path.parent):
        write_atomic(path, page)
    return path


def render_page(scene: Scene) -> str:
    """The page as text.

    Raises:
        MissingExtra: plotly is not installed.
        PlanError: It would pass 8 MB.
    """
    page = compose(
        "page.html",
        _SCRIPTS,
        eyebrow="narrows: where to cut a network between device and cloud",
        sections=_SECTIONS,
        styles=("page.css",),
        title=scene.title,
        data=page_data(scene),
    )
    size_bytes = len(page.encode())
    if size_bytes > MOST_BYTES:
        count = sum(len(plan.candidates) for plan in scene.plans)
        msg = (
            f"cannot put {count} candidates on one page: it would have {size_bytes} bytes of at "
            f"most {MOST_BYTES}; report on fewer plans at once"
        )
        raise PlanError(msg)
    return page


def compose(
    main: str,
    scripts: Sequence[str],
    *,
    eyebrow: str,
    sections: Mapping[str, str],
    styles: Sequence[str],
    title: str,
    data: object,
) -> str:
    """A page: the frame and the scripts all pages share, its own parts, its data as JSON.

    Args:
        main: Name of the asset with the page's own sections.
        scripts: Names of its own scripts, in the order they run.
        eyebrow: Line over the heading.
        sections: Its sections' ids and what the navigation calls them.
        styles: Names of its style sheets.
        title: Heading, plain text.
        data: What the scripts read.

    Raises:
        MissingExtra: plotly is not installed.
    """
    own = "\n".join(['"use strict";', *(_asset(name) for name in (*_SHARED_SCRIPTS, *scripts))])
    written = [_plotly(), own]
    parts = {
        "POLICY": " ".join(f"'sha256-{_digest(script)}'" for script in written),
        "TITLE": html.escape(title),
        "EYEBROW": html.escape(eyebrow),
        "NAV": "\n".join(
            f'  <li><a href="#{name}">{html.escape(text)}</a></li>'
            for name, text in sections.items()
        ),
        "MAIN": _asset(main),
        "STYLE": "\n".join(_asset(name) for name in styles),
        "DATA": _safe_json(data),
        "SCRIPTS": "\n".join(f"<script>{script}</script>" for script in written),
    }
    return _filled(_asset("frame.html"), parts)


def _filled(template: str, parts: dict[str, str]) -> str:
    """Put each part in its place; what a part holds is never looked at again."""
    pieces = []
    for position, piece in enumerate(template.split("@")):
        pieces.append(parts[piece] if position % 2 else piece)
    return "".join(pieces)


def _asset(name: str) -> str:
    return (resources.files("narrows.report") / "assets" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        what = "the interactive page"
        raise MissingExtra(what, "report") from None
    text: str = get_plotlyjs()
    return text.replace("\r\n", "\n")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _safe_json(data: object) -> str:
    """JSON that can stand inside a script element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text
