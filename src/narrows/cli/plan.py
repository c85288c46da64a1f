"""narrows plan: where to cut a model and how to code what crosses, for a device, link and cloud."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from narrows.cli.progress import progress_bar
from narrows.errors import NothingFits

if TYPE_CHECKING:
    from narrows.packed import PackedFile
    from narrows.plan.candidate import Candidate
    from narrows.plan.constraints import Objective
    from narrows.plan.predict import Places
    from narrows.plan.record import PlanRecord
    from narrows.plan.settings import Settings
    from narrows.plan.variant import Variant

_OBJECTIVES = "accuracy, bytes, latency, energy, cost or device-macs"


def plan(
    models: Annotated[
        list[str],
        typer.Argument(
            help="file.onnx, file.narrows of `narrows pack` or `narrows compress`, timm:NAME, "
            " torchvision:NAME, zoo:NAME or module:factory; of several one is chosen, "
            "and each one's drop is its own."
        ),
    ],
    task: Annotated[str, typer.Option(help="Task file or module:factory.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the plan.")],
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL",
            help="The one MODEL made smaller, e.g. pruned=smaller/model.onnx: planned beside it, "
            "its drop against it. May be repeated.",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Profile of the device: a preset, a file, or here.")
    ] = "raspberry-pi-4",
    link: Annotated[str, typer.Option(help="Profile of the link: a preset or a file.")] = "4g",
    cloud: Annotated[
        str, typer.Option(help="Profile of the cloud: a preset, a file, or here.")
    ] = "x86-core",
    objective: Annotated[str, typer.Option(help=f"What to make best: {_OBJECTIVES}.")] = "latency",
    max_drop: Annotated[
        float | None, typer.Option(help="Most metric lost, e.g. 0.01 for a point.")
    ] = 0.01,
    min_agreement: Annotated[
        float | None, typer.Option(help="Least share of the uncompressed model's answers.")
    ] = None,
    min_accuracy: Annotated[float | None, typer.Option(help="Least metric.")] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds an answer may take.")] = None,
    max_bytes: Annotated[float | None, typer.Option(help="Most bytes a payload.")] = None,
    max_energy: Annotated[float | None, typer.Option(help="Most joules on the device.")] = None,
    max_price: Annotated[float | None, typer.Option(help="Most money a request.")] = None,
    max_macs: Annotated[float | None, typer.Option(help="Most MACs on the device.")] = None,
    max_memory: Annotated[
        float | None, typer.Option(help="Most bytes of memory on the device.")
    ] = None,
    max_flash: Annotated[
        float | None, typer.Option(help="Largest file on the device; a .narrows file is small.")
    ] = None,
    min_fps: Annotated[float | None, typer.Option(help="Least answers a second.")] = None,
    numbers: Annotated[
        str,
        typer.Option(help="float, or float,int8 to try the network in 8-bit integers as well."),
    ] = "float,int8",
    cuts: Annotated[
        str,
        typer.Option(help="auto, auto:20 (so many), all, none, or numbers and names with commas."),
    ] = "auto",
    rates: Annotated[int, typer.Option(min=1, help="Quantizer steps for each cut.")] = 6,
    codec: Annotated[
        str, typer.Option(help="pca-ans, pca2-huffman, klt-ans, ... with commas.")
    ] = "pca-ans,pca-huffman,klt-ans",
    pictures: Annotated[
        str, typer.Option(help="Picture codecs to compare with, or none.")
    ] = "jpeg,webp,avif",
    examples: Annotated[
        int | None, typer.Option(min=1, help="Most examples of the fit and of the choose set.")
    ] = None,
    report_examples: Annotated[
        int | None, typer.Option(min=0, help="Most examples of the report set; 0 leaves it unread.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads inside one run.")] = 1,
    demonstration: Annotated[
        bool, typer.Option(help="Say that there are too few examples for the metric to mean much.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The record as one JSON object.")] = False,
) -> None:
    """Choose where to cut a model and how to code what crosses.

    Every planned cut is run at every rate beside the honest alternatives: all on the device, the
    picture as a file, the input as it is. An interrupted plan goes on where it stopped. Exit code
    1 means that nothing keeps to the constraints; the plan is written all the same.
    """
    # NumPy's own threads only get in the way of each other beside ONNX Runtime's.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(threads))
    from narrows.config import to_dict
    from narrows.plan.constraints import Constraints
    from narrows.plan.evaluate import plan as evaluate

    constraints = Constraints(
        min_accuracy=min_accuracy,
        max_drop=max_drop,
        min_agreement=min_agreement,
        max_payload_bytes=max_bytes,
        max_latency_s=deadline,
        max_energy_j=max_energy,
        max_price=max_price,
        max_device_macs=max_macs,
        max_device_memory_bytes=max_memory,
        max_device_flash_bytes=max_flash,
        min_frames_per_s=min_fps,
    )
    aim = _objective(objective)
    places = _places(device, link, cloud)
    settings = _settings(numbers, cuts, rates, codec, pictures, examples, report_examples, threads)
    with progress_bar() as watch:
        watch("opening models", 0, 0)
        variants = _variants(models, task, variant or [])
        record = evaluate(
            variants,
            places,
            constraints,
            aim,
            out,
            settings=settings,
            demonstration=demonstration,
            watcher=watch,
        )
    if as_json:
        typer.echo(json.dumps(to_dict(record), allow_nan=False))
    else:
        print_plan(record, out)
    if record.chosen is None:
        raise NothingFits(record.explanation)


def variant_names(models: Sequence[str]) -> list[str]:
    """Short names of model sources, each once.

    Example:
        >>> variant_names(["zoo:efficientnet_lite0?size=192", "dir/net.onnx", "other/net.onnx"])
        ['efficientnet_lite0-192', 'net', 'net-2']
    """
    from narrows.references import is_model_file

    names: list[str] = []
    for model in models:
        bare, _, query = model.partition("?")
        stem = Path(bare).stem if is_model_file(bare) else bare.rpartition(":")[2]
        sizes = re.findall(r"size=(\d+)", query)
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([stem, *sizes]))
        count = sum(known == name or known.startswith(f"{name}-") for known in names)
        names.append(name if name not in names else f"{name}-{count + 1}")
    return names


def print_plan(record: PlanRecord, folder: Path) -> None:
    """The frontier as a table, and the choice in a sentence."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    title = f"{record.title}: what nothing beats"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.pad_edge, table.collapse_padding = False, True
    sets = record.sets
    judged = sets.report or sets.choose
    metric = f"demonstration, n = {judged}" if record.demonstration else record.metric
    for column in ("candidate", "payload", "latency", "device", metric, "drop", "agreement"):
        side: Literal["left", "right"] = "left" if column == "candidate" else "right"
        width = max(map(len, column.split()))
        table.add_column(column, justify=side, no_wrap=column != metric, min_width=width)
    macs = {variant.name: variant.total_macs for variant in record.variants}
    shown = [c for c in record.candidates if c.on_frontier or c.id == record.chosen]
    for candidate in sorted(shown, key=lambda c: c.cost.latency_s):
        style = "bold" if candidate.id == record.chosen else None
        cells = _row(candidate, macs[candidate.variant])
        # Where there is one model its name says nothing, and `deploy` does without it.
        originals = record.originals
        name = candidate.id.removeprefix(f"{originals[0]}/" if len(originals) == 1 else "")
        table.add_row(name, *cells, style=style)
    console = Console(width=max(100, Console().width))
    console.print(table)
    console.print("* predicted from the profiles, at least in part   † on the choose set")
    console.print(
        f"fitted on {sets.fit}, chosen on {sets.choose}"
        + (f", reported on {sets.report} examples" if sets.report else " examples")
    )
    if record.chosen is None:  # why not is the error that follows
        console.print(f"{folder}/plan.json", highlight=False)
        return
    console.print(record.explanation, highlight=False)
    console.print(f"{folder}/plan.json; next: narrows deploy {folder} -o bundle", highlight=False)


