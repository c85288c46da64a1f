"""Cepstra are those of the equations, normalised, stacked and filled up."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dct

from narrows.errors import ConfigError
from narrows.zoo.mfcc import Cepstra, cosine_transform, mel_bank


def test_the_cosine_transform_is_scipys() -> None:
    bands = np.random.default_rng(0).normal(size=(5, 32))
    expected = dct(bands, norm="ortho", axis=1)[:, :13]
    assert np.allclose(bands @ cosine_transform(32, 13), expected)


def test_a_tone_is_in_the_band_of_its_frequency() -> None:
    cepstra = Cepstra(rate_hz=8000, steps=20)
    time = np.arange(8000) / 8000
    for hertz in (300, 1000, 2500):
        found = cepstra.log_mel(np.sin(2 * np.pi * hertz * time)).mean(0).argmax()
        mel = 2595 * np.log10(1 + hertz / 700)
        assert abs(mel / (2595 * np.log10(1 + 4000 / 700)) * 33 - 1 - found) < 1


def test_warped_bands_are_those_of_a_signal_of_other_frequencies() -> None:
    cepstra = Cepstra(rate_hz=8000, steps=20)
    time = np.arange(8000) / 8000
    plain = cepstra.log_mel(np.sin(2 * np.pi * 1000 * time)).mean(0).argmax()
    warped = cepstra.log_mel(np.sin(2 * np.pi * 1100 * time), warp=1.1).mean(0).argmax()
    assert plain == warped


def test_every_triangle_has_its_top_between_its_neighbours() -> None:
    bank = mel_bank(20, 2048, 8000)
    assert (bank >= 0).all()
    assert (bank.max(1) > 0.9).all()
    assert (np.diff(bank.argmax(1)) > 0).all()


def test_steps_are_frames_side_by_side_and_zeros_after_them() -> None:
    cepstra = Cepstra(rate_hz=8000, steps=6, stack=3, coefficients=4)
    signal = np.random.default_rng(0).normal(size=1700)
    log_mel = cepstra.log_mel(signal)
    assert log_mel.shape == (10, 32)  # windows of 256 samples, one every 160, the rest left out
    frames = dct(log_mel, norm="ortho", axis=1)[:, :4]
    frames = (frames - frames.mean(0)) / (frames.std(0) + 1e-5)
    made = cepstra(signal)
    assert made.shape == cepstra.shape == (6, 12)
    assert made.dtype == np.float32
    assert np.allclose(made[1], frames[3:6].ravel(), atol=1e-5)
    assert np.allclose(made[3], [*frames[9], *np.zeros(8)], atol=1e-5)
    assert not made[4:].any()


def test_loudness_does_not_matter_and_odd_lengths_are_taken() -> None:
    cepstra = Cepstra(rate_hz=8000, steps=5)
    signal = np.random.default_rng(0).normal(size=3000)
    assert np.allclose(cepstra(signal), cepstra(10 * signal), atol=1e-3)
    assert cepstra(signal[:10]).shape == (5, 80)
    assert cepstra(np.tile(signal, 9)).shape == (5, 80)
    assert cepstra.longest_s == pytest.approx(19 * 0.02 + 0.032)
    assert len(cepstra.log_mel(np.zeros(round(cepstra.longest_s * 8000)))) == 20


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(ConfigError, match="32 bands"):
        Cepstra(rate_hz=8000, steps=5, coefficients=40)
    with pytest.raises(ConfigError, match="steps is 0"):
        Cepstra(rate_hz=8000, steps=0)
