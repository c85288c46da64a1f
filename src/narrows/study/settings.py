"""The TOML file of a study, read strictly. docs/study.md describes it."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from narrows.config import from_dict
from narrows.errors import ConfigError, InputError
from narrows.measure.backends import BACKENDS
from narrows.study.methods import METHODS

ORIGINAL: Final = "original"
TORCH: Final = "torch"
_SETS: Final = ("fit", "choose", "report")
_PLACE = re.compile(r"\$\{(\w+)\}")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VariantSettings:
    """One variant of a network: the original, a method's result, or a file.

    Args:
        name: What tables call it.
        method: Name of a method of `narrows.study.methods`; None for the original and for a file.
        model: Path of an ONNX file; None for the original and for a method.
    """

    name: str
    method: str | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        """Refuse what names both a method and a file, or neither."""
        if self.name == ORIGINAL and (self.method or self.model):
            msg = f"variant {ORIGINAL!r} is the network itself: give this one another name"
            raise ConfigError(msg)
        if self.name != ORIGINAL and (self.method is None) == (self.model is None):
            msg = f"variant {self.name!r}: state either method or model (an .onnx file)"
            raise ConfigError(msg)
        if self.method is not None:
            _one_of(self.method, METHODS, f"method of variant {self.name!r}")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """One network of the study.

    Args:
        name: What tables call it.
        model: file.onnx, zoo:NAME, timm:NAME, torchvision:NAME or module:factory.
        variants: What is made of it; the original is always among them.
        task: Task file or module:factory to judge it on; None: nothing is judged.
        calibration: Samples that methods see: of the task's fit set, or random numbers.
        batch: Samples in one inference.
    """

    name: str
    model: str
    variants: tuple[VariantSettings, ...]
    task: str | None = None
    calibration: int = 64
    batch: int = 1

    def __post_init__(self) -> None:
        """Refuse two variants of one name, and counts below one."""
        _distinct([variant.name for variant in self.variants], f"variants of {self.name!r}")
        if self.calibration < 1 or self.batch < 1:
            msg = f"network {self.name!r}: calibration and batch are at least 1"
            raise ConfigError(msg)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StudySettings:
    """What is measured, and how long.

    Args:
        name: Heading of the report.
        networks: At least one.
        threads: Threads inside one inference; a session for each.
        runtimes: Names of backends; the first is the one that others should agree with.
        baseline: "torch" adds PyTorch eager, in a process of its own, beside each original.
        set: Which of a task's sets networks are judged on.
        samples: At most so many samples of it; None for all.
        target: Half-width of the interval asked for, as a share of the median.
        rounds: Rounds of every session.
        round_s: A round of a contender lasts at least so long,
        min_calls: and has at least so many calls.
        session_s: A session lasts at least so long; its rounds are spread over it.
        limit_s: After so long a session stops, whatever its intervals are.
        respawns: How often the processes of a session are started afresh, at least.
        energy: "auto" uses a sensor where there is one, "off" never.
        energy_s: Length of the load and idle windows of a measurement of energy.
        operators: Break time down by operator.
    """

    name: str
    networks: tuple[NetworkSettings, ...]
    threads: tuple[int, ...] = (1,)
    runtimes: tuple[str, ...] = ("onnxruntime",)
    baseline: str | None = None
    set: str = "report"
    samples: int | None = None
    target: float | None = 0.02
    rounds: int = 10
    round_s: float = 0.2
    min_calls: int = 2
    session_s: float = 5.0
    limit_s: float = 90.0
    respawns: int = 1
    energy: str = "auto"
    energy_s: float = 10.0
    operators: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        for title, values in (("threads", self.threads), ("runtimes", self.runtimes)):
            if not values:
                msg = f"{title} is empty: state at least one"
                raise ConfigError(msg)
            _distinct(values, title)
        if not self.networks:
            msg = "no [[network]]: state name and model of at least one"
            raise ConfigError(msg)
        _distinct([network.name for network in self.networks], "networks")
        for runtime in self.runtimes:
            _one_of(runtime, BACKENDS, "runtime")
        if self.baseline is not None:
            _one_of(self.baseline, (TORCH,), "baseline")
        _one_of(self.energy, ("auto", "off"), "energy")
        _one_of(self.set, _SETS, "set")
        if min(self.threads) < 1 or self.rounds < 1 or (self.samples or 1) < 1:
            msg = "threads, rounds and samples are at least 1"
            raise ConfigError(msg)


def read_settings(path: str | Path, *, places: Mapping[str, str] | None = None) -> StudySettings:
    """Read a study's file.

    Args:
        path: The TOML file; files it names are searched for in its folder.
        places: What `${NAME}` stands for; names that are not here are environment variables.

    Raises:
        InputError: The file cannot be read.
        ConfigError: It is not TOML, a key or value is not known, or a `${NAME}` stands for nothing.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}; give the TOML file of a study"
        raise InputError(msg) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is not TOML: {error}"
        raise ConfigError(msg) from None
    try:
        filled = _filled(table, {**os.environ, **(places or {})})
        return _settings(filled, path.parent)
    except ConfigError as error:
        msg = f"{path}: {error}"
        raise ConfigError(msg) from None


