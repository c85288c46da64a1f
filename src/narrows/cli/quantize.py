"""narrows quantize: a network in 8-bit integers, or with its weights alone in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from narrows.cli.progress import Note
    from narrows.graph.load import Model
    from narrows.measure.execution import Execution
    from narrows.task import Task


def quantize(
    model: Annotated[
        str, typer.Argument(help="file.onnx, timm:NAME, torchvision:NAME, zoo:NAME or a factory.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write.")],
    to: Annotated[
        Literal["int8", "weights"],
        typer.Option(help="int8: integer arithmetic; weights: small file, float arithmetic."),
    ] = "int8",
    task: Annotated[
        str | None,
        typer.Option(help="Task file or module:factory; int8 calibrates on its fit."),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, help="Fit examples to calibrate on.")] = 100,
    method: Annotated[
        Literal["minmax", "percentile", "mse", "entropy"],
        typer.Option(help="How ranges of activations follow from the examples."),
    ] = "minmax",
    activation: Annotated[
        Literal["auto", "uint8", "int8"],
        typer.Option(help="Type of activations; auto: what this processor computes fastest."),
    ] = "auto",
    reduce_range: Annotated[
        bool,
        typer.Option("--reduce-range", help="Weights of 7 bits, for x86 without VNNI."),
    ] = False,
    exclude: Annotated[
        str, typer.Option(help="Left in float: nodes, operators, first, last; with commas.")
    ] = "",
    recurrent: Annotated[
        Literal["faster", "all"],
        typer.Option(help="Recurrent layers in integers: those that get faster by it, or all."),
    ] = "faster",
    on: Annotated[str, typer.Option(help="Set of the task that both are judged on.")] = "choose",
    threads: Annotated[int, typer.Option(min=1, help="Threads inside one run.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Write a model in 8 bits, and say what that changed.

    int8 needs a task: the ranges of activations come from its fit set. With a task both models are
    judged on the same examples, and the drop comes with its interval.
    """
    if to == "int8" and task is None:
        message = "--to int8 needs --task: ranges of activations come from real examples"
        raise typer.BadParameter(message)
    if out.is_dir():
        message = f"--out {out} is a folder: give the file to write"
        raise typer.BadParameter(message)
    from narrows.cli.progress import progress_bar
    from narrows.files import check_writable, write_atomic
    from narrows.graph.load import load
    from narrows.zoo.sources import resolve, resolve_for

    check_writable(out)
    with progress_bar() as note:
        note(f"open {model}", 0, 1)
        source, judged_on = (resolve(model), None) if task is None else resolve_for(model, task)
        original = load(source)
        names = [name.strip() for name in exclude.split(",") if name.strip()]
        if to == "weights":
            from narrows.graph.quantize_weights import quantize_weights

            proto = quantize_weights(original, exclude=names)
        else:
            from narrows.graph.calibrate import fit_batches
            from narrows.graph.quantize import quantize_static

            assert judged_on is not None
            total = min(examples, len(judged_on.fit))
            done = _counter(lambda count: note("calibrate", count, total))
            proto = quantize_static(
                original,
                fit_batches(judged_on, original, examples),
                activation=None if activation == "auto" else activation,
                reduce_range=reduce_range,
                exclude=names,
                recurrent=recurrent,
                method=method,
                threads=threads,
                progress=done,
            )
        made = load(proto)
        found = _found(original, made, judged_on, on, threads, note)
        if to == "int8":
            found["recurrent_in_float"] = _recurrent(made, names, slower=recurrent == "all")
    write_atomic(out, proto.SerializeToString())
    record = {"model": model, "to": to, "out": str(out), **found}
    typer.echo(json.dumps(record) if as_json else _text(record))


def _counter(note: Callable[[int], None]) -> Callable[[int], None]:
    """Sums what it is told, and tells the sum."""
    done = [0]

    def add(count: int) -> None:
        done[0] += count
        note(done[0])

    return add


def _found(
    original: Model,
    made: Model,
    task: Task | None,
    on: str,
    threads: int,
    note: Note,
) -> dict[str, Any]:
    """Sizes, what really runs in integers, and both models' answers on the same examples."""
    from narrows.cli.quality_record import quality_record
    from narrows.measure.execution import execution
    from narrows.measure.judging import judge

    note("what is run", 0, 1)
    found = {
        "size_bytes_before": original.proto.ByteSize(),
        "size_bytes": made.proto.ByteSize(),
        **_run_text(execution(made, original=original)),
    }
    if task is None:
        return found
    before, after = (
        judge(one, task, on, threads=threads, progress=lambda done, of: note("judge", done, of))
        for one in (original, made)
    )
    return {**found, "quality": quality_record(before, after, name="quantized")}


def _recurrent(made: Model, exclude: list[str], *, slower: bool) -> list[str]:
    """What recurrent layers stayed in floating point though nobody asked for it, and why."""
    from narrows.graph.recurrent import recurrent_layers

    return [
        layer.text
        for layer in recurrent_layers(made, slower=slower)
        if layer.reason and not {layer.name, layer.kind}.intersection(exclude)
    ]


def _run_text(run: Execution) -> dict[str, Any]:
    return {
        "weight_bearing": run.weight_bearing,
        "int8": run.int8,
        "weights_only": run.weights_only,
        "int8_macs_share": run.int8_share,
        "run": run.text,
        "flags": list(run.flags),
    }


def _text(record: dict[str, Any]) -> str:
    from narrows.cli.quality_record import quality_text
    from narrows.units import bytes_text

    before, after = record["size_bytes_before"], record["size_bytes"]
    lines = [
        f"{record['out']}: {bytes_text(before)} → {bytes_text(after)} ({after / before - 1:+.0%})",
        record["run"],
        *(f"note: {flag}" for flag in record["flags"]),
        *(f"note: {text}" for text in record.get("recurrent_in_float", ())),
    ]
    if "quality" in record:
        lines.append(quality_text(record["quality"], name="quantized"))
    return "\n".join(lines)
