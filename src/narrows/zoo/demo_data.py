"""Labelled photographs for a demonstration: several windows of each, divided by photograph.

The Python package foolbox carries twenty photographs with their ImageNet classes. Each is cut into
seven windows (the whole, the corners and the middle at 80 %, the middle at 65 %), each also
mirrored. All windows of one photograph are in the same set, so that nothing is chosen on a
photograph it is reported on. That is enough to see how well a split network agrees with the whole
one; it is far too little to say how accurate either is.
"""

from __future__ import annotations

import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from PIL import Image

from narrows.config import storage_error, write_atomic
from narrows.errors import InputError
from narrows.preprocess import open_picture

# Where a window is, 0 left or top, 1 right or bottom; and its side over the picture's shorter one.
WINDOWS: Final = (
    (0.5, 0.5, 1.0),
    (0.5, 0.5, 0.8),
    (0.0, 0.0, 0.8),
    (1.0, 0.0, 0.8),
    (0.0, 1.0, 0.8),
    (1.0, 1.0, 0.8),
    (0.5, 0.5, 0.65),
)
# Photographs go to the sets in turn: of ten, four, three and three.
_TURNS: Final = (*("fit", "choose", "report") * 3, "fit")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Photograph:
    """A picture file and its ImageNet class number."""

    path: Path
    label: int


def photographs() -> tuple[Photograph, ...]:
    """The labelled photographs of the installed package foolbox; its code is not imported.

    Raises:
        InputError: It is not installed, or has no photographs.
    """
    spec = importlib.util.find_spec("foolbox")
    folders = spec.submodule_search_locations if spec else None
    files = sorted(Path(folders[0], "data").glob("imagenet_*_*.jpg")) if folders else []
    if not files:
        msg = "the demonstration's photographs are not installed: pip install --no-deps foolbox"
        raise InputError(msg)
    return tuple(Photograph(path=path, label=int(path.stem.rpartition("_")[2])) for path in files)


def windows(photograph: Path) -> list[Image.Image]:
    """The windows of a photograph, each followed by its mirror image."""
    image = open_picture(photograph)
    found = []
    for across, down, share in WINDOWS:
        side = round(share * min(image.size))
        left, top = round(across * (image.width - side)), round(down * (image.height - side))
        window = image.crop((left, top, left + side, top + side))
        found += [window, window.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    return found


def write_task(folder: Path, given: tuple[Photograph, ...] | None = None) -> Path:
    """Write the windows as files and a task that reads them.

    Args:
        folder: Where to; it is made if it is not there.
        given: The photographs; by default those of foolbox.

    Returns:
        Path of the task file.

    Raises:
        InputError: There are no photographs.
        StorageError: The folder cannot be written.
    """
    rows: dict[str, list[str]] = {name: ["file,label"] for name in ("fit", "choose", "report")}
    pictures = folder / "windows"
    try:
        pictures.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(pictures, error) from error
    for number, photograph in enumerate(given or photographs()):
        chosen = rows[_TURNS[number % len(_TURNS)]]
        for place, window in enumerate(windows(photograph.path)):
            name = f"{number:02}_{place:02}_{photograph.label}.jpg"
            buffer = io.BytesIO()
            window.save(buffer, "JPEG", quality=95)
            write_atomic(pictures / name, buffer.getvalue())
            chosen.append(f"windows/{name},{photograph.label}")
    for name, lines in rows.items():
        write_atomic(folder / f"{name}.csv", "\n".join(lines) + "\n")
    names = class_names()
    if names:
        write_atomic(folder / "classes.txt", "\n".join(names) + "\n")
    write_atomic(folder / "task.toml", _task_text(named=bool(names)))
    return folder / "task.toml"


def class_names() -> tuple[str, ...]:
    """ImageNet's thousand class names, if torchvision is there to tell them, else none."""
    try:
        from torchvision.models import MobileNet_V2_Weights
    except ImportError:
        return ()
    return tuple(MobileNet_V2_Weights.DEFAULT.meta["categories"])


def _task_text(*, named: bool) -> str:
    labels = 'labels = "classes.txt"\n' if named else ""
    sets = "".join(f'{name} = "{name}.csv"\n' for name in ("fit", "choose", "report"))
    return f'name = "twenty photographs"\nmetric = "top1"\n{labels}\n[data]\nkind = "image"\n{sets}'
