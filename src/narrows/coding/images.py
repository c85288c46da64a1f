"""JPEG, WebP and AVIF as whole codecs of the input picture: the alternatives to a split."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image

from narrows.coding.image_headers import READERS
from narrows.errors import CodecError, CorruptData

Pixels = NDArray[np.uint8]

MAX_PIXELS = 2**21
"""Largest picture; it keeps decoding within the bound on memory."""

_AVIF_THREADS = threading.Lock()
_SAVE: dict[str, dict[str, Any]] = {
    "jpeg": {"optimize": True, "progressive": True},
    "webp": {"method": 6},
    "avif": {"subsampling": "4:2:0", "speed": 6, "max_threads": 1},
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCodec:
    """One picture to a file of a standard format and back to its pixels.

    JPEG is optimised and progressive, WebP has method 6, AVIF speed 6, all with chroma at half the
    resolution (4:2:0). With a scale below one a smaller picture is coded and the decoder brings it
    back to its size, both bicubic.

    Args:
        format: "jpeg", "webp" or "avif".
        quality: 1 to 95, in the format's own measure.
        scale: Width and height of the coded picture, as a share of the original's, in (0, 1].

    Example:
        >>> codec = ImageCodec(format="jpeg", quality=50)
        >>> gray = np.full((16, 24, 3), 128, np.uint8)
        >>> data = codec.encode(gray)
        >>> data[:3].hex(), codec.decode(data, (16, 24, 3)).shape
        ('ffd8ff', (16, 24, 3))
    """

    format: Literal["jpeg", "webp", "avif"]
    quality: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.format not in _SAVE or not 1 <= self.quality <= 95 or not 0 < self.scale <= 1:
            msg = (
                f"format {self.format!r}, quality {self.quality}, scale {self.scale} asked for; "
                f"the format must be one of {sorted(_SAVE)}, quality 1 to 95, scale in (0, 1]"
            )
            raise CodecError(msg)

    def encode(self, pixels: Pixels) -> bytes:
        """Pixels (height, width, 1 or 3) to the bytes of a file.

        Raises:
            CodecError: The array is not a picture.
        """
        _check_shape(pixels.shape, CodecError)
        if pixels.dtype != np.uint8:
            msg = f"pixels must be uint8, {pixels.dtype} given; scale to 0 to 255 and cast"
            raise CodecError(msg)
        picture = Image.fromarray(
            np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        )
        size = self._coded_size(pixels.shape)
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        if self.format == "webp":
            picture = picture.convert("RGB")
        options = _SAVE[self.format]
        if self.format == "jpeg" and picture.mode == "RGB":
            options = {**options, "subsampling": "4:2:0"}
        file = io.BytesIO()
        picture.save(file, self.format.upper(), quality=self.quality, **options)
        return file.getvalue()

    def decode(self, data: bytes, shape: tuple[int, int, int]) -> Pixels:
        """The bytes of a file back to pixels (height, width, 1 or 3).

        The file is refused unless it is of this format and has the size that `encode` gives a
        picture of this shape, before memory is spent on it.

        Raises:
            CorruptData: The bytes are not a file that `encode` wrote for this shape.
        """
        _check_shape(shape, CorruptData)
        found, expected = READERS[self.format](data), self._coded_size(shape)
        if found != expected:
            msg = (
                f"a {self.format} picture of {expected[0]} by {expected[1]} expected, "
                f"{found[0]} by {found[1]} found; send it at the size agreed on"
            )
            raise CorruptData(msg)
        mode = "L" if shape[2] == 1 else "RGB"
        picture = _decoded(data, self.format, expected)
        if mode == "RGB" and picture.mode != "RGB":
            msg = f"an RGB picture expected, mode {picture.mode} found; send it with three channels"
            raise CorruptData(msg)
        if picture.mode != mode:
            picture = picture.convert(mode)
        if picture.size != (shape[1], shape[0]):
            picture = picture.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
        return np.array(picture).reshape(shape)

    def _coded_size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Width and height of the picture in the file."""
        width, height = max(1, round(shape[1] * self.scale)), max(1, round(shape[0] * self.scale))
        return width, height


def _check_shape(shape: tuple[int, ...], error: type[CodecError]) -> None:
    fits = len(shape) == 3 and min(shape) >= 1 and shape[2] in (1, 3)
    if not fits or shape[0] * shape[1] > MAX_PIXELS:
        msg = (
            f"a picture (height, width, 1 or 3) of at most {MAX_PIXELS} pixels expected, "
            f"{shape} given; resize it or split the model instead"
        )
        raise error(msg)


def _opened(data: bytes, format_name: str) -> Image.Image:
    """The picture, before its pixels are decoded; AVIF on one thread.

    Each thread of an AVIF decoder costs memory, and a server decodes many pictures at once.
    Pillow takes their number from a variable of its module, when it opens a file.
    """
    with _AVIF_THREADS:
        before = AvifImagePlugin.DEFAULT_MAX_THREADS
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
        try:
            return Image.open(io.BytesIO(data), formats=[format_name.upper()])
        finally:
            AvifImagePlugin.DEFAULT_MAX_THREADS = before


def _decoded(data: bytes, format_name: str, size: tuple[int, int]) -> Image.Image:
    """The picture in a file whose header has been checked."""
    try:
        picture = _opened(data, format_name)
        if picture.size == size:
            picture.load()
            return picture
    # Pillow's readers raise a dozen types for corrupt files, from SyntaxError to struct.error.
    except Exception as error:
        msg = f"the {format_name} picture cannot be decoded ({error}); send it again"
        raise CorruptData(msg) from error
    msg = f"the {format_name} picture is {picture.size}, its header says {size}; send it again"
    raise CorruptData(msg)
