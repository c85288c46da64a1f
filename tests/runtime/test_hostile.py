"""A small count of the benchmark `hostile.py`, which takes 100 000."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_spoiled_bytes_end_in_errors_of_ours_or_answers(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "hostile.py"), "--count", "1000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [*command, "--seed", "11", "--json", str(result)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    figures = json.loads(result.read_text())
    assert figures["count"] == 1000
    assert figures["recomputed"] >= 500
    assert figures["bad"] == []
    ends = set(figures["ends"])
    assert {"frame: CorruptData", "frame: answer", "bundle: BundleError", "table: answer"} <= ends
