"""What a study measures and how long: the values its file is read into."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

from narrows.errors import ConfigError
from narrows.measure.backends import BACKENDS
from narrows.measure.schedule import Schedule
from narrows.study.methods import METHODS

ORIGINAL: Final = "original"
TORCH: Final = "torch"
_SETS: Final = ("fit", "choose", "report")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VariantSettings:
    """One variant of a network: the original, what methods make of it, or a file.

    Args:
        name: What tables call it.
        methods: One after another, names of `narrows.study.methods` after lines as `narrows
            compress` takes them ("units:shares=[0.5],..."); none for the original and for a file.
        model: Path of an .onnx or .narrows file; None for the original and for methods.
    """

    name: str
    methods: tuple[str, ...] = ()
    model: str | None = None

    def __post_init__(self) -> None:
        """Refuse what names both a method and a file, or neither."""
        if self.name == ORIGINAL and (self.methods or self.model):
            msg = f"variant {ORIGINAL!r} is the network itself: give this one another name"
            raise ConfigError(msg)
        if self.name != ORIGINAL and bool(self.methods) == (self.model is not None):
            msg = f"variant {self.name!r}: state either method or model (a file)"
            raise ConfigError(msg)
        for name in self.exported_methods:
            hint = ", and lines such as units:shares=[0.5],... before them"
            one_of(name, METHODS, f"method of variant {self.name!r}", more=hint)

    @property
    def training_lines(self) -> tuple[str, ...]:
        """The methods that work on the torch network; they come first."""
        return tuple(itertools.takewhile(is_line, self.methods))

    @property
    def exported_methods(self) -> tuple[str, ...]:
        """The methods that work on the exported network."""
        return self.methods[len(self.training_lines) :]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """One network of the study.

    Args:
        name: What tables call it.
        model: file.onnx, file.narrows, zoo:NAME, timm:NAME, torchvision:NAME or
            module:factory.
        variants: What is made of it; the original is always among them.
        task: Task file or module:factory to judge it on; None: nothing is judged.
        calibration: Samples that methods see: of the task's fit set, or random numbers.
        train_batch: Samples in a batch, where a method trains.
        flip: Whether methods train on pictures shifted and mirrored at random.
        batch: Samples in one inference.
        limit_s, respawns: In place of the study's, where a slow network needs others.
    """

    name: str
    model: str
    variants: tuple[VariantSettings, ...]
    task: str | None = None
    calibration: int = 64
    train_batch: int = 64
    flip: bool = False
    batch: int = 1
    limit_s: float | None = None
    respawns: int | None = None

    def __post_init__(self) -> None:
        """Refuse two variants of one name, and counts below one."""
        _distinct([variant.name for variant in self.variants], f"variants of {self.name!r}")
        if min(self.calibration, self.batch, self.train_batch) < 1:
            msg = f"network {self.name!r}: calibration, batch and train_batch are at least 1"
            raise ConfigError(msg)
        for variant in self.variants:
            if variant.training_lines and self.task is None:
                msg = f"network {self.name!r} has no task that its variant {variant.name!r} could "
                raise ConfigError(f"{msg}be trained on: state task")


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

    FORMAT: ClassVar[int] = 2

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
            one_of(runtime, BACKENDS, "runtime")
        if self.baseline is not None:
            one_of(self.baseline, (TORCH,), "baseline")
        one_of(self.energy, ("auto", "off"), "energy")
        one_of(self.set, _SETS, "set")
        if min(self.threads) < 1 or self.rounds < 1 or (self.samples or 1) < 1:
            msg = "threads, rounds and samples are at least 1"
            raise ConfigError(msg)


def schedule_of(study: StudySettings, network: NetworkSettings, threads: int) -> Schedule:
    """The schedule of a network's session."""
    return Schedule(
        target=study.target or None,
        rounds=study.rounds,
        round_s=study.round_s,
        min_calls=study.min_calls,
        session_s=study.session_s,
        limit_s=study.limit_s if network.limit_s is None else network.limit_s,
        respawns=study.respawns if network.respawns is None else network.respawns,
        threads=threads,
    )


def one_of(
    value: str,
    known: Sequence[str] | Mapping[str, Any],
    what: str,
    *,
    refused: str = "unknown ",
    more: str = "",
) -> None:
    """Refuse what is not known, and name the nearest.

    Raises:
        ConfigError: It is not.
    """
    if value in known:
        return
    near = difflib.get_close_matches(str(value), list(known), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    msg = f"{refused}{what} {value!r}: {hint}known are {', '.join(known)}{more}"
    raise ConfigError(msg)


def is_line(method: str) -> bool:
    """Whether a method is a line of `narrows compress`, not a name of `narrows.study.methods`."""
    return ":" in method


def _distinct(values: Sequence[Any], title: str) -> None:
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        msg = f"{title} name {twice[0]!r} twice: give each one once"
        raise ConfigError(msg)
