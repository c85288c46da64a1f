"""Strings of spoken digits as a task, from the Free Spoken Digit Dataset.

    recordings/{digit}_{speaker}_{take}.wav     8 kHz, one channel, 16 bits; in a folder or a zip

Each string is of one speaker, and each speaker of one set. A string's recordings, gaps, noise and
whatever else is random come from the seed; the strings are built once, in memory. Those of the fit
set vary more than the recordings do, because there are few speakers.

Reference:
    Jackson, Souza, Flaks, Pan, Nicolas, Thite, "Free Spoken Digit Dataset", 2018, doi
    10.5281/zenodo.1342401. The variations: Jaitly, Hinton, "Vocal tract length perturbation", 2013;
    Ko, Povey, Khudanpur, "Audio augmentation for speech recognition", Interspeech 2015; Park et
    al., "SpecAugment", Interspeech 2019.
"""

from __future__ import annotations

import io
import wave
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import InputError
from narrows.metrics import METRICS
from narrows.preprocess import Preprocess
from narrows.splits import array_split
from narrows.task import Task
from narrows.zoo.data_folder import data_folder
from narrows.zoo.mfcc import Cepstra

RATE_HZ: Final = 8000
LENGTHS: Final = (3, 7)
# In alphabetical order: the first four, the fifth, the sixth.
SPEAKERS: Final = MappingProxyType(
    {
        "fit": ("george", "jackson", "lucas", "nicolas"),
        "choose": ("theo",),
        "report": ("yweweler",),
    }
)
STRINGS: Final = MappingProxyType({"fit": 6000, "choose": 400, "report": 600})
CEPSTRA: Final = Cepstra(rate_hz=RATE_HZ, steps=40, stack=5)
_GAPS_S: Final = (0.0, 0.2)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """One digit, spoken once.

    Args:
        digit: 0 to 9.
        speaker: Name.
        signal: (n,), mean square 1.
    """

    digit: int
    speaker: str
    signal: NDArray[np.float64]


def spoken_digits(
    path: str | Path,
    *,
    speakers: MappingProxyType[str, tuple[str, ...]] = SPEAKERS,
    strings: MappingProxyType[str, int] = STRINGS,
    cepstra: Cepstra = CEPSTRA,
    seed: int = 0,
) -> Task:
    """Strings of 3 to 7 digits; a label is the digits plus one, then zeros: (7,).

    Zero is CTC's blank and no digit. The metric is the word error rate, negative.

    Args:
        path: A zip with the recordings, or the folder it or the recordings are in.
        speakers: Names of each set, "fit", "choose" and "report".
        strings: How many each set has.
        cepstra: The input of a network; a string that would not fit is drawn anew.
        seed: The same seed builds the same strings.

    Raises:
        InputError: There are no recordings, a file is damaged, or a speaker is not there.
    """
    recordings = read_recordings(path)
    parts = {}
    for number, (name, members) in enumerate(speakers.items()):
        rng = np.random.default_rng((seed, number))
        own = _by_speaker(recordings, members)
        made = [_string(own, rng, cepstra, varied=name == "fit") for _ in range(strings[name])]
        parts[name] = array_split(*(np.stack(part) for part in zip(*made, strict=True)), name=name)
    sets = "; ".join(f"{name}: {', '.join(members)}" for name, members in speakers.items())
    return Task(
        name="spoken digits",
        kind="series",
        metric=METRICS["wer"],
        preprocess=Preprocess(),
        division=f"by speaker ({sets}), strings of seed {seed}",
        fit=parts["fit"],
        choose=parts["choose"],
        report=parts["report"],
    )


def task() -> Task:
    """Strings of spoken digits from the folder $NARROWS_DATA, or spoken_digits in it.

    They are kept for the next call.

    Raises:
        InputError: The variable is not set, or there are no recordings.
    """
    return _kept(data_folder("spoken_digits", "the spoken digits"))


@lru_cache(maxsize=1)
def _kept(folder: Path) -> Task:
    return spoken_digits(folder)


def read_recordings(path: str | Path) -> tuple[Recording, ...]:
    """All recordings, by file name.

    Args:
        path: A zip with the recordings, or the folder it or the recordings are in.

    Raises:
        InputError: There are none, or a file is damaged.
    """
    found = {name: content for name, content in _files(Path(path)) if name.endswith(".wav")}
    if not found:
        msg = f"no recordings in {path}: expected recordings/DIGIT_SPEAKER_TAKE.wav, or their zip"
        raise InputError(msg)
    return tuple(_recording(name, found[name]) for name in sorted(found))


