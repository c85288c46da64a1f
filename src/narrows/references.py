"""What a user writes for something in Python or in a file: `module:name` to the object it names."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from narrows.errors import ConfigError, NarrowsError

_MODEL_FILES: Final = (".onnx", ".narrows")
_LIBRARIES: Final = ("zoo:", "timm:", "torchvision:")


def is_model_file(text: str) -> bool:
    """Whether the text reads as the file of a model, not as the name of a network.

    Example:
        >>> is_model_file("net.onnx"), is_model_file("zoo:lenet5?weights=net.safetensors")
        (True, False)
    """
    return text.endswith(_MODEL_FILES) and not text.startswith(_LIBRARIES)


def is_reference(text: str) -> bool:
    """Whether the text reads as `package.module:name`.

    Example:
        >>> is_reference("plants.data:flowers"), is_reference("tasks/flowers.toml")
        (True, False)
    """
    module, colon, name = text.partition(":")
    return bool(colon) and name.isidentifier() and all(p.isidentifier() for p in module.split("."))


def load_reference(text: str, *, folder: Path | None = None) -> Any:
    """Import what `text` names.

    Args:
        text: `package.module:name`.
        folder: Searched for the module too, before the installed packages, and after it the
            current folder: a metric may lie beside the file that names it.

    Raises:
        ConfigError: The text is no reference, the module cannot be imported or lacks the name.

    Example:
        >>> load_reference("math:sqrt")(9.0)
        3.0
    """
    if not is_reference(text):
        msg = f"{text!r} is not a reference: write it as package.module:name"
        raise ConfigError(msg)
    module_name, _, name = text.partition(":")
    with _searching(folder, Path.cwd()):
        try:
            module = importlib.import_module(module_name)
        except Exception as error:
            # Whatever a user's module raises, a missing one included, is about their reference.
            reason = f"{type(error).__name__}: {error}"
            msg = f"cannot import {module_name!r} of {text!r}: {reason}"
            raise ConfigError(msg) from error
    if not hasattr(module, name):
        names = [known for known in vars(module) if not known.startswith("_")]
        msg = f"{module_name!r} has no {name!r}: it has {', '.join(names[:10]) or 'no names'}"
        raise ConfigError(msg)
    return getattr(module, name)


def call_reference(text: str) -> Any:
    """Import a function without arguments and give what it returns.

    Args:
        text: `package.module:name`; searched for in the current folder before what is installed.

    Raises:
        ConfigError: It cannot be imported, is no function, or failed; the message says where.

    Example:
        >>> call_reference("collections:OrderedDict")
        OrderedDict()
    """
    function = load_reference(text)
    if not callable(function):
        msg = f"{text!r} is a {type(function).__name__}: expected a function without arguments"
        raise ConfigError(msg)
    try:
        with _searching(Path.cwd()):
            return function()
    except NarrowsError:
        raise
    except Exception as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        where = f" ({Path(last.filename).name}, line {last.lineno})"
        where = "" if last.filename == __file__ else where
        msg = f"{text!r} failed with {type(error).__name__}: {error}{where}"
        raise ConfigError(msg) from error


@contextmanager
def _searching(*folders: Path | None) -> Iterator[None]:
    """Let modules be imported from these folders meanwhile."""
    added = [str(folder.resolve()) for folder in folders if folder is not None]
    before = list(sys.path)
    sys.path[:0] = added
    try:
        yield
    finally:
        sys.path[:] = before