def _row(candidate: Candidate, total_macs: int) -> list[str]:
    from narrows.units import bytes_text, percent_text, seconds_text

    score = candidate.report or candidate.choose
    drop = candidate.report_drop or candidate.choose_drop
    measured = all(term.measured for term in candidate.cost.terms.values())
    agreement = score.agreement
    return [
        bytes_text(candidate.payload_bytes) if candidate.payload_bytes else "-",
        seconds_text(candidate.cost.latency_s) + ("" if measured else "*"),
        percent_text(candidate.cost.device_macs / total_macs) if total_macs else "-",
        f"{score.accuracy:.4f}" + (" " if candidate.report else "†"),
        f"{100 * drop.value:+.1f} ({100 * drop.low:+.1f}, {100 * drop.high:+.1f})",
        "-" if agreement is None else percent_text(agreement),
    ]


def _objective(name: str) -> Objective:
    from narrows.plan.constraints import Objective

    try:
        return Objective(name)
    except ValueError:
        message = f"--objective {name!r}: give {_OBJECTIVES}"
        raise typer.BadParameter(message) from None


def _places(device: str, link: str, cloud: str) -> Places:
    from narrows.plan.predict import Places
    from narrows.plan.profile import load_cloud, load_device, load_link

    return Places(device=load_device(device), link=load_link(link), cloud=load_cloud(cloud))


