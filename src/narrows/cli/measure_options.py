"""The options of narrows measure: what each is called, takes and says of itself."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_TIME, _MORE, _RECORDS, _MACHINE = "Time", "Beside time", "Records", "Profile of this machine"


class StoppingRule(StrEnum):
    """When to stop, and which interval to state."""

    ROUNDS = "rounds"
    PAPER = "paper"


class LoadGenScenario(StrEnum):
    """How LoadGen asks."""

    SINGLE_STREAM = "single-stream"
    OFFLINE = "offline"


Model = Annotated[
    str | None,
    typer.Argument(
        help="file.onnx, timm:NAME, torchvision:NAME, zoo:NAME or module:factory; also file.tflite."
    ),
]
Backend = Annotated[
    str | None,
    typer.Option(
        help="Runtimes, separated by commas: onnxruntime, openvino, litert; after them torch,"
        " the baseline of eager PyTorch."
    ),
]
Against = Annotated[
    str | None,
    typer.Option(help="Another model, measured in the same rounds; gives ratio and verdict."),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads inside one call.")]
Shape = Annotated[
    str | None, typer.Option(help="Of the input with its batch, where open: 1,3,224,224.")
]
Batch = Annotated[
    int | None, typer.Option(min=1, help="Samples in one call; 1 where the model leaves it.")
]
Inputs = Annotated[
    Path | None, typer.Option(help="Feed this .npy or .npz file, not random numbers.")
]
Rounds = Annotated[
    int,
    typer.Option(min=1, help="Rounds at least; six give 95 %.", rich_help_panel=_TIME),
]
Target = Annotated[
    float,
    typer.Option(
        min=0,
        help="Go on until the half-width of the interval is below this share; 0: do not.",
        rich_help_panel=_TIME,
    ),
]
Session = Annotated[
    float,
    typer.Option(
        min=0, help="Seconds at least over which rounds are spread.", rich_help_panel=_TIME
    ),
]
Limit = Annotated[
    float,
    typer.Option(min=0, help="Seconds at most, target or not.", rich_help_panel=_TIME),
]
Rule = Annotated[
    StoppingRule,
    typer.Option(
        help="paper: call until a t interval of the mean is within 5 %. It misleads.",
        rich_help_panel=_TIME,
    ),
]
Mlperf = Annotated[
    bool,
    typer.Option(
        "--mlperf",
        help="Also MLPerf's rule: 1 024 calls and 60 seconds at least, 90th percentile.",
        rich_help_panel=_TIME,
    ),
]
Tiny = Annotated[
    bool,
    typer.Option(
        "--tiny",
        help="Also MLPerf Tiny's: five inputs, ten seconds each, median rate.",
        rich_help_panel=_TIME,
    ),
]
Loadgen = Annotated[
    LoadGenScenario | None,
    typer.Option(help="Also drive it by MLCommons LoadGen.", rich_help_panel=_TIME),
]
LoadgenSeconds = Annotated[
    float,
    typer.Option(min=0.1, help="LoadGen's least duration.", rich_help_panel=_TIME),
]
LoadgenSamples = Annotated[
    int | None,
    typer.Option(min=1, help="LoadGen's least samples; else MLPerf's.", rich_help_panel=_TIME),
]
LoadgenLogs = Annotated[
    Path | None, typer.Option(help="Keep LoadGen's logs in it.", rich_help_panel=_TIME)
]
Task = Annotated[
    str | None,
    typer.Option(
        help="Task file or module:factory; then quality is measured.", rich_help_panel=_MORE
    ),
]
On = Annotated[
    str,
    typer.Option(help="Set of the task: fit, choose or report.", rich_help_panel=_MORE),
]
Energy = Annotated[
    str,
    typer.Option(
        help="auto, none, a sensor's title, a meter's .csv file, or replay:FILE.",
        rich_help_panel=_MORE,
    ),
]
EnergySeconds = Annotated[
    float,
    typer.Option(min=0.1, help="Of its load and idle windows, six of each.", rich_help_panel=_MORE),
]
MeterOffset = Annotated[
    float,
    typer.Option(help="Seconds to add to the meter's times.", rich_help_panel=_MORE),
]
Processes = Annotated[
    int,
    typer.Option(min=1, help="Fresh processes for memory and cold times.", rich_help_panel=_MORE),
]
Operators = Annotated[
    bool,
    typer.Option(help="Take the time apart by operator.", rich_help_panel=_MORE),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Write the record to this file.", rich_help_panel=_RECORDS),
]
Compare = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        help="Two records: ratios of the first to the second, with intervals.",
        metavar="A.json B.json",
        rich_help_panel=_RECORDS,
    ),
]
AnyEnvironment = Annotated[
    bool,
    typer.Option(
        "--any-environment",
        help="Compare even what was measured on different machines.",
        rich_help_panel=_RECORDS,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.", rich_help_panel=_RECORDS)]
Profile = Annotated[
    Path | None,
    typer.Option(
        help="Write a device profile of this machine to this file.", rich_help_panel=_MACHINE
    ),
]
Name = Annotated[
    str,
    typer.Option(help="Name of the device in the profile.", rich_help_panel=_MACHINE),
]
