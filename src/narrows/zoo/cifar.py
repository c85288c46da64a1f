"""CIFAR-10 as a task: 50 000 pictures of 32 × 32 to fit and choose on, 10 000 to report.

    FOLDER/train.zip, test.zip      JPEG files, class/NNNN.jpg; the task is "CIFAR-10 (JPEG)"
    FOLDER/cifar-10-batches-py      as torchvision's own data set keeps it; "CIFAR-10"

JPEG loses some of the picture, and a network trained on one form is up to twelve points worse on
the other, so the two have different names. The pictures are decoded once and held in memory as
uint8 (184 MB). `--task narrows.zoo.cifar:task` reads the folder $NARROWS_DATA.

Reference:
    Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import io
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from narrows.errors import InputError, MissingExtra
from narrows.metrics import METRICS
from narrows.preprocess import Preprocess
from narrows.splits import Split, divide, divided_text
from narrows.task import Task
from narrows.zoo.data_folder import data_folder

CLASSES: Final = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
SHARES: Final = (("fit", 0.9), ("choose", 0.1))
# Mean and deviation of the training pictures' channels, as most of the field states them.
PREPROCESS: Final = Preprocess(
    size=(32, 32),
    crop="none",
    scale=255.0,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.247, 0.243, 0.262),
)
_ZIPS: Final = ("train.zip", "test.zip")
_BATCHES: Final = "cifar-10-batches-py"
_Pictures = tuple[NDArray[np.uint8], NDArray[np.int64]]


def cifar10(folder: str | Path, *, seed: int = 0) -> Task:
    """The task of a folder; its training pictures are divided at random, 45 000 and 5 000.

    Args:
        folder: As the head of this module says.
        seed: The same seed divides the same way.

    Raises:
        InputError: The folder holds neither form, or a picture in it cannot be read.
        MissingExtra: torchvision's form is there and torchvision is not.
    """
    folder = Path(folder)
    jpeg = all((folder / name).is_file() for name in _ZIPS)
    if not jpeg and not (folder / _BATCHES).is_dir():
        msg = (
            f"no CIFAR-10 in {folder}: expected {' and '.join(_ZIPS)} (class/NNNN.jpg), or "
            f"{_BATCHES} as torchvision.datasets.CIFAR10 downloads it"
        )
        raise InputError(msg)
    read = _jpegs if jpeg else _batches
    whole, report = (_split(read(folder, train=train)) for train in (True, False))
    parts = divide(whole, dict(SHARES), seed=seed)
    divided = divided_text("the training pictures", dict(SHARES), seed)
    return Task(
        name="CIFAR-10 (JPEG)" if jpeg else "CIFAR-10",
        kind="image",
        metric=METRICS["top1"],
        preprocess=PREPROCESS,
        labels=CLASSES,
        division=f"{divided}; report: the test pictures",
        fit=parts["fit"],
        choose=parts["choose"],
        report=report,
    )


def task() -> Task:
    """The task of the folder $NARROWS_DATA, or of cifar10_jpeg in it; kept for the next call.

    Raises:
        InputError: The variable is not set, or there is no CIFAR-10.
    """
    return _kept(data_folder("cifar10_jpeg", "CIFAR-10"))


@lru_cache(maxsize=1)
def _kept(folder: Path) -> Task:
    return cifar10(folder)


def _split(pictures: _Pictures) -> Split:
    return Split(sources=pictures[0], labels=pictures[1])


def _jpegs(folder: Path, *, train: bool) -> _Pictures:
    """Pixels (n, 32, 32, 3) and labels of an archive by file name, so that classes take turns."""
    path = folder / _ZIPS[0 if train else 1]
    try:
        with zipfile.ZipFile(path) as archive:
            found = [n for n in archive.namelist() if n.lower().endswith((".jpg", ".jpeg"))]
            names = sorted(found, key=lambda name: (Path(name).name, name))
            pixels = np.empty((len(names), 32, 32, 3), np.uint8)
            for place, name in enumerate(names):
                pixels[place] = _decoded(archive.read(name), f"{path}: {name}")
            labels = [_label(name, path) for name in names]
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        msg = f"cannot read {path}: {error}; take another copy"
        raise InputError(msg) from None
    return pixels, np.asarray(labels, np.int64)


def _decoded(content: bytes, name: str) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        msg = f"{name} is no picture: {error}; take another copy"
        raise InputError(msg) from None
    if pixels.shape != (32, 32, 3):
        msg = f"{name} is a picture of {pixels.shape[1]} × {pixels.shape[0]}: expected 32 × 32"
        raise InputError(msg)
    return pixels


def _label(name: str, path: Path) -> int:
    folder = Path(name).parent.name
    if folder not in CLASSES:
        msg = f"{path}: {name} is in no class folder: expected one of {', '.join(CLASSES)}"
        raise InputError(msg)
    return CLASSES.index(folder)


def _batches(folder: Path, *, train: bool) -> _Pictures:
    try:
        from torchvision.datasets import CIFAR10
    except ImportError:
        what = "torchvision's form of CIFAR-10"
        raise MissingExtra(what, "lab") from None
    try:
        data = CIFAR10(str(folder), train=train, download=False)
    except RuntimeError as error:
        msg = f"cannot read CIFAR-10 in {folder}: {error}; download it again"
        raise InputError(msg) from None
    return data.data, np.asarray(data.targets, np.int64)
