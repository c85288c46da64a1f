from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from narrows.measure.environment import environment


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """The files of a small Arm board."""
    cpufreq = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq"
    cpufreq.mkdir(parents=True)
    (cpufreq / "scaling_governor").write_text("ondemand\n")
    (cpufreq / "cpuinfo_max_freq").write_text("1800000\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(
        "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 asimddp\n\nModel\t\t: Board 4 Rev 1.2\n"
    )
    (tmp_path / "proc/meminfo").write_text("MemTotal:        3884360 kB\nMemFree: 1 kB\n")
    return tmp_path


def test_facts_are_read_from_the_system(board: Path) -> None:
    found = environment(threads=2, root=board)
    assert found.cpu_model == "Board 4 Rev 1.2"
    assert found.governor == "ondemand"
    assert found.max_frequency_hz == 1.8e9
    assert found.cpu_flags == ("asimd", "asimddp")
    assert found.memory_bytes == 3884360 * 1024
    assert found.threads == 2


def test_a_system_that_tells_nothing_is_described_all_the_same(tmp_path: Path) -> None:
    found = environment(root=tmp_path)
    assert found.governor is None
    assert found.max_frequency_hz is None
    assert found.cpu_model


def test_key_changes_with_what_changes_a_latency_and_with_nothing_else(board: Path) -> None:
    found = environment(root=board)
    for change in (
        {"governor": "performance"},
        {"threads": 4},
        {"onnxruntime": "0.0"},
        {"cpu_model": "another"},
        {"cpu_flags": ()},
    ):
        assert dataclasses.replace(found, **change).key != found.key, change
    for change in ({"load_average_1m": 9.0}, {"narrows": "99"}, {"system": "Linux 9"}):
        assert dataclasses.replace(found, **change).key == found.key, change
