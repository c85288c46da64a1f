"""narrows pack: a model as one packed file, its weights on grids and entropy coded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from narrows.cli.progress import Note
    from narrows.graph.load import Model
    from narrows.graph.round_weights import WeightRounder
    from narrows.task import Task


def pack(
    model: Annotated[
        str,
        typer.Argument(help="file.onnx, timm:NAME, torchvision:NAME, zoo:NAME or a factory."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .narrows file to write.")],
    task: Annotated[
        str | None,
        typer.Option(help="Task file or module:factory, whose fit set weights are rounded by."),
    ] = None,
    step: Annotated[
        float | None, typer.Option(help="Round with this step instead of searching one.")
    ] = None,
    size: Annotated[
        float | None, typer.Option(help="Bytes of the file at most, instead of a drop.")
    ] = None,
    max_drop: Annotated[
        float, typer.Option(help="Of the metric on choose, at most; the coarsest step is taken.")
    ] = 0.01,
    max_divergence: Annotated[
        float, typer.Option(help="Divergence of the answers there, at most, in nats (classes).")
    ] = 0.02,
    examples: Annotated[int, typer.Option(min=1, help="Fit examples to round by.")] = 500,
    rate: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="What a bit is worth, in squares of a step: 0.1 for pruned networks."
        ),
    ] = 0.0,
    exclude: Annotated[
        str, typer.Option(help="Left as they are: nodes, operators, first, last; with commas.")
    ] = "",
    coder: Annotated[
        Literal["adaptive", "ans", "huffman", "raw"], typer.Option(help="Of the symbols.")
    ] = "adaptive",
    on: Annotated[str, typer.Option(help="Set that both are judged on in the end.")] = "report",
    threads: Annotated[int, typer.Option(min=1, help="Threads inside one run.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Write a model as one small file that `narrows unpack` makes a model of again.

    With a task the weights are rounded first, without training: errors are made good by the weights
    that follow, by what the fit set's examples say of the inputs. The coarsest step is searched
    that keeps the choose set's answers, and the report set is read once, in the end. Without a task
    the model is packed as it is, exactly: weights that a method left on a few values take few bits.
    """
    if out.is_dir():
        message = f"--out {out} is a folder: give the file to write"
        raise typer.BadParameter(message)
    if task is None and (step is not None or size is not None):
        message = "--step and --size need --task: weights are rounded by real examples"
        raise typer.BadParameter(message)
    if step is not None and size is not None:
        message = "--step and --size exclude each other"
        raise typer.BadParameter(message)
    from narrows.cli.progress import progress_bar
    from narrows.coding import CODERS
    from narrows.files import check_writable, write_atomic
    from narrows.graph.load import load
    from narrows.graph.packed_model import pack_model, unpack_model
    from narrows.measure.coarsest import finest
    from narrows.zoo.sources import resolve, resolve_for

    check_writable(out)
    chosen = CODERS[coder]()
    with progress_bar() as note:
        note(f"open {model}", 0, 1)
        source, judged_on = (resolve(model), None) if task is None else resolve_for(model, task)
        original = load(source)
        record: dict[str, Any] = {"model": model, "out": str(out)}
        if judged_on is None:
            data = pack_model(original.proto, coder=chosen)
        else:
            names = [name.strip() for name in exclude.split(",") if name.strip()]
            rounder = _rounder(original, judged_on, names, examples, rate, threads, note)
            if size is not None:
                note("search the step", 0, 0)
                step = finest(rounder, int(size), coder=chosen)
            if step is None:
                record |= _searched(
                    original, rounder, judged_on, max_drop, max_divergence, threads, note
                )
            record.setdefault("step", step)
            made = rounder.rounded(record["step"])
            data = pack_model(made.proto, grids=made.grids, coder=chosen)
            record["quality"] = _judged(
                original, load(unpack_model(data)), judged_on, on, threads, note
            )
    write_atomic(out, data)
    record |= {"size_bytes_before": original.proto.ByteSize(), "size_bytes": len(data)}
    typer.echo(json.dumps(record) if as_json else _text(record))


def _rounder(
    model: Model,
    task: Task,
    exclude: list[str],
    examples: int,
    rate: float,
    threads: int,
    note: Note,
) -> WeightRounder:
    from narrows.graph.calibrate import fit_batches
    from narrows.graph.round_weights import RoundSettings, WeightRounder
    from narrows.graph.second_moments import input_moments
    from narrows.graph.weight_matrices import weight_matrices

    total, done = min(examples, len(task.fit)), 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        note("look at examples", done, total)

    weights = weight_matrices(model, exclude)
    batches = fit_batches(task, model, examples)
    moments = input_moments(model, weights, batches, threads=threads, progress=tell)
    return WeightRounder(model, weights, moments, RoundSettings(rate=rate))


def _searched(
    model: Model,
    rounder: WeightRounder,
    task: Task,
    max_drop: float,
    max_divergence: float,
    threads: int,
    note: Note,
) -> dict[str, Any]:
    """The step, and what its trial on the choose set said."""
    from dataclasses import asdict

    from narrows.measure.coarsest import Trial, coarsest

    def tell(trial: Trial) -> None:
        note(f"step {trial.step:.3g}: drop {100 * trial.drop:.1f} points", 0, 0)

    found = coarsest(
        model,
        rounder,
        task,
        max_drop=max_drop,
        max_divergence=max_divergence,
        threads=threads,
        progress=tell,
    )
    trial = next(one for one in found.trials if one.step == found.step)
    return {"step": found.step, "choose": asdict(trial)}


def _judged(
    before: Model, after: Model, task: Task, on: str, threads: int, note: Note
) -> dict[str, Any]:
    from narrows.cli.quality_record import quality_record
    from narrows.measure.judging import judge

    judged = [
        judge(one, task, on, threads=threads, progress=lambda done, of: note("judge", done, of))
        for one in (before, after)
    ]
    return quality_record(*judged, name="packed")


def _text(record: dict[str, Any]) -> str:
    from narrows.cli.quality_record import quality_text
    from narrows.units import bytes_text

    before, after = record["size_bytes_before"], record["size_bytes"]
    sizes = f"{bytes_text(before)} → {bytes_text(after)} ({before / after:.1f} × smaller)"
    lines = [f"{record['out']}: {sizes}"]
    if "choose" in record:
        drop, kept = (record["choose"][key] for key in ("drop", "agreement"))
        same = "" if kept is None else f", {kept:.1%} of the answers stay"
        lines.append(f"step {record['step']:.4g}: on choose drop {100 * drop:+.2f} points{same}")
    if "quality" in record:
        lines.append(quality_text(record["quality"], name="packed"))
    return "\n".join(lines)
