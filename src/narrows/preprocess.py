"""From a picture file, or an array, to what a network takes in.

    file ──decode, resize, crop──► pixels (uint8, H × W × C) ──(x / scale − mean) / std──► input

The steps and the rounding are those of torchvision's and timm's evaluation transforms on Pillow
images. A `Preprocess` is a value: it travels in a bundle, so device and cloud prepare alike. The
pixels in the middle are what a picture codec sends when nothing else crosses the link.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from narrows.errors import ConfigError, InputError, shown

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
# A strip one pixel high must not become gigabytes.
_MOST_RESIZED: Final = 1 << 26
Source = str | Path | bytes | Image.Image | NDArray[Any]

_MODES: Final = MappingProxyType({"rgb": "RGB", "bgr": "RGB", "grey": "L"})
_FILTERS: Final = MappingProxyType(
    {
        "nearest": Image.Resampling.NEAREST,
        "box": Image.Resampling.BOX,
        "bilinear": Image.Resampling.BILINEAR,
        "hamming": Image.Resampling.HAMMING,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
    }
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """How pictures or arrays become a network's input.

    Args:
        size: Height and width of the pixels after cropping; None for arrays, which are only scaled.
        resize: Length the shorter side is resized to before cropping; None leaves it.
        crop: "center" cuts `size` out of the middle; "none" resizes straight to `size` and may
            change the proportions.
        interpolation: Pillow's filter for every resize.
        colour: "rgb", "bgr" or "grey" (one channel).
        scale: Values are divided by this first.
        mean: Subtracted after that, one number or one per channel.
        std: Divided by at last, one number or one per channel.
        layout: Where the input has its channels: "chw" first, "hwc" last.

    Example:
        >>> lite = preset("efficientnet-lite")
        >>> lite.input_shape
        (3, 224, 224)
        >>> white = np.full((300, 400, 3), 255, np.uint8)
        >>> lite.pixels(white).shape, float(lite.to_input(lite.pixels(white)).max())
        ((224, 224, 3), 1.0)
    """

    size: tuple[int, int] | None = None
    resize: int | None = None
    crop: Literal["center", "none"] = "center"
    interpolation: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = (
        "bilinear"
    )
    colour: Literal["rgb", "bgr", "grey"] = "rgb"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Literal["chw", "hwc"] = "chw"

    def __post_init__(self) -> None:
        """Refuse what cannot be applied.

        Raises:
            ConfigError: A value is out of its range, or two do not fit.
        """
        _check(self.interpolation in _FILTERS, "interpolation", self.interpolation, list(_FILTERS))
        _check(self.colour in _MODES, "colour", self.colour, list(_MODES))
        _check(self.crop in ("center", "none"), "crop", self.crop, ["center", "none"])
        _check(self.layout in ("chw", "hwc"), "layout", self.layout, ["chw", "hwc"])
        _check(_finite(self.scale) and self.scale != 0, "scale", self.scale, "a number but 0")
        _check(all(map(_finite, self.mean)), "mean", self.mean, "numbers")
        _check(all(_finite(s) and s != 0 for s in self.std), "std", self.std, "numbers but 0")
        if self.size is not None:
            sides = (*self.size, self.resize or 1)
            in_range = len(self.size) == 2 and all(1 <= side <= 16384 for side in sides)
            _check(in_range, "size or resize", sides, "sides from 1 to 16384")
            for name in ("mean", "std"):
                counts = (1, self.channels)
                found = getattr(self, name)
                _check(len(found) in counts, name, found, f"1 or {self.channels} numbers")

    @property
    def channels(self) -> int:
        """Channels of the pixels: 1 for grey, else 3."""
        return 1 if self.colour == "grey" else 3

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """Shape of one input, or None for arrays, which have their own."""
        if self.size is None:
            return None
        return (self.channels, *self.size) if self.layout == "chw" else (*self.size, self.channels)

    def pixels(self, source: Source) -> Pixels:
        """Decode, resize and crop one picture.

        Args:
            source: A file, the bytes of one, a Pillow image, or uint8 pixels (H, W) or (H, W, C).

        Returns:
            Pixels (H, W, C) of `size`.

        Raises:
            InputError: It is no picture, or not all of it is there.
        """
        if self.size is None:
            msg = "cannot prepare a picture: this preprocessing is for arrays; give it a size"
            raise InputError(msg)
        image = open_picture(source, _MODES[self.colour])
        height, width = self.size
        kind = _FILTERS[self.interpolation]
        if self.crop == "none":
            image = image.resize((width, height), kind)
        else:
            image = _center_crop(_resized(image, self.resize, kind), height, width)
        pixels = np.asarray(image, np.uint8).reshape(height, width, self.channels)
        return np.ascontiguousarray(pixels[..., ::-1]) if self.colour == "bgr" else pixels

    def to_input(self, values: NDArray[Any]) -> Floats:
        """Scale pixels (H, W, C), or an array of any shape, to one input of the network.

        Raises:
            InputError: The pixels are not of `size`, or an array's channels do not match `mean`.
        """
        if self.size is None:
            return self._scaled(np.asarray(values), axis=0 if self.layout == "chw" else -1)
        if values.shape != (*self.size, self.channels):
            wanted = (*self.size, self.channels)
            msg = f"expected pixels of shape {wanted}, found {values.shape}: crop them first"
            raise InputError(msg)
        scaled = self._scaled(values, axis=-1)
        return np.ascontiguousarray(scaled.transpose(2, 0, 1)) if self.layout == "chw" else scaled

    def _scaled(self, values: NDArray[Any], axis: int) -> Floats:
        """(x / scale − mean) / std in float32, mean and std along `axis`."""
        scaled = values.astype(np.float32) / np.float32(self.scale)
        return (scaled - self._along(self.mean, scaled, axis)) / self._along(self.std, scaled, axis)

    def _along(self, numbers: tuple[float, ...], values: Floats, axis: int) -> Floats:
        vector = np.asarray(numbers, np.float32)
        if len(vector) == 1:
            return vector.reshape(())
        if values.ndim == 0 or values.shape[axis] != len(vector):
            msg = (
                f"an array of shape {values.shape} does not have the {len(vector)} channels of "
                f"mean or std on axis {axis}: give one number for all, or set the layout"
            )
            raise InputError(msg)
        shape = [1] * values.ndim
        shape[axis] = -1
        return vector.reshape(shape)


def open_picture(source: Source, mode: str = "RGB") -> Image.Image:
    """Decode a picture wholly.

    Raises:
        InputError: It cannot be read, is no picture, is cut short, or is absurdly large.
    """
    name = str(source) if isinstance(source, str | Path) else f"a {type(source).__name__}"
    try:
        with warnings.catch_warnings():
            # Palettes with transparency make Pillow advise another conversion; ours is meant.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if isinstance(source, Image.Image):
                return source.convert(mode)
            if isinstance(source, np.ndarray):
                return Image.fromarray(_as_pixels(source)).convert(mode)
            if isinstance(source, bytes):
                return Image.open(io.BytesIO(source)).convert(mode)
            with Path(source).open("rb") as file:
                return Image.open(file).convert(mode)
    except UnidentifiedImageError:
        msg = f"{name} is not a picture: expected JPEG, PNG, WebP or another format Pillow reads"
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        msg = f"{name} has more pixels than any camera takes: scale it down first"
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        msg = f"cannot read the picture {name}: {reason}"
    raise InputError(msg) from None


def _as_pixels(array: NDArray[Any]) -> Pixels:
    pixels = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or 0 in pixels.shape:
        msg = f"expected uint8 pixels (H, W) or (H, W, 3), found {array.dtype} {array.shape}"
        raise ValueError(msg)
    return np.ascontiguousarray(pixels)


def _resized(image: Image.Image, shorter: int | None, kind: Image.Resampling) -> Image.Image:
    """The shorter side becomes `shorter`, the longer one is cut to a whole number (torchvision)."""
    width, height = image.size
    if shorter is None or min(width, height) == shorter:
        return image
    longer = int(shorter * max(width, height) / min(width, height))
    if shorter * longer > _MOST_RESIZED:
        msg = f"a picture of {width} × {height} would become {shorter} × {longer}: crop it first"
        raise InputError(msg)
    return image.resize((shorter, longer) if width <= height else (longer, shorter), kind)


def _center_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    """The middle; a picture that is too small gets black margins (torchvision)."""
    left = int(round((image.width - width) / 2.0))  # noqa: RUF046 ties go to even, as there
    top = int(round((image.height - height) / 2.0))  # noqa: RUF046
    return image.crop((left, top, left + width, top + height))


def _finite(number: float) -> bool:
    """Whether a number is finite in float32, too."""
    return math.isfinite(number) and abs(number) <= float(np.finfo(np.float32).max)


def _check(holds: bool, name: str, found: object, wanted: str | list[str]) -> None:
    if not holds:
        wish = wanted if isinstance(wanted, str) else f"one of {shown(wanted)}"
        msg = f"preprocess {name} is {shown(found)}: expected {wish}"
        raise ConfigError(msg)


# ImageNet's colours, as torchvision states them.
_PICTURE: Final = Preprocess(
    size=(224, 224),
    resize=256,
    scale=255.0,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)

PRESETS: Final = MappingProxyType(
    {
        # torchvision's first weights (…_V1): 256, 224, bilinear.
        "torchvision": _PICTURE,
        # timm's default: crop_pct 0.875, bicubic.
        "timm": replace(_PICTURE, interpolation="bicubic"),
        # Networks converted from TensorFlow: values from −1 to 1.
        "inception": replace(_PICTURE, interpolation="bicubic", mean=(0.5,), std=(0.5,)),
        # (127 / 255, 128 / 255) in the original, rounded as its PyTorch conversion rounds them.
        "efficientnet-lite": replace(
            _PICTURE, interpolation="bicubic", mean=(0.498,), std=(0.502,)
        ),
    }
)


def preset(name: str, *, size: int | None = None) -> Preprocess:
    """A preset, for another input size if asked: the crop stays the same share of the picture.

    Raises:
        ConfigError: There is no preset of this name.

    Example:
        >>> preset("efficientnet-lite", size=192).resize
        219
    """
    if name not in PRESETS:
        msg = f"no preprocessing preset {name!r}: choose one of {', '.join(PRESETS)}"
        raise ConfigError(msg)
    chosen = PRESETS[name]
    return chosen if size is None else with_size(chosen, size)


def with_size(preprocess: Preprocess, size: int) -> Preprocess:
    """The same preprocessing for square inputs of another size."""
    if preprocess.resize is None or preprocess.size is None:
        return replace(preprocess, size=(size, size))
    resize = math.floor(size * preprocess.resize / preprocess.size[0])
    return replace(preprocess, size=(size, size), resize=resize)
