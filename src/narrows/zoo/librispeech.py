"""LibriSpeech as a task: read sentences, spelt letter by letter.

    FOLDER/dev-clean/SPEAKER/CHAPTER/SPEAKER-CHAPTER-0000.flac    as published, unpacked; FOLDER is
    FOLDER/dev-clean/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt    LibriSpeech or what it is in

Reference:
    Panayotov, Chen, Povey, Khudanpur, "LibriSpeech: an ASR corpus based on public domain audio
    books", ICASSP 2015.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import InputError, MissingExtra
from narrows.metrics import METRICS
from narrows.preprocess import Preprocess
from narrows.splits import Split, array_split
from narrows.task import Task
from narrows.zoo.data_folder import data_folder
from narrows.zoo.mfcc import Cepstra

RATE_HZ: Final = 16_000
# 0 is CTC's blank, so that a network has 29 outputs.
CHARACTERS: Final = " 'ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PARTS: Final = MappingProxyType(
    {"fit": "train-clean-100", "choose": "dev-clean", "report": "test-clean"}
)
CEPSTRA: Final = Cepstra(rate_hz=RATE_HZ, steps=1167, hop_s=0.01, window_s=0.025, stack=3)


def librispeech(
    folder: str | Path,
    *,
    parts: MappingProxyType[str, str] = PARTS,
    cepstra: Cepstra = CEPSTRA,
    most: int | None = None,
) -> Task:
    """The task of a folder; a label is the characters of a sentence plus one, then zeros.

    The features of all sentences are kept in memory. The metric is the word error rate, negative.

    Args:
        folder: As the head of this module says.
        parts: Folder of each set, "fit", "choose" and "report".
        cepstra: The input of a network. Sentences of the fit set that are longer are left out; by
            default the longest of all parts fits.
        most: Sentences of each set, the first ones; by default all.

    Raises:
        MissingExtra: soundfile, which decodes FLAC, is not installed.
        InputError: A part is not there, a transcript or a recording is damaged, or a sentence that
            is no part of the fit set is too long.
    """
    place = Path(folder)
    place = place / "LibriSpeech" if (place / "LibriSpeech").is_dir() else place
    sets = {name: _split(place / part, name, cepstra, most) for name, part in parts.items()}
    longest = max(split.labels.shape[1] for split in sets.values())
    for name, split in sets.items():
        wide = np.pad(split.labels, ((0, 0), (0, longest - split.labels.shape[1])))
        sets[name] = Split(sources=split.sources, labels=wide)
    return Task(
        name="LibriSpeech",
        kind="series",
        metric=METRICS["wer-letters"],
        preprocess=Preprocess(),
        division=", ".join(f"{name}: {part}" for name, part in parts.items()),
        fit=sets["fit"],
        choose=sets["choose"],
        report=sets["report"],
    )


def task() -> Task:
    """LibriSpeech in the folder $NARROWS_DATA, or in LibriSpeech in it; kept for the next call.

    Raises:
        MissingExtra: soundfile is not installed.
        InputError: The variable is not set, or a part is not there.
    """
    return _kept(data_folder("LibriSpeech", "LibriSpeech"))


@lru_cache(maxsize=1)
def _kept(folder: Path) -> Task:
    return librispeech(folder)


def transcripts(part: Path) -> dict[Path, str]:
    """The sentence of each recording of a part, by its path.

    Args:
        part: E.g. LibriSpeech/dev-clean.

    Raises:
        InputError: There are none, or a line has no sentence or unknown characters.
    """
    found: dict[Path, str] = {}
    for listing in sorted(part.glob("*/*/*.trans.txt")):
        for number, line in enumerate(listing.read_text("utf-8").splitlines(), start=1):
            name, _, sentence = line.partition(" ")
            if not sentence or set(sentence) - set(CHARACTERS):
                msg = (
                    f"{listing}, line {number}: expected NAME SENTENCE in capitals, found {line!r}"
                )
                raise InputError(msg)
            found[listing.parent / f"{name}.flac"] = sentence
    if not found:
        msg = f"no transcripts in {part}: expected SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt"
        raise InputError(msg)
    return found


def spelt(sentence: str) -> NDArray[np.int64]:
    """A sentence as numbers from 1.

    Example:
        >>> spelt("A BEE").tolist()
        [3, 1, 4, 7, 7]
    """
    return np.array([CHARACTERS.index(letter) + 1 for letter in sentence], np.int64)


def _split(part: Path, name: str, cepstra: Cepstra, most: int | None) -> Split:
    inputs, labels = [], []
    for path, sentence in list(transcripts(part).items())[:most]:
        signal = _signal(path)
        if len(signal) > cepstra.longest_s * RATE_HZ:
            if name == "fit":
                continue
            msg = f"{path} takes {len(signal) / RATE_HZ:.1f} s and {cepstra.longest_s:.1f} s fit: "
            raise InputError(msg + "take more steps")
        inputs.append(cepstra(signal))
        labels.append(spelt(sentence))
    longest = max((len(label) for label in labels), default=0)
    wide = [np.pad(label, (0, longest - len(label))) for label in labels]
    return array_split(
        np.stack(inputs) if inputs else np.zeros((0, *cepstra.shape), np.float32),
        np.stack(wide) if wide else np.zeros((0, 0), np.int64),
        name=str(part),
    )


def _signal(path: Path) -> NDArray[Any]:
    """A recording (n,)."""
    try:
        import soundfile
    except ImportError:
        what = "decoding FLAC"
        raise MissingExtra(what, "speech") from None
    try:
        signal, rate = soundfile.read(path)
    except (OSError, RuntimeError) as error:  # soundfile's own are of the second kind
        msg = f"cannot read {path}: {error}; take another copy"
        raise InputError(msg) from None
    if rate != RATE_HZ or signal.ndim != 1:
        msg = f"{path} has {rate} Hz and shape {signal.shape}: expected {RATE_HZ} Hz, one channel"
        raise InputError(msg)
    found: NDArray[Any] = signal
    return found
