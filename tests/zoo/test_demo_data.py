"""Windows of a photograph stay in one set; without photographs the demonstration says how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from narrows.errors import InputError
from narrows.preprocess import preset
from narrows.task import load_task
from narrows.zoo.demo_data import WINDOWS, Photograph, photographs, windows, write_task


@pytest.fixture
def given(tmp_path: Path) -> tuple[Photograph, ...]:
    found = []
    for number in range(20):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        path = tmp_path / f"{number}.jpg"
        Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC).save(path)
        found.append(Photograph(path=path, label=number * 50))
    return tuple(found)


def test_the_task_holds_every_window_once_and_divides_by_photograph(
    given: tuple[Photograph, ...], tmp_path: Path
) -> None:
    task = load_task(write_task(tmp_path / "demo", given), preprocess=preset("timm", size=32))
    per_photograph = 2 * len(WINDOWS)
    assert [len(s) for s in task.sets.values()] == [n * per_photograph for n in (8, 6, 6)]
    owners = [{path.name[:2] for path in split.sources} for split in task.sets.values()]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 20
    for split in task.sets.values():
        for example in split:
            assert int(example.source.name[:2]) * 50 == example.label
    assert task.labels is not None
    assert task.labels[207] == "golden retriever"


def test_windows_are_inside_square_and_mirrored(given: tuple[Photograph, ...]) -> None:
    found = windows(given[0].path)
    assert [window.size[0] for window in found[::2]] == [round(120 * w[2]) for w in WINDOWS]
    assert all(window.width == window.height for window in found)
    for window, mirrored in zip(found[::2], found[1::2], strict=True):
        np.testing.assert_array_equal(np.asarray(window)[:, ::-1], np.asarray(mirrored))
    whole = np.asarray(Image.open(given[0].path))
    np.testing.assert_array_equal(np.asarray(found[4]), whole[:96, :96])
    np.testing.assert_array_equal(np.asarray(found[10]), whole[24:, 64:])


def test_missing_photographs_are_said_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match="pip install --no-deps foolbox"):
        photographs()


def test_a_folder_that_cannot_be_made_is_said(given: tuple[Photograph, ...]) -> None:
    with pytest.raises(OSError, match="cannot write"):
        write_task(given[0].path / "inside a file", given)