def _files(path: Path) -> list[tuple[str, bytes]]:
    """Name and content of each file."""
    inner = path / "recordings"
    packed = path if path.is_file() else path / "recordings.zip"
    if inner.is_dir() or not packed.is_file():
        place = inner if inner.is_dir() else path
        return [(file.name, file.read_bytes()) for file in place.glob("*.wav")]
    try:
        with zipfile.ZipFile(packed) as archive:
            return [(Path(name).name, archive.read(name)) for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError) as error:
        msg = f"cannot read {packed}: {error}; take another copy"
        raise InputError(msg) from None


def _recording(name: str, content: bytes) -> Recording:
    try:
        digit, speaker, _ = name.split("_")
        with wave.open(io.BytesIO(content)) as file:
            kind = (file.getframerate(), file.getnchannels(), file.getsampwidth())
            raw = file.readframes(file.getnframes())
        signal = np.frombuffer(raw, "<i2").astype(np.float64)
        if kind != (RATE_HZ, 1, 2) or not signal.any():
            msg = f"{kind[0]} Hz, {kind[1]} channels, {8 * kind[2]} bits, {len(signal)} samples"
            raise ValueError(msg)
        return Recording(
            digit=int(digit), speaker=speaker, signal=signal / np.sqrt(np.mean(signal**2))
        )
    except (ValueError, EOFError, wave.Error) as error:
        msg = f"{name} is no DIGIT_SPEAKER_TAKE.wav of {RATE_HZ} Hz, one channel, 16 bits: {error}"
        raise InputError(msg) from None


def _by_speaker(
    recordings: Sequence[Recording], members: Sequence[str]
) -> dict[str, list[Recording]]:
    found = defaultdict(list)
    for recording in recordings:
        found[recording.speaker].append(recording)
    if missing := [name for name in members if name not in found]:
        msg = f"no recordings of {', '.join(missing)}: there are those of {', '.join(found)}"
        raise InputError(msg)
    return {name: found[name] for name in members}


def _string(
    own: dict[str, list[Recording]], rng: np.random.Generator, cepstra: Cepstra, *, varied: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A string's input and its label."""
    while True:
        spoken = own[str(rng.choice(list(own)))]
        count = rng.integers(LENGTHS[0], LENGTHS[1] + 1)
        chosen = [spoken[place] for place in rng.integers(len(spoken), size=count)]
        signal = _joined([recording.signal for recording in chosen], rng, varied=varied)
        if len(signal) <= cepstra.longest_s * RATE_HZ:
            break
    label = np.zeros(LENGTHS[1], np.int64)
    label[:count] = [recording.digit + 1 for recording in chosen]
    if not varied:
        return cepstra(_noisy(signal, rng, (35.0, 35.0))), label
    noisy = _noisy(signal, rng, (5.0, 40.0))
    log_mel = cepstra.log_mel(noisy, warp=rng.uniform(0.85, 1.15))
    return cepstra.input(_hidden(log_mel, rng)), label


def _joined(
    signals: list[NDArray[np.float64]], rng: np.random.Generator, *, varied: bool
) -> NDArray[np.float64]:
    """Digits with gaps before, between and after; varied: faster or slower, louder or softer."""
    speed = rng.uniform(0.8, 1.25) if varied else 1.0
    parts: list[NDArray[Any]] = []
    for signal in signals:
        parts.append(np.zeros(int(rng.uniform(*_GAPS_S) * RATE_HZ)))
        own = speed * rng.uniform(0.93, 1.07) if varied else 1.0
        gain = 10 ** (rng.uniform(-6, 6) / 20) if varied else 1.0
        places = np.arange(0, len(signal) - 1, own)
        parts.append(gain * np.interp(places, np.arange(len(signal)), signal))
    parts.append(np.zeros(int(rng.uniform(*_GAPS_S) * RATE_HZ)))
    return np.concatenate(parts)


def _noisy(
    signal: NDArray[np.float64], rng: np.random.Generator, ratio_db: tuple[float, float]
) -> NDArray[np.float64]:
    """With noise so far below a recording's level, its spectrum falling by 0 to 6 dB an octave."""
    fast = 1 << (len(signal) - 1).bit_length()  # lengths with a large prime factor are slow
    spectrum = np.fft.rfft(rng.normal(size=fast))
    slope = rng.uniform(0.0, 1.0)
    noise = np.fft.irfft(spectrum / np.arange(1, len(spectrum) + 1) ** slope)[: len(signal)]
    level = 10 ** (-rng.uniform(*ratio_db) / 20)
    return np.asarray(signal + noise / np.sqrt(np.mean(noise**2)) * level)


def _hidden(log_mel: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """With two stretches of bands, and of time, set to the mean of what is there (SpecAugment)."""
    made = log_mel.copy()
    for axis, most in ((0, 8), (0, 8), (1, 5), (1, 5)):
        width = int(rng.integers(0, most + 1))
        start = int(rng.integers(0, log_mel.shape[axis] - width + 1))
        places = [slice(None), slice(None)]
        places[axis] = slice(start, start + width)
        made[tuple(places)] = log_mel.mean()
    return made