def _settings(table: Mapping[str, Any], folder: Path) -> StudySettings:
    check_known(table, ("study", "network"), "the file")
    study = dict(_table(table.get("study"), "[study]"))
    own = {field.name for field in dataclasses.fields(StudySettings)} - {"networks"}
    check_known(study, (*sorted(own), "variants", "calibration"), "[study]")
    usual = study.pop("variants", [ORIGINAL])
    calibration = study.pop("calibration", 64)
    listed = table.get("network", [])
    if not isinstance(listed, list):
        msg = "[network] is one table: write [[network]], once for each"
        raise ConfigError(msg)
    networks = [
        _network(dict(_table(entry, "[[network]]")), usual, calibration, folder) for entry in listed
    ]
    return from_dict(
        StudySettings,
        {"name": folder.name, **_defaults(StudySettings), **study} | {"networks": networks},
    )


def _network(entry: dict[str, Any], usual: Any, calibration: Any, folder: Path) -> dict[str, Any]:
    own = [field.name for field in dataclasses.fields(NetworkSettings)]
    where = f"[[network]] {entry.get('name', '')}".strip()
    check_known(entry, (*own, "variant"), where)
    for key in ("name", "model"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            msg = f"{where}: {key} is missing: state it as text"
            raise ConfigError(msg)
    names = entry.pop("variants", usual)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        msg = f"{where}: variants is {names!r}: expected a list of names"
        raise ConfigError(msg)
    for name in names:
        _one_of(name, (ORIGINAL, *METHODS), f"{where}: variant")
    variants = [{"name": name, "method": name, "model": None} for name in names if name != ORIGINAL]
    variants.insert(0, {"name": ORIGINAL, "method": None, "model": None})
    for extra in entry.pop("variant", []):
        check_known(_table(extra, where), ("name", "method", "model"), f"{where}, variant")
        stated = {"method": None, "model": None, **extra}
        stated["model"] = _placed(stated["model"], folder)
        variants.append(stated)
    stated = {**_defaults(NetworkSettings), "calibration": calibration, **entry}
    found = {key: _placed(stated[key], folder) for key in ("model", "task")}
    return {**stated, **found, "variants": variants}


def _placed(named: Any, folder: Path) -> Any:
    """A file as seen from the study's folder; names of other kinds as they are."""
    is_file = isinstance(named, str) and named.endswith((".onnx", ".toml"))
    return str(folder / named) if is_file else named


def _defaults(cls: type) -> dict[str, Any]:
    fields = dataclasses.fields(cls)
    return {
        field.name: list(field.default) if isinstance(field.default, tuple) else field.default
        for field in fields
        if field.default is not dataclasses.MISSING
    }


def _filled(value: Any, places: Mapping[str, str]) -> Any:
    """`value` with every ${NAME} of its texts replaced."""
    if isinstance(value, dict):
        return {key: _filled(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, places) for item in value]
    if not isinstance(value, str):
        return value
    for name in _PLACE.findall(value):
        if name not in places:
            msg = f"{value!r}: nothing says what ${{{name}}} is: give --set {name}=VALUE"
            raise ConfigError(msg)
    return _PLACE.sub(lambda found: places[found[1]], value)


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        msg = f"no {where} section: a study has one [study] and a [[network]] for each network"
        raise ConfigError(msg)
    return value


def check_known(table: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """Refuse keys that are not among `names`, and name the nearest.

    Raises:
        ConfigError: There is one.

    Example:
        >>> check_known({"thread": 1}, ("threads", "name"), "[study]")
        Traceback (most recent call last):
        narrows.errors.ConfigError: [study]: unknown key 'thread': did you mean 'threads'? ...
    """
    for key in table:
        _one_of(key, names, f"{where}: unknown key", refused="")


def _one_of(
    value: str, known: Sequence[str] | Mapping[str, Any], what: str, *, refused: str = "unknown "
) -> None:
    if value in known:
        return
    near = difflib.get_close_matches(str(value), list(known), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    msg = f"{refused}{what} {value!r}: {hint}known are {', '.join(known)}"
    raise ConfigError(msg)


def _distinct(values: Sequence[Any], title: str) -> None:
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        msg = f"{title} name {twice[0]!r} twice: give each one once"
        raise ConfigError(msg)
