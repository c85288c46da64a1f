"""Files of motion recordings: one archive of arrays, and HHAR's tables.

    recordings.npz       `read_recordings`: what we keep such data in
    FOLDER/Phones_accelerometer.csv, Phones_gyroscope.csv, Watch_accelerometer.csv, ...
                         `read_hhar`: "Heterogeneity Activity Recognition" as it is published
    seglearn.datasets.load_watch()
                         `watch_recordings`: seven exercises of the shoulder, with a watch

Reference:
    Matey-Sanz, Casteleyn, Granell, "Dataset of inertial measurements of smartphones and
    smartwatches for human activity recognition", Data in Brief 51, 2023, doi
    10.5281/zenodo.8398688; Stisen et al., "Smart Devices are Different", SenSys 2015, UCI data set
    344; Burns, Leung, Hardisty, Whyne, Henry, McLachlin, "Shoulder physiotherapy exercise
    recognition", Physiological Measurement 39, 2018 (the watch data that seglearn carries).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import InputError
from narrows.zoo.activity import Recording

HHAR_LABELS: Final = ("bike", "sit", "stand", "walk", "stairsup", "stairsdown")
HHAR_SENSORS: Final = ("accelerometer", "gyroscope")
WATCH_HERTZ: Final = 50
_KINDS: Final = ("Phones", "Watch")
_COLUMNS: Final = (
    *(("Creation_Time", "i8"), ("x", "f4"), ("y", "f4"), ("z", "f4")),
    *(("User", "U4"), ("Device", "U16"), ("gt", "U12")),
)
_ARRAYS: Final = (
    *("signal", "dt_ms", "label", "offsets", "t0_ms", "subject", "execution", "device"),
    *("labels", "devices"),
)


def read_recordings(path: str | Path) -> tuple[list[Recording], tuple[str, ...]]:
    """Recordings of an archive of arrays, and the names of the classes.

    The archive holds, of all N samples of R recordings one after another:

        signal (6, N)           acceleration x, y, z in m/s², then angular velocity in rad/s
        dt_ms (N,)              milliseconds since the sample before, 0 at the first of a recording
        label (N,)              class number; `labels` names the classes
        offsets (R + 1,)        where recordings begin, and N
        t0_ms (R,)              when each began
        subject, execution (R,) who, and in which turn; devices of one turn recorded together
        device (R,)             number of the device; `devices` names them

    The data of Matey-Sanz et al. are in this layout easily: 23 people sit, stand up, walk, turn and
    sit down again, ten times each, with a phone and a watch.

    Raises:
        InputError: The archive cannot be read, lacks an array, or they do not fit together.
    """
    found = _loaded(Path(path))
    offsets = found["offsets"]
    samples, count = found["dt_ms"].size, len(found["t0_ms"])
    fits = found["signal"].shape == (6, samples) and found["label"].shape == (samples,)
    rising = len(offsets) == count + 1 and offsets[0] == 0 and offsets[-1] == samples
    rising = rising and bool((np.diff(offsets) > 0).all())
    each = all(found[name].shape == (count,) for name in ("subject", "execution", "device"))
    if not fits or not rising or not each:
        shapes = ", ".join(f"{name} {found[name].shape}" for name in _ARRAYS[:8])
        msg = f"{path}: arrays do not fit together ({shapes}): expected signal (6, N), dt_ms and "
        raise InputError(msg + "label (N,), rising offsets (R + 1,) from 0 to N, the others (R,)")
    made = []
    for number in range(count):
        here = slice(offsets[number], offsets[number + 1])
        times = (found["t0_ms"][number] + np.cumsum(found["dt_ms"][here], dtype=np.int64)) / 1e3
        signal = found["signal"][:, here].T.astype(np.float32)
        made.append(
            Recording(
                times_s=(times, times),
                values=(signal[:, :3], signal[:, 3:]),
                labels=found["label"][here].astype(np.int64),
                subject=str(found["subject"][number]),
                device=str(found["devices"][found["device"][number]]),
                session=int(found["execution"][number]),
            )
        )
    return made, tuple(map(str, found["labels"]))


def read_hhar(folder: str | Path, *, kinds: Sequence[str] = _KINDS) -> list[Recording]:
    """HHAR's recordings, one for each user, device and activity; class numbers as `HHAR_LABELS`.

    Rows without an activity ("null") are left out. Times are the devices' own (Creation_Time),
    whose origins differ.

    Args:
        folder: With the tables.
        kinds: "Phones", "Watch", or both.

    Raises:
        InputError: A table is not there, cannot be read, or names another activity; or no device
            has samples of both sensors.
    """
    tables = {
        (kind, sensor): _table(Path(folder) / f"{kind}_{sensor}.csv")
        for kind in kinds
        for sensor in HHAR_SENSORS
    }
    made = []
    for kind in kinds:
        groups = [_groups(tables[kind, sensor]) for sensor in HHAR_SENSORS]
        for key in sorted(groups[0].keys() & groups[1].keys()):
            parts = [group[key] for group in groups]
            made.append(
                Recording(
                    times_s=tuple(part["Creation_Time"] / 1e9 for part in parts),
                    values=tuple(np.stack([part[axis] for axis in "xyz"], 1) for part in parts),
                    labels=np.full(len(parts[0]), HHAR_LABELS.index(key[2])),
                    subject=key[0],
                    device=key[1],
                    session=HHAR_LABELS.index(key[2]),
                )
            )
    if not made:
        msg = f"{folder}: no device has samples of both {' and '.join(HHAR_SENSORS)}: "
        raise InputError(msg + "take another copy")
    return made


def watch_recordings(data: Mapping[str, Any]) -> tuple[list[Recording], tuple[str, ...]]:
    """Recordings of exercises with a watch on either arm, and the names of the exercises.

    Args:
        data: What `seglearn.datasets.load_watch` gives: X, a series (n, 6) at 50 Hz for each
            recording; y, its exercise; subject; side; y_labels.

    Raises:
        InputError: It is something else.
    """
    try:
        rows = list(zip(data["X"], data["y"], data["subject"], data["side"], strict=True))
        labels = tuple(map(str, data["y_labels"]))
        made = [
            Recording(
                times_s=(np.arange(len(signal)) / WATCH_HERTZ,) * 2,
                values=(signal[:, :3].astype(np.float32), signal[:, 3:6].astype(np.float32)),
                labels=np.full(len(signal), int(label)),
                subject=str(int(subject)),
                device=f"watch, side {int(side)}",
                session=int(label),
            )
            for signal, label, subject, side in rows
        ]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        msg = f"no watch data: {type(error).__name__} {error}; give what load_watch() of seglearn "
        raise InputError(msg + "returns") from None
    return made, labels


def _loaded(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        msg = f"no recordings at {path}: give the path of an .npz file"
        raise InputError(msg)
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in _ARRAYS if name not in archive.files]
            found = {name: archive[name] for name in _ARRAYS if name not in missing}
    except Exception as error:
        # NumPy and zipfile raise a dozen kinds for a damaged archive.
        msg = f"cannot read recordings from {path}: {error}; take another copy"
        raise InputError(msg) from None
    if missing:
        msg = f"{path} lacks {', '.join(missing)}: expected the arrays {', '.join(_ARRAYS)}"
        raise InputError(msg)
    return found


def _table(path: Path) -> NDArray[Any]:
    """The columns that matter, of rows that have an activity."""
    if not path.is_file():
        msg = f"no {path.name} in {path.parent}: give the folder with HHAR's tables"
        raise InputError(msg)
    try:
        with path.open(encoding="utf-8") as file, warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # of a table without rows
            head = file.readline().strip().split(",")
            places = [head.index(name) for name, _ in _COLUMNS]
            rows: NDArray[Any] = np.loadtxt(
                file, delimiter=",", dtype=list(_COLUMNS), usecols=places, comments=None, ndmin=1
            )
    except (OSError, ValueError, UserWarning) as error:
        msg = f"cannot read {path}: {error}; expected columns {', '.join(dict(_COLUMNS))}"
        raise InputError(msg) from None
    rows = rows[rows["gt"] != "null"]
    if unknown := sorted(set(np.unique(rows["gt"])) - set(HHAR_LABELS)):
        msg = f"{path} has activity {str(unknown[0])!r}: expected {', '.join(HHAR_LABELS)} or null"
        raise InputError(msg)
    return rows


def _groups(rows: NDArray[Any]) -> dict[tuple[str, ...], NDArray[Any]]:
    """Rows by user, device and activity, in their order."""
    code = np.zeros(len(rows), np.int64)
    names = []
    for field in ("User", "Device", "gt"):
        values, places = np.unique(rows[field], return_inverse=True)
        code = code * len(values) + places
        names.append(values)
    order = np.argsort(code, kind="stable")
    found, firsts = np.unique(code[order], return_index=True)
    sizes = [len(values) for values in names]
    keys = zip(*np.unravel_index(found, sizes), strict=True) if len(found) else ()
    return {
        tuple(str(values[place]) for values, place in zip(names, key, strict=True)): part
        for key, part in zip(keys, np.split(rows[order], firsts[1:]), strict=False)
    }
