"""Features of speech: cepstra of short windows, normalised and stacked to fewer, wider steps.

signal ──windows, spectra, mel bands, log──► (frames, bands) ──cosine transform──► cepstra
cepstra ──each to mean 0, variance 1──► `stack` frames side by side, zeros after the end
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import ConfigError

_EMPHASIS: Final = 0.97
_FLOOR: Final = 1e-10


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cepstra:
    """How a signal becomes a network's input of (steps, coefficients · stack).

    Args:
        rate_hz: Samples per second.
        steps: Length of the input; what is left after the signal is zeros.
        window_s: Length of a window.
        hop_s: From one window to the next.
        bands: Of the mel scale, from 0 to half the rate.
        coefficients: Of the cosine transform that are kept, the first included.
        stack: Frames in a step.

    Raises:
        ConfigError: More coefficients than bands are asked for, or a number is not positive.

    Example:
        >>> cepstra = Cepstra(rate_hz=8000, steps=10)
        >>> cepstra(np.random.default_rng(0).normal(size=4000)).shape, cepstra.longest_s
        ((10, 80), 0.812)

    Reference:
        Davis, Mermelstein, "Comparison of parametric representations for monosyllabic word
        recognition", IEEE Trans. ASSP 28(4), 1980.
    """

    rate_hz: int
    steps: int
    window_s: float = 0.032
    hop_s: float = 0.02
    bands: int = 32
    coefficients: int = 20
    stack: int = 4

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        for name in ("rate_hz", "steps", "window_s", "hop_s", "coefficients", "stack"):
            value = getattr(self, name)
            if not value > 0:
                msg = f"{name} is {value}: expected more than 0"
                raise ConfigError(msg)
        if self.coefficients > self.bands:
            msg = f"coefficients is {self.coefficients}: there are {self.bands} bands, take fewer"
            raise ConfigError(msg)

    @property
    def longest_s(self) -> float:
        """The longest signal that fits."""
        return (self.steps * self.stack - 1) * self.hop_s + self.window_s

    @property
    def shape(self) -> tuple[int, int]:
        """Of the network's input."""
        return self.steps, self.coefficients * self.stack

    def __call__(self, signal: NDArray[Any]) -> NDArray[np.float32]:
        """A signal (n,) as the network's input; what is too long is cut off."""
        return self.input(self.log_mel(signal))

    def log_mel(self, signal: NDArray[Any], *, warp: float = 1.0) -> NDArray[np.float64]:
        """Logarithm of the energy in each mel band: (frames, bands).

        Args:
            signal: (n,); one that is shorter than a window is filled up with zeros.
            warp: Frequencies are stretched by this, as if by another length of the vocal tract.
        """
        window, hop = (round(t * self.rate_hz) for t in (self.window_s, self.hop_s))
        values = np.pad(signal.astype(np.float64), (0, max(0, window - len(signal))))
        values = np.append(values[0], values[1:] - _EMPHASIS * values[:-1])
        frames = np.lib.stride_tricks.sliding_window_view(values, window)[::hop]
        spectra = np.abs(np.fft.rfft(frames * np.hamming(window), axis=1)) ** 2 / window
        bank = mel_bank(self.bands, window, self.rate_hz, round(warp, 2))
        return np.log(np.maximum(spectra @ bank.T, _FLOOR))

    def normalised(self, log_mel: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cepstra (frames, coefficients) of (frames, bands), each with mean 0 and variance 1."""
        cepstra = log_mel @ cosine_transform(self.bands, self.coefficients)
        return np.asarray((cepstra - cepstra.mean(0)) / (cepstra.std(0) + 1e-5))

    def input(self, log_mel: NDArray[np.float64]) -> NDArray[np.float32]:
        """The network's input: normalised cepstra of (frames, bands), stacked and filled up."""
        cepstra = self.normalised(log_mel)
        made = np.zeros((self.steps * self.stack, self.coefficients), np.float32)
        there = min(len(cepstra), len(made))
        made[:there] = cepstra[:there]
        return made.reshape(self.shape)


@lru_cache(maxsize=128)
def mel_bank(bands: int, window: int, rate_hz: int, warp: float = 1.0) -> NDArray[np.float64]:
    """Triangles on the mel scale, over the frequencies of a window's spectrum.

    Args:
        bands: How many, from 0 Hz to half the rate.
        window: Length of the window in samples.
        rate_hz: Samples per second.
        warp: The triangles' frequencies are multiplied by it.

    Returns:
        (bands, window // 2 + 1); the top of each triangle is 1.
    """
    highest = 2595 * np.log10(1 + rate_hz / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, bands + 2) / 2595) - 1) * warp
    frequencies = np.fft.rfftfreq(window, 1 / rate_hz)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling))


@lru_cache(maxsize=8)
def cosine_transform(bands: int, coefficients: int) -> NDArray[np.float64]:
    """The orthonormal DCT-II of bands, its first coefficients: (bands, coefficients)."""
    angles = np.pi * (np.arange(bands)[:, None] + 0.5) * np.arange(coefficients) / bands
    scale = np.where(np.arange(coefficients) == 0, 1.0, np.sqrt(2.0)) / np.sqrt(bands)
    return np.asarray(np.cos(angles) * scale)
