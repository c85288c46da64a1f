"""A method killed at a step and while it writes ends with the bits of one that was not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_killed_method_ends_with_the_same_bits(tmp_path: Path) -> None:
    words = [str(tmp_path / "work"), "--methods", "surgery", "--kills", "1"]
    words += ["--out", str(tmp_path / "found.json")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "kill.py"), *words],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "found.json").read_text())
    assert row["same"]
    assert row["digests"] == [row["digest"]]
    at_step, in_file, _ = row["kills"][0]
    assert "done" not in (at_step, in_file)
