"""What a bundle says of itself, checked when it is read and when it is written.

A manifest may come from anywhere, so every number in it that later sizes an array is bounded here,
before anything is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final, final

from narrows.coding.images import ImageCodec
from narrows.errors import ConfigError, InputError
from narrows.plan.candidate import Route
from narrows.preprocess import Preprocess
from narrows.runtime.frame import HEADER_BYTES, MAX_FRAME_BYTES

HEAD: Final = "head.onnx"
TAIL: Final = "tail.onnx"
MODEL: Final = "model.onnx"
TABLES: Final = "tables.safetensors"
PACKED: Final = {HEAD: "head.narrows", MODEL: "model.narrows"}
"""What a part is called where it lies in a packed file."""
PARTS: Final = (HEAD, TAIL, MODEL, TABLES, *PACKED.values())

MAX_ELEMENTS: Final = 1 << 26
MAX_PART_BYTES: Final = (1 << 31) - 1
MAX_VALUES_BYTES: Final = 1 << 33
_MAX_AXES: Final = 8
_DTYPES: Final = {
    "float16": 2,
    "float32": 4,
    "float64": 8,
    "bool": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
}


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


def _check_shape(name: str, shape: Iterable[int]) -> None:
    shape = tuple(shape)
    good = len(shape) <= _MAX_AXES and all(0 < size <= MAX_ELEMENTS for size in shape)
    good = good and math.prod(shape) <= MAX_ELEMENTS
    message = f"{name} has shape {shape}: at most {_MAX_AXES} axes and {MAX_ELEMENTS} elements"
    _require(good, message)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input or output of the model.

    Args:
        name: In the graph.
        shape: Of one sample, without the batch axis.
        dtype: NumPy's name.
        batch_axis: Where the batch axis goes; None where the graph has none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    batch_axis: int | None = 0

    def __post_init__(self) -> None:
        _check_shape(f"tensor {self.name!r}", self.shape)
        known = ", ".join(_DTYPES)
        _require(self.dtype in _DTYPES, f"tensor {self.name!r} is {self.dtype!r}, not of {known}")
        axis = self.batch_axis
        good = axis is None or 0 <= axis <= len(self.shape)
        _require(good, f"tensor {self.name!r} of {len(self.shape)} axes has batch axis {axis}")

    @property
    def size_bytes(self) -> int:
        """Bytes of one sample."""
        return math.prod(self.shape) * _DTYPES[self.dtype]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file of the bundle.

    Args:
        file: Its name; one of `PARTS`.
        sha256: Of its bytes, as 64 hexadecimal digits.
        size_bytes: Its length.
        values_bytes: What its values take for one sample; 0 for tables. No more is ever allowed.
    """

    file: str
    sha256: str
    size_bytes: int
    values_bytes: int

    def __post_init__(self) -> None:
        _require(self.file in PARTS, f"part {self.file!r} is not one of {', '.join(PARTS)}")
        good = len(self.sha256) == 64 and set(self.sha256) <= set("0123456789abcdef")
        _require(good, f"part {self.file!r} has no sha256 of 64 hexadecimal digits")
        good = 0 < self.size_bytes <= MAX_PART_BYTES
        _require(good, f"part {self.file!r} has {self.size_bytes} bytes, at most {MAX_PART_BYTES}")
        good = 0 <= self.values_bytes <= MAX_VALUES_BYTES
        _require(good, f"part {self.file!r} declares {self.values_bytes} bytes of values")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPlace:
    """Where the model is cut and how the feature there is coded.

    Args:
        cut: Index of the cut.
        tensor: Name of the tensor that crosses it, in the whole model.
        coder: Name of the entropy coder, as in `narrows.coding.CODERS`.
        symbol_shape: Of one sample's symbols: (components, positions...).
    """

    cut: int
    tensor: str
    coder: str
    symbol_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        _require(bool(self.symbol_shape), "symbols have no axes")
        _check_shape("symbols", self.symbol_shape)
        _require(self.cut >= 0, f"cut {self.cut} is below 0")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a bundle holds and how its parts fit together.

    Args:
        model: Name the cloud serves it under; frames go to `model` + ".split".
        route: The way requests go while the link is good.
        input: The model's input.
        outputs: The model's outputs, in order.
        preprocess: Picture to input; None where the input is an array.
        labels: Name of each class; None where there are none.
        split: Place and coder of the cut; only for the split route.
        image: Codec of the picture; only for the image route.
        deflate: Whether the raw route compresses the input's bytes with zlib.
        max_frame_bytes: The longest frame either side accepts.
        onnxruntime: Version the parts were checked with.
        optimise: Whether the runtime's graph optimisations were on.
        parts: The files, with their hashes.
    """

    FORMAT: ClassVar[int] = 1

    model: str
    route: Route
    input: Tensor
    outputs: tuple[Tensor, ...]
    preprocess: Preprocess | None
    labels: tuple[str, ...] | None
    split: SplitPlace | None
    image: ImageCodec | None
    deflate: bool
    max_frame_bytes: int
    onnxruntime: str
    optimise: bool
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        good = 0 < len(self.model) <= 200 and self.model.isprintable()
        _require(good, f"model name {self.model[:40]!r}: give 1 to 200 printable characters")
        _require(bool(self.outputs), "the model has no outputs")
        good = HEADER_BYTES < self.max_frame_bytes <= MAX_FRAME_BYTES
        _require(good, f"max_frame_bytes is {self.max_frame_bytes}, at most {MAX_FRAME_BYTES}")
        files = [part.file for part in self.parts]
        _require(len(set(files)) == len(files), f"a part is listed twice in {files}")
        missing = [file for file in self._needed() if not {file, PACKED.get(file)} & set(files)]
        _require(not missing, f"the {self.route.value} route needs {', '.join(missing)}")
        split, image = self.route is Route.SPLIT, self.route is Route.IMAGE
        _require(split == (self.split is not None), "a split place is for the split route alone")
        _require(image == (self.image is not None), "a picture codec is for the image route alone")
        if self.takes_pictures:
            self._check_pixels()
        classes = math.prod(self.outputs[0].shape)
        _require(
            self.labels is None or len(self.labels) == classes,
            f"{len(self.labels or ())} labels for a model with {classes} outputs: "
            "give one for each class, in the order of the outputs",
        )
        _require(not image or self.takes_pictures, "the image route needs pictures as inputs")

    def _needed(self) -> tuple[str, ...]:
        return (HEAD, TAIL) if self.route is Route.SPLIT else (MODEL,)

    def _check_pixels(self) -> None:
        wanted = None if self.preprocess is None else self.preprocess.input_shape
        good = self.input.shape == wanted and self.input.dtype == "float32"
        found = f"{self.input.dtype} {self.input.shape}"
        _require(good, f"preprocessing gives float32 {wanted}, the model takes {found}")

    @property
    def has_model(self) -> bool:
        """Whether the whole model is in the bundle."""
        return any(part.file in (MODEL, PACKED[MODEL]) for part in self.parts)

    @property
    def takes_pictures(self) -> bool:
        """Whether inputs are made from pictures; otherwise they are arrays."""
        return self.preprocess is not None and self.preprocess.size is not None

    @property
    def pixel_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the cropped picture.

        Raises:
            InputError: The model takes arrays.
        """
        if self.preprocess is None or self.preprocess.size is None:
            msg = f"model {self.model!r} takes arrays of {self.input.shape}, not pictures"
            raise InputError(msg)
        return (*self.preprocess.size, self.preprocess.channels)
