"""MNIST and Fashion-MNIST as tasks: 60 000 pictures to fit and choose on, 10 000 to report.

    FOLDER/train-images-idx3-ubyte.gz, ...      the four files as they are published, packed or not,
    FOLDER/MNIST/raw/...                        or where torchvision puts them,
    FOLDER/FashionMNIST/raw/...                 of either set

Reference:
    LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition",
    1998; Xiao, Rasul, Vollgraf, "Fashion-MNIST", 2017, arXiv 1708.07747.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from narrows.errors import InputError
from narrows.metrics import METRICS
from narrows.preprocess import Preprocess
from narrows.splits import Split, divide, divided_text
from narrows.task import Task
from narrows.zoo.data_folder import data_folder

SHARES: Final = (("fit", 11 / 12), ("choose", 1 / 12))
LABELS: Final = MappingProxyType(
    {
        "MNIST": tuple(map(str, range(10))),
        "FashionMNIST": (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
    }
)
# Mean and deviation of the training pictures.
_COLOURS: Final = MappingProxyType({"MNIST": (0.1307, 0.3081), "FashionMNIST": (0.286, 0.353)})
_FILES: Final = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_TEST_FILES: Final = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_UNSIGNED_BYTES: Final = 8


def mnist(folder: str | Path, *, name: str = "MNIST", seed: int = 0) -> Task:
    """The task of a folder; its training pictures are divided at random, 55 000 and 5 000.

    Args:
        folder: As the head of this module says.
        name: "MNIST" or "FashionMNIST".
        seed: The same seed divides the same way.

    Raises:
        InputError: The folder does not hold the four files, or one of them is damaged.
    """
    if name not in LABELS:
        msg = f"no data set {name!r} here: choose MNIST or FashionMNIST"
        raise InputError(msg)
    places = (Path(folder) / name / "raw", Path(folder))
    whole, report = (_split(places, files) for files in (_FILES, _TEST_FILES))
    parts = divide(whole, dict(SHARES), seed=seed)
    mean, std = _COLOURS[name]
    return Task(
        name=name,
        kind="image",
        metric=METRICS["top1"],
        preprocess=Preprocess(
            size=(28, 28), crop="none", scale=255.0, mean=(mean,), std=(std,), colour="grey"
        ),
        labels=LABELS[name],
        division=f"{divided_text('the training pictures', dict(SHARES), seed)}; "
        "report: the test pictures",
        fit=parts["fit"],
        choose=parts["choose"],
        report=report,
    )


def task() -> Task:
    """MNIST in the folder $NARROWS_DATA, or in mnist in it; kept for the next call.

    Raises:
        InputError: The variable is not set, or there is no MNIST.
    """
    return _kept(data_folder("mnist", "MNIST"))


@lru_cache(maxsize=1)
def _kept(folder: Path) -> Task:
    return mnist(folder)


def _split(places: tuple[Path, ...], names: tuple[str, str]) -> Split:
    pictures, labels = (_array(_found(places, name)) for name in names)
    if pictures.shape[1:] != (28, 28) or labels.shape != pictures.shape[:1]:
        msg = f"{names[0]} has shape {pictures.shape} and {names[1]} {labels.shape}: "
        raise InputError(msg + "expected (n, 28, 28) and (n,); take another copy")
    return Split(sources=pictures[..., None], labels=labels.astype(np.int64))


def _found(places: tuple[Path, ...], name: str) -> Path:
    for place in places:
        for path in (place / f"{name}.gz", place / name):
            if path.is_file():
                return path
    msg = f"no {name} or {name}.gz in {' or '.join(map(str, places))}: give the folder it is in"
    raise InputError(msg)


def _array(path: Path) -> NDArray[np.uint8]:
    """The array of an IDX file: a magic number, the sizes in big-endian order, the bytes."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        zero, kind, axes = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{axes}I", content, 4)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        msg = f"cannot read {path}: {error}; take another copy"
        raise InputError(msg) from None
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if (zero, kind) != (0, _UNSIGNED_BYTES) or values.size != math.prod(shape):
        msg = f"{path} is no whole IDX file of bytes: it has {values.size} for shape {shape}"
        raise InputError(msg + "; take another copy")
    return values.reshape(shape)
