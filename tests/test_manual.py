"""Every block of the manual and the README runs, chapter by chapter, in an empty folder.

`python` blocks are run by Python and `sh` blocks by a shell, in order. A block that starts with
`# file: NAME` is written to that file instead. `console` blocks (what a person types to install or
to run this very test) and blocks without a language are shown only.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
CHAPTERS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHOWN = {"", "console", "text", "json"}
RUN = {"python": [sys.executable, "-"], "sh": ["sh", "-eu"]}


class Block(NamedTuple):
    line: int
    language: str
    text: str


def blocks(chapter: Path) -> list[Block]:
    content = chapter.read_text()
    found = FENCE.finditer(content)
    return [Block(content[: m.start()].count("\n") + 1, m[1], m[2]) for m in found]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.name)
def test_every_block_of_a_chapter_runs(
    chapter: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONWARNINGS": "error",
        "NARROWS_CACHE": str(tmp_path_factory.getbasetemp() / "models"),
    }
    for line, language, text in blocks(chapter):
        first, _, rest = text.partition("\n")
        if named := re.fullmatch(r"# file: ([\w.]+)", first):
            (tmp_path / named[1]).write_text(rest)
        elif language not in SHOWN:
            done = subprocess.run(
                RUN[language],
                input=text,
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            where = f"{chapter.name}, line {line}"
            assert done.returncode == 0, f"{where}:\n{done.stdout}\n{done.stderr}"


def test_blocks_of_the_readme_are_at_most_30_lines() -> None:
    for block in blocks(ROOT / "README.md"):
        assert block.text.count("\n") <= 30, f"README.md, line {block.line}"


def test_every_link_of_the_manual_leads_to_a_file() -> None:
    for chapter in CHAPTERS:
        for target in re.findall(r"\]\(([^)#:]+)\)", FENCE.sub("", chapter.read_text())):
            assert (chapter.parent / target).exists(), f"{chapter.name} links to {target}"
