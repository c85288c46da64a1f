"""Recordings become the spectra that a slow, plain reading of the same rules gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from narrows.errors import ConfigError, InputError
from narrows.zoo.activity import PRESETS, Recording, Spectra, windows


def recording(
    seconds: float = 12.0, *, seed: int = 0, holes: tuple[tuple[float, float], ...] = ()
) -> Recording:
    """Two sensors at irregular times of their own, somewhere without samples."""
    random = np.random.default_rng(seed)
    times = []
    for rate in (80, 100):
        found = np.sort(random.uniform(0, seconds, int(seconds * rate)))
        found[[0, -1]] = 0, seconds
        for start, stop in holes:
            found = found[(found <= start) | (found >= stop)]
        times.append(found)
    return Recording(
        times_s=tuple(times),
        values=tuple(random.normal(size=(len(t), 3)).astype(np.float32) for t in times),
        labels=(times[0] * 3 / seconds).astype(np.int64).clip(max=2),
        subject="a",
        device="phone",
    )


def naive(made: Recording, how: Spectra, start: float) -> np.ndarray:
    """The window that begins at a time, interval by interval."""
    rows = []
    for number in range(how.intervals):
        first = start + number * how.interval_s
        step = how.interval_s / (how.points - 1 if how.inclusive else how.points)
        points = [first + step * point for point in range(how.points)]
        row: list[float] = []
        for times, values in zip(made.times_s, made.values, strict=True):
            axes = [np.interp(points, times, values[:, axis]) for axis in range(3)]
            for k in range(how.points):
                for axis in axes:
                    turns = np.exp(-2j * np.pi * k * np.arange(how.points) / how.points)
                    value = (axis * turns).sum()
                    polar = (abs(value), np.angle(value))
                    row += (value.real, value.imag) if how.form == "complex" else polar
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("preset", ["paper", "code"])
def test_windows_are_those_of_the_naive_reading(preset: str) -> None:
    made, how = recording(), PRESETS[preset]
    found = windows([made], how)
    assert found.x.shape[1:] == (20, 120)
    whole = int(12 / how.interval_s)
    assert len(found) == (whole - how.least) // how.stride + 1
    assert np.allclose(found.start_s, how.interval_s * how.stride * np.arange(len(found)))
    expected = naive(made, how, 0.0)
    if preset == "paper":
        # A phase of π and one of -π are the same.
        for part in (found.x[0], expected):
            part[:, 1::2] = np.cos(part[:, 1::2])
    assert np.allclose(found.x[0], expected, atol=1e-3)


def test_what_a_last_window_lacks_is_zeros() -> None:
    how = PRESETS["code"]
    found = windows([recording()], how)
    there = (np.abs(found.x).sum(2) > 0).sum(1)
    assert there.tolist() == [20, 19, 14, 9]
    assert np.allclose(found.stop_s - found.start_s, there * how.interval_s)
    assert (windows([recording()], replace(how, least=20)).stop_s <= 12).all()


def test_no_window_spans_a_gap_of_any_sensor() -> None:
    made = recording(holes=((4.0, 6.5),))
    found = windows([made], replace(PRESETS["paper"], stride=1))
    assert ((found.stop_s <= 4.1) | (found.start_s >= 6.4)).all()
    assert {bool(start > 6) for start in found.start_s} == {True, False}


def test_a_window_has_the_label_of_most_of_it() -> None:
    made, how = recording(), replace(PRESETS["paper"], least=20, stride=1)
    found = windows([made], how)
    middle = (found.start_s + found.stop_s) / 2
    sure = np.abs(middle - 4) > 0.3
    sure &= np.abs(middle - 8) > 0.3
    assert np.array_equal(found.labels[sure], (middle[sure] / 4).astype(int))


def test_samples_may_come_in_any_order_and_twice() -> None:
    made = recording()
    order = np.random.default_rng(1).permutation(len(made.times_s[0]))
    twice = np.r_[order, order]
    mixed = replace(
        made,
        times_s=(made.times_s[0][twice], made.times_s[1]),
        values=(made.values[0][twice], made.values[1]),
        labels=made.labels[twice],
    )
    how = PRESETS["code"]
    assert np.allclose(windows([mixed], how).x, windows([made], how).x, atol=1e-4)
    assert np.array_equal(windows([mixed], how).labels, windows([made], how).labels)


def test_sensors_have_units_of_their_own() -> None:
    made, how = recording(), PRESETS["code"]
    halved = windows([made], replace(how, scales=(2.0, 1.0))).x
    whole = windows([made], how).x
    assert np.allclose(2 * halved[..., :60], whole[..., :60], atol=1e-5)
    assert np.array_equal(halved[..., 60:], whole[..., 60:])


def test_what_cannot_be_cut_is_refused() -> None:
    made = recording()
    with pytest.raises(InputError, match="one time for each row"):
        replace(made, labels=made.labels[1:])
    with pytest.raises(InputError, match="not finite"):
        replace(made, times_s=(made.times_s[0] * np.nan, made.times_s[1]))
    with pytest.raises(InputError, match="longer recordings"):
        windows([recording(1.0)], PRESETS["code"])
    with pytest.raises(InputError, match="expected 3, as many as scales"):
        windows([made], replace(PRESETS["code"], scales=(1.0, 1.0, 1.0)))
    for wrong in ({"form": "cubic"}, {"least": 21}, {"points": 1}, {"interval_s": -1.0}):
        with pytest.raises(ConfigError, match="expected"):
            replace(PRESETS["code"], **wrong)
