"""Recordings are read from the archive and from HHAR's tables, or refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from narrows.errors import InputError
from narrows.zoo.activity import PRESETS, windows
from narrows.zoo.activity_files import (
    HHAR_LABELS,
    read_hhar,
    read_recordings,
    watch_recordings,
)

HEAD = "Index,Arrival_Time,Creation_Time,x,y,z,User,Model,Device,gt\n"


def arrays(**changed: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    made = {
        "signal": random.normal(size=(6, 1000)).astype(np.float32),
        "dt_ms": np.r_[0, np.full(599, 10), 0, np.full(399, 20)].astype(np.uint16),
        "label": (np.arange(1000) >= 300).astype(np.uint8),
        "offsets": np.array([0, 600, 1000]),
        "t0_ms": np.array([5_000, 90_000]),
        "subject": np.array([1, 2], np.uint8),
        "execution": np.array([3, 4], np.uint8),
        "device": np.array([0, 1], np.uint8),
        "labels": np.array(["SIT", "WALK"]),
        "devices": np.array(["phone", "watch"]),
    }
    return made | changed


def write(path: Path, **changed: Any) -> Path:
    np.savez(path, **{k: v for k, v in arrays(**changed).items() if v is not None})
    return path


def test_the_archive_is_cut_into_recordings(tmp_path: Path) -> None:
    made, labels = read_recordings(write(tmp_path / "all.npz"))
    assert labels == ("SIT", "WALK")
    assert [(one.subject, one.device, one.session) for one in made] == [
        ("1", "phone", 3),
        ("2", "watch", 4),
    ]
    assert np.allclose(made[1].times_s[0], 90 + 0.02 * np.arange(400))
    signal = arrays()["signal"]
    assert np.array_equal(made[1].values[0], signal[:3, 600:].T)
    assert np.array_equal(made[1].values[1], signal[3:, 600:].T)
    assert made[0].labels.tolist() == [0] * 300 + [1] * 300


def test_archives_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recordings at"):
        read_recordings(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="another copy"):
        read_recordings(tmp_path / "bad.npz")
    with pytest.raises(InputError, match="lacks dt_ms"):
        read_recordings(write(tmp_path / "less.npz", dt_ms=None))
    wrong: tuple[dict[str, Any], ...] = (
        {"offsets": np.array([0, 600, 999])},
        {"offsets": np.array([0, 1000])},
        {"offsets": np.array([0, 1000, 1000])},
        {"signal": np.zeros((5, 1000), np.float32)},
        {"subject": np.array([1])},
    )
    for number, changed in enumerate(wrong):
        with pytest.raises(InputError, match="do not fit together"):
            read_recordings(write(tmp_path / f"{number}.npz", **changed))


def hhar(folder: Path, *, seconds: float = 8.0, extra: str = "") -> None:
    """Phones of two users who walk and sit, and a moment that is nobody's."""
    for sensor, rate, begin in (("accelerometer", 50, 0.0), ("gyroscope", 60, 0.004)):
        lines = [HEAD]
        for user, device in (("a", "nexus4_1"), ("b", "s3_2")):
            for order, activity in enumerate(("walk", "null", "sit")):
                times = begin + 1000 * order + np.arange(0, seconds, 1 / rate)
                for number, time in enumerate(times):
                    values = ",".join(f"{(axis + order) * time:.5f}" for axis in range(3))
                    lines.append(
                        f"{number},1424696633908,{int(1e9 * time)},{values},"
                        f"{user},{device[:-2]},{device},{activity}\n"
                    )
        (folder / f"Phones_{sensor}.csv").write_text("".join(lines) + extra)


def test_hhars_tables_are_paired_by_user_device_and_activity(tmp_path: Path) -> None:
    hhar(tmp_path)
    made = read_hhar(tmp_path, kinds=["Phones"])
    assert [(one.subject, one.device, HHAR_LABELS[one.labels[0]]) for one in made] == [
        ("a", "nexus4_1", "sit"),
        ("a", "nexus4_1", "walk"),
        ("b", "s3_2", "sit"),
        ("b", "s3_2", "walk"),
    ]
    sit = made[0]
    assert [len(times) for times in sit.times_s] == [400, 480]
    assert np.allclose(sit.values[0][:, 2], 4 * sit.times_s[0], rtol=1e-4)
    found = windows(made, PRESETS["code"])
    assert found.x.shape == (12, 20, 120)
    assert found.labels.tolist() == [1, 1, 1, 3, 3, 3] * 2


def test_hhars_tables_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no Phones_accelerometer\.csv"):
        read_hhar(tmp_path)
    hhar(tmp_path, seconds=0.1, extra="7,0,0,1,1,1,a,nexus4,nexus4_1,swim\n")
    with pytest.raises(InputError, match="activity 'swim'"):
        read_hhar(tmp_path, kinds=["Phones"])
    hhar(tmp_path, seconds=0.1, extra="7,0,0,x,1,1,a,nexus4,nexus4_1,walk\n")
    with pytest.raises(InputError, match="cannot read"):
        read_hhar(tmp_path, kinds=["Phones"])
    hhar(tmp_path, seconds=0.1)
    (tmp_path / "Phones_gyroscope.csv").write_text(HEAD + "7,0,0,1,1,1,z,s3,s3_9,walk\n")
    with pytest.raises(InputError, match="no device has samples of both"):
        read_hhar(tmp_path, kinds=["Phones"])
    (tmp_path / "Phones_gyroscope.csv").write_text(HEAD)
    with pytest.raises(InputError, match="no data"):
        read_hhar(tmp_path, kinds=["Phones"])
    (tmp_path / "Phones_gyroscope.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="expected columns"):
        read_hhar(tmp_path, kinds=["Phones"])


def test_the_watchs_series_are_recordings() -> None:
    series = np.random.default_rng(0).normal(size=(600, 6))
    data = {"X": [series, series[:300]], "y": np.array([1, 0]), "subject": np.array([4.0, 7.0])}
    data |= {"side": np.array([0.0, 1.0]), "y_labels": ["PEN", "ABD"]}
    made, labels = watch_recordings(data)
    assert labels == ("PEN", "ABD")
    assert [(one.subject, one.labels[0], len(one.labels)) for one in made] == [
        ("4", 1, 600),
        ("7", 0, 300),
    ]
    assert windows(made, PRESETS["code"]).labels.tolist() == [1, 1, 1, 1, 0, 0]
    with pytest.raises(InputError, match="load_watch"):
        watch_recordings({"X": []})
