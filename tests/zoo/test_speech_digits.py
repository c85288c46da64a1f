"""Strings of spoken digits: no speaker in two sets, the same each time, as said on the label."""

from __future__ import annotations

import io
import shutil
import wave
import zipfile
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from narrows.errors import InputError
from narrows.zoo.mfcc import Cepstra
from narrows.zoo.papers import PAPERS
from narrows.zoo.speech_digits import CEPSTRA, spoken_digits, task

SPEAKERS = MappingProxyType({"fit": ("ann", "bob"), "choose": ("cid",), "report": ("dan",)})
STRINGS = MappingProxyType({"fit": 30, "choose": 10, "report": 12})
SMALL = Cepstra(rate_hz=8000, steps=60, stack=2, coefficients=6)


def recording(hertz: float, *, rate: int = 8000, seconds: float = 0.1) -> bytes:
    time = np.arange(round(seconds * rate)) / rate
    values = (8000 * np.sin(2 * np.pi * hertz * time)).astype("<i2")
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(values.tobytes())
    return made.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("digits") / "recordings"
    place.mkdir()
    for number, name in enumerate(("ann", "bob", "cid", "dan", "eve")):
        for digit in range(10):
            content = recording(400 + 300 * digit + 20 * number)
            (place / f"{digit}_{name}_0.wav").write_bytes(content)
    (place.parent / "README.md").write_text("not a recording")
    return place.parent


def made(path: Path, seed: int = 0):
    return spoken_digits(path, speakers=SPEAKERS, strings=STRINGS, cepstra=SMALL, seed=seed)


def test_strings_are_of_three_to_seven_digits_each_of_its_set(folder: Path) -> None:
    found = made(folder)
    assert [len(split) for split in found.sets.values()] == [30, 10, 12]
    assert found.input_shape == (60, 12)
    assert found.metric.name == "wer"
    for split in found.sets.values():
        lengths = (split.labels > 0).sum(1)
        assert split.labels.shape[1:] == (7,)
        assert set(lengths) <= {3, 4, 5, 6, 7}
        assert all((row[:n] > 0).all() for row, n in zip(split.labels, lengths, strict=True))
        assert split.labels.max() <= 10
        assert split.labels.dtype == np.int64
        # Longer strings take longer.
        taken = (np.abs(split.sources).sum(2) > 0).sum(1)
        assert np.corrcoef(taken, lengths)[0, 1] > 0.7
    assert "fit: ann, bob; choose: cid; report: dan" in found.division


def test_the_digits_on_the_label_are_those_that_are_heard(folder: Path, tmp_path: Path) -> None:
    """Each digit has a length of its own here, so that a string's length tells their sum."""
    for path in (folder / "recordings").iterdir():
        own = recording(700, seconds=0.1 * (int(path.name[0]) + 1))
        (tmp_path / path.name).write_bytes(own)
    wide = Cepstra(rate_hz=8000, steps=500, stack=1)
    found = spoken_digits(tmp_path, speakers=SPEAKERS, strings=STRINGS, cepstra=wide)
    for split in (found.choose, found.report):
        for x, label in zip(split.sources, split.labels, strict=True):
            taken_s = (np.abs(x).sum(1) > 0).sum() * wide.hop_s
            least_s, gaps = 0.1 * label.sum(), (label > 0).sum() + 1
            assert least_s - 0.05 < taken_s < least_s + 0.2 * gaps + 0.05


def test_a_seed_gives_the_same_strings_from_a_zip_too(folder: Path, tmp_path: Path) -> None:
    packed = tmp_path / "recordings.zip"
    with zipfile.ZipFile(packed, "w") as file:
        for path in sorted((folder / "recordings").iterdir(), reverse=True):
            file.write(path, f"recordings/{path.name}")
    first, *others = [made(path) for path in (folder, folder / "recordings", packed, tmp_path)]
    for other in others:
        for name, split in first.sets.items():
            assert split.digest() == other.sets[name].digest()
    assert made(folder, seed=1).fit.digest() != first.fit.digest()


def test_the_folder_may_be_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NARROWS_DATA", raising=False)
    with pytest.raises(InputError, match="set NARROWS_DATA"):
        task()
    (tmp_path / "spoken_digits").mkdir()
    monkeypatch.setenv("NARROWS_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"no recordings in .*spoken_digits"):
        task()


def test_the_network_of_this_name_takes_these_strings() -> None:
    assert PAPERS["bilstm"].input_shape == CEPSTRA.shape


def test_what_is_missing_or_damaged_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no recordings in .*expected recordings/DIGIT"):
        made(tmp_path)
    (tmp_path / "recordings.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match="another copy"):
        made(tmp_path)
    with pytest.raises(InputError, match="no recordings of zoe: there are those of ann"):
        spoken_digits(folder, speakers=MappingProxyType({**SPEAKERS, "fit": ("zoe",)}))
    place = tmp_path / "recordings"
    shutil.copytree(folder / "recordings", place)
    path = place / "3_ann_0.wav"
    for content in (recording(500)[:30], b"", recording(500, rate=16000), recording(0)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"3_ann_0.wav is no DIGIT_SPEAKER_TAKE"):
            made(tmp_path)
