"""Everything narrows raises on purpose, and how its messages show a value.

    NarrowsError
    ├── ConfigError         a JSON or TOML file, or a value in it, is not what it should be
    ├── InputError          a picture, array or label that cannot be used
    ├── TaskError           data, preprocessing, labels or metric of a task do not fit
    ├── ModelError          a model that cannot be read, checked or run
    │   └── CutError        no such cut, or a place that cannot be cut
    ├── CodecError          a codec asked for what it cannot do
    │   └── CorruptData     bytes that are not what an encoder wrote
    ├── BundleError         a bundle that cannot be read or does not hold together
    │   └── BundleMismatch  the two sides hold different bundles
    ├── MeasureError        a measurement that cannot be taken or compared
    ├── PlanError           a plan that cannot be made
    │   └── NothingFits     no candidate meets the constraints
    ├── TransportError      the other side could not be asked
    │   ├── Unreachable     nobody answers at the address
    │   └── DeadlineMissed  no answer in time
    ├── StorageError        the disk is full, or a path cannot be written
    └── MissingExtra        an optional dependency is not installed

A message says what was asked, what was found and what to do. The object it is about is an
attribute where a program may want it.
"""


class NarrowsError(Exception):
    """Base of every error raised on purpose; the command line prints it and exits with 1."""


class ConfigError(NarrowsError, ValueError):
    """A configuration file, or a value in it, is not what it should be."""


class InputError(NarrowsError, ValueError):
    """A picture, an array or a label cannot be used."""


class TaskError(NarrowsError, ValueError):
    """Data, preprocessing, labels or metric of a task do not fit together."""


class ModelError(NarrowsError, ValueError):
    """A model cannot be read, checked or run."""


class CutError(ModelError):
    """There is no such cut, or the place cannot be cut."""


class CodecError(NarrowsError, ValueError):
    """A codec was asked for something it cannot do."""


class CorruptData(CodecError):
    """Bytes are not what an encoder wrote."""


class BundleError(NarrowsError, ValueError):
    """A bundle cannot be read or does not hold together."""


class BundleMismatch(BundleError):
    """Device and cloud hold different bundles."""


class MeasureError(NarrowsError, ValueError):
    """A measurement cannot be taken, or two cannot be compared."""


class PlanError(NarrowsError, ValueError):
    """A plan cannot be made."""


class NothingFits(PlanError):
    """No candidate meets the constraints; the message names the nearest and its distance."""


class TransportError(NarrowsError, ConnectionError):
    """The other side could not be asked."""


class Unreachable(TransportError):
    """Nobody answers at the address."""


class DeadlineMissed(TransportError, TimeoutError):
    """No answer came in time."""


class StorageError(NarrowsError, OSError):
    """The disk is full, or a path cannot be written."""


class MissingExtra(NarrowsError, ImportError):
    """An optional dependency is not installed.

    Args:
        what: What was asked for, e.g. "the interactive page".
        extra: The extra of narrows that brings it, e.g. "report".
    """

    def __init__(self, what: str, extra: str) -> None:
        advice = f"pip install 'narrows[{extra}]'"
        super().__init__(f"{what} needs packages that are not installed: {advice}")
        self.extra = extra


def shown(value: object) -> str:
    """A value as a message shows it.

    Example:
        >>> shown(("jpeg", "webp")), shown((0.5,)), shown(()), shown("a b"), shown(None)
        ("'jpeg', 'webp'", '0.5', 'empty', "'a b'", 'none')
    """
    if isinstance(value, tuple | list | set | frozenset):
        return ", ".join(shown(item) for item in value) or "empty"
    return "none" if value is None else repr(value)
