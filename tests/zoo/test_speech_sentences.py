"""LibriSpeech's folders: sentences spelt in 28 characters, recordings decoded where they can be."""

from __future__ import annotations

import sys
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from narrows.errors import InputError, MissingExtra
from narrows.zoo.librispeech import CHARACTERS, librispeech, spelt, transcripts
from narrows.zoo.mfcc import Cepstra

PARTS = MappingProxyType({"fit": "train", "choose": "dev", "report": "test"})
SENTENCES = ("HE COULDN'T", "A BEE")
SMALL = Cepstra(rate_hz=16_000, steps=30, hop_s=0.01, window_s=0.025, stack=3)


def write(place: Path, seconds: float = 0.5) -> None:
    """Three parts of two sentences, with recordings where soundfile can be had."""
    rng = np.random.default_rng(0)
    for number, part in enumerate(PARTS.values(), start=10):
        chapter = place / "LibriSpeech" / part / str(number) / "7"
        chapter.mkdir(parents=True)
        names = [f"{number}-7-{count:04}" for count in range(len(SENTENCES))]
        lines = [" ".join(pair) + "\n" for pair in zip(names, SENTENCES, strict=True)]
        (chapter / f"{number}-7.trans.txt").write_text("".join(lines))
        for name in names:
            path = chapter / f"{name}.flac"
            try:
                import soundfile
            except ImportError:
                path.write_bytes(b"fLaC")
            else:
                soundfile.write(path, 0.1 * rng.normal(size=round(16_000 * seconds)), 16_000)


def test_sentences_are_found_and_spelt(tmp_path: Path) -> None:
    write(tmp_path)
    found = transcripts(tmp_path / "LibriSpeech" / "dev")
    assert [path.name for path in found] == ["11-7-0000.flac", "11-7-0001.flac"]
    assert tuple(found.values()) == SENTENCES
    assert len(CHARACTERS) == 28  # with the blank 29 outputs, as in DeepIoT's table 4
    assert spelt("A'B Z").tolist() == [3, 2, 4, 1, 28]
    listing = tmp_path / "LibriSpeech" / "dev" / "11" / "7" / "11-7.trans.txt"
    for line in ("11-7-0000", "11-7-0000 lower case"):
        listing.write_text(line)
        with pytest.raises(InputError, match=r"11-7.trans.txt, line 1: expected NAME SENTENCE"):
            transcripts(tmp_path / "LibriSpeech" / "dev")
    with pytest.raises(InputError, match="no transcripts"):
        transcripts(tmp_path)


def test_without_soundfile_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(MissingExtra, match=r"decoding FLAC needs .*narrows\[speech\]"):
        librispeech(tmp_path, parts=PARTS, cepstra=SMALL)


def test_a_folder_becomes_a_task(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    write(tmp_path)
    for place in (tmp_path, tmp_path / "LibriSpeech"):
        task = librispeech(place, parts=PARTS, cepstra=SMALL)
        assert [len(split) for split in task.sets.values()] == [2, 2, 2]
        assert task.input_shape == (30, 60)
        assert task.report.labels[1].tolist() == [*spelt("A BEE"), *[0] * 6]
    assert task.metric(np.eye(29)[[[3, 1, 4, 7, 0, 7]]], task.report.labels[1:]) == 0
    assert task.metric(np.eye(29)[[[3, 1, 4, 7, 7, 7]]], task.report.labels[1:]) == -0.5
    assert len(librispeech(tmp_path, parts=PARTS, cepstra=SMALL, most=1).choose) == 1
    path = next((tmp_path / "LibriSpeech" / "test").rglob("*.flac"))
    soundfile.write(path, np.zeros(8000), 8000)
    with pytest.raises(InputError, match="8000 Hz"):
        librispeech(tmp_path, parts=PARTS, cepstra=SMALL)
    path.write_bytes(b"fLaC")
    with pytest.raises(InputError, match="another copy"):
        librispeech(tmp_path, parts=PARTS, cepstra=SMALL)


def test_long_sentences_are_left_out_of_the_fit_set_only(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    write(tmp_path)
    places = tmp_path / "LibriSpeech"
    soundfile.write(next((places / "train").rglob("*0.flac")), np.ones(32_000) / 9, 16_000)
    assert len(librispeech(tmp_path, parts=PARTS, cepstra=SMALL).fit) == 1
    soundfile.write(next((places / "dev").rglob("*0.flac")), np.ones(32_000) / 9, 16_000)
    with pytest.raises(InputError, match=r"takes 2.0 s and 0.9 s fit"):
        librispeech(tmp_path, parts=PARTS, cepstra=SMALL)