def _settings(
    numbers: str,
    cuts: str,
    rates: int,
    codec: str,
    pictures: str,
    examples: int | None,
    report_examples: int | None,
    threads: int,
) -> Settings:
    from narrows.plan.settings import Settings, codec_settings

    transforms, coders = codec_settings(codec)
    formats = () if pictures == "none" else tuple(name.strip() for name in pictures.split(","))
    return Settings(
        numbers=tuple(name.strip() for name in numbers.split(",")),
        cuts=cuts,
        rates=rates,
        transforms=transforms,
        coders=coders,
        pictures=formats,
        fit_examples=examples,
        choose_examples=examples,
        report_examples=report_examples,
        threads=threads,
    )


def _variants(models: Sequence[str], task: str, smaller: Sequence[str]) -> list[Variant]:
    """The models, and what was made of the first where there is one alone."""
    from narrows.graph.load import load
    from narrows.plan.variant import Variant
    from narrows.task import load_task
    from narrows.zoo.sources import preset, resolve, resolve_for

    if smaller and len(models) > 1:
        message = f"--variant goes with one MODEL, given were {len(models)}: plan each on its own"
        raise typer.BadParameter(message)
    variants = []
    for name, source in zip(variant_names(models), models, strict=True):
        found, asked = resolve_for(source, task)
        variants.append(
            Variant(name=name, source=source, model=load(found), task=asked, packed=_packed(source))
        )
    for text in smaller:
        name, equals, source = text.partition("=")
        if not (name and equals and source):
            message = f"--variant {text!r}: write it as NAME=MODEL, e.g. pruned=smaller/model.onnx"
            raise typer.BadParameter(message)
        known, first = preset(source), variants[0]
        # A file says nothing of its preprocessing: it is its original's.
        asked = first.task if known is None else load_task(task, preprocess=known)
        model = load(resolve(source, input_shape=asked.input_shape))
        variants.append(
            Variant(
                name=name,
                source=source,
                model=model,
                task=asked,
                original=first.name,
                packed=_packed(source),
            )
        )
    return variants


def _packed(source: str) -> PackedFile | None:
    """The packed file that goes to the device, if a model is read from one."""
    from narrows.packed import SUFFIX, PackedFile

    if not source.endswith(SUFFIX):
        return None
    file = PackedFile.open(Path(source).read_bytes())
    return file if file.kind == "onnx" else None
