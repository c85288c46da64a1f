"""narrows inspect: what a model, a bundle, a plan or a profile holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from narrows.cli.inspect_files import (
    make_console,
    plain,
    show_bundle,
    show_json_file,
    show_plan,
    sides,
)
from narrows.cli.inspect_packed import show_packed
from narrows.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from narrows.graph import Cut, Cuts, Model

Json = dict[str, Any]


def inspect(
    source: Annotated[
        str,
        typer.Argument(
            help="A model (.onnx, zoo:, timm:, torchvision:, module:factory), a packed file "
            "(.narrows), a bundle's or plan's folder, or the JSON file of a plan or profile."
        ),
    ],
    input_shape: Annotated[
        str | None,
        typer.Option(
            help="Shape of one sample, such as 3,224,224, where the model leaves it open."
        ),
    ] = None,
    useful: Annotated[
        bool, typer.Option("--useful", help="Only cuts that no other dominates.")
    ] = False,
    refused: Annotated[
        bool, typer.Option("--refused", help="Every place that is not a cut, each with its reason.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Run head and tail of every cut shown against the whole."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Everything, as one JSON object.")
    ] = False,
) -> None:
    """Show where a model can be cut and what each cut costs, and why other places are no cuts.

    MACs, weights and memory are those of the head: what the device computes and holds. A cut is
    worse than another if that one has no more bytes and no more MACs. Of a bundle, the parts are
    shown; of a plan, the choice and the frontier; of a profile, its numbers and their sources; of a
    packed file, what its bits are spent on, tensor by tensor.
    """
    path = Path(source)
    if path.is_dir() and (path / "manifest.json").is_file():
        show_bundle(path, as_json)
    elif path.is_dir() and (path / "plan.json").is_file():
        show_plan(path / "plan.json", as_json)
    elif path.is_dir():
        raise InputError(f"{path} is a folder with neither manifest.json nor plan.json: no bundle")
    elif path.suffix == ".json":
        show_json_file(path, as_json)
    elif path.suffix == ".narrows" and path.is_file():
        show_packed(path, as_json)
    else:
        shape = None if input_shape is None else _shape(input_shape)
        _show_model(source, shape, useful=useful, refused=refused, check=check, as_json=as_json)


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise InputError(f"--input-shape {text!r}: give numbers such as 3,224,224") from None


def _show_model(
    source: str,
    shape: tuple[int, ...] | None,
    *,
    useful: bool,
    refused: bool,
    check: bool,
    as_json: bool,
) -> None:
    from narrows.graph import find_cuts, load

    given: Any = source
    if not source.endswith(".onnx"):
        from narrows.zoo.sources import resolve

        given = resolve(source, input_shape=shape)
    model = load(given, input_shape=shape)
    cuts = find_cuts(model)
    shown = cuts.useful if useful else cuts.cuts
    errors = _checked(model, shown) if check else {}
    if as_json:
        typer.echo(json.dumps(_model_json(source, model, cuts, shown, errors)))
        return
    console = make_console()
    _print_model(console, source, model, cuts)
    _print_cuts(console, shown, errors)
    _print_refused(console, cuts, every=refused)


def _checked(model: Model, cuts: tuple[Cut, ...]) -> dict[int, tuple[bool, float]]:
    """For each cut: bit for bit with optimisations off, and the error with them on.

    Raises:
        CutError: A cut does not give what the whole gives.
    """
    import numpy as np
    from rich.progress import track

    from narrows.graph import check_equal, run, session

    rng = np.random.default_rng(0)
    samples = rng.standard_normal(model.input.at(2)).astype(model.input.dtype)
    whole = {
        optimise: run(session(model.proto, optimise=optimise), {model.input.name: samples})
        for optimise in (False, True)
    }
    errors = {}
    console = make_console(stderr=True)
    quiet = not console.is_terminal
    for cut in track(cuts, "head and tail against the whole", console=console, disable=quiet):
        plain = check_equal(model, cut, samples, whole=whole[False])
        fast = check_equal(model, cut, samples, optimise=True, whole=whole[True])
        errors[cut.index] = (plain.exact, fast.error)
    return errors


def _model_json(
    source: str,
    model: Model,
    cuts: Cuts,
    shown: tuple[Cut, ...],
    errors: dict[int, tuple[bool, float]],
) -> Json:
    from narrows.config import to_dict
    from narrows.graph import unknown_operators

    rows = [to_dict(cut) for cut in shown]
    for row in rows:
        if row["index"] in errors:
            row["exact"], row["optimised_error"] = errors[row["index"]]
    return {
        "model": source,
        "digest": model.digest,
        "input": to_dict(model.input),
        "outputs": to_dict(model.outputs),
        "macs": cuts[-1].head_macs,
        "weight_bytes": cuts[-1].head_weight_bytes,
        "nodes": len(model.flow.nodes),
        "cuts": rows,
        "refused": to_dict(cuts.refused),
        "unknown_operators": dict(unknown_operators(model)),
    }


def _print_model(console: Console, source: str, model: Model, cuts: Cuts) -> None:
    from narrows.graph import unknown_operators
    from narrows.units import bytes_text, macs_text

    last = cuts[-1]
    outputs = ", ".join(f"{out.name} {sides(out.shape)} {out.dtype}" for out in model.outputs)
    console.print(f"[bold]{plain(source)}[/]")
    console.print(
        f"input {plain(model.input.name)} {sides(model.input.shape)} {model.input.dtype} · "
        f"output {plain(outputs)} · {macs_text(last.head_macs)} · "
        f"weights {bytes_text(last.head_weight_bytes)} · {len(model.flow.nodes)} nodes"
    )
    unknown = unknown_operators(model)
    if unknown:
        named = ", ".join(f"{op} ({count} calls)" for op, count in unknown.items())
        console.print(f"[yellow]no rule for {plain(named)}: their MACs are missing below[/]")


def _print_cuts(
    console: Console, cuts: tuple[Cut, ...], errors: dict[int, tuple[bool, float]]
) -> None:
    from rich.table import Table

    from narrows.units import bytes_text, percent_text

    table = Table(box=None, pad_edge=False)
    for title in ("cut", "bytes", "MACs", "weights", "memory", "worse than"):
        table.add_column(title, justify="right", no_wrap=title != "worse than")
    table.add_column("shape", no_wrap=True)
    table.add_column("tensor", overflow="fold")
    if errors:
        table.add_column("equal", no_wrap=True)
    for cut in cuts:
        cells = [
            str(cut.index),
            bytes_text(cut.size_bytes),
            percent_text(cut.head_macs_share),
            bytes_text(cut.head_weight_bytes),
            bytes_text(cut.head_peak_bytes),
            "" if cut.dominated_by is None else str(cut.dominated_by),
            sides(cut.shape) + ("" if cut.dtype == "float32" else f" {cut.dtype}"),
            plain(cut.tensor),
        ]
        if errors:
            exact, error = errors[cut.index]
            cells.append(f"{'exact' if exact else 'no'}, {error:.0e}")
        table.add_row(*cells, style="dim" if cut.dominated_by is not None else None)
    console.print(table)


def _print_refused(console: Console, cuts: Cuts, *, every: bool) -> None:
    if not cuts.refused:
        console.print("Every value is a cut.")
        return
    console.print(f"{len(cuts.refused)} other places are no cuts:")
    last = -1
    for place in cuts.refused:
        gap = sum(other.after == place.after for other in cuts.refused)
        if every:
            console.print(f"  {plain(place.tensor)}: {plain(place.reason)}")
        elif place.after != last:
            more = f" (and {gap - 1} more there; --refused)" if gap > 1 else ""
            console.print(
                f"  after {place.after}: {plain(place.tensor)}: {plain(place.reason)}{more}"
            )
        last = place.after
