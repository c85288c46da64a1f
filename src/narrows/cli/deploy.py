"""narrows deploy: from a row of a plan to the bundle that device and cloud run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from narrows.errors import BundleError, PlanError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from narrows.graph.load import Model
    from narrows.plan.candidate import Candidate
    from narrows.plan.fitted import FittedCut, FittedRate
    from narrows.plan.halves import Halves
    from narrows.plan.store import PlanFolder
    from narrows.runtime.assemble import SplitParts
    from narrows.runtime.bundle import Bundle

# A symbol on the edge between two bins may fall to the other side in the fused graph.
_MOST_ERROR = 0.05


def deploy(
    plan: Annotated[Path, typer.Argument(help="Folder of a plan.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the bundle.")],
    candidate: Annotated[
        str | None, typer.Option(help="Id of a row; by default the one the plan chose.")
    ] = None,
    replace: Annotated[bool, typer.Option(help="Replace a bundle that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Write the bundle of a plan's choice, or of any other of its rows.

    Head and tail are checked on a few of the plan's examples: they must answer as they did when
    the plan evaluated them.
    """
    from narrows.plan.explain import what_to_do
    from narrows.plan.store import PlanFolder

    folder = PlanFolder(path=plan.parent if plan.name == "plan.json" else plan)
    record = folder.read()
    chosen = candidate or record.chosen
    if chosen is None:
        msg = f"{plan} chose nothing ({record.explanation}); name a row with --candidate"
        raise PlanError(msg)
    row = record.candidate(chosen)
    bundle, error = write_deployment(folder, row, out, replace=replace)
    if as_json:
        found = {
            "bundle": str(out),
            "candidate": row.id,
            "route": row.route.value,
            "id": bundle.id.hex(),
            "relative_error": error,
        }
        typer.echo(json.dumps(found))
        return
    typer.echo(f"{row.id}: {what_to_do(row, record.variants)}")
    if error is not None:
        typer.echo(f"answers as the plan evaluated it, to {error:.1e} of the largest output")
    typer.echo(f"{out}: bundle {bundle.id.hex()}; next: narrows serve {out}")


def write_deployment(
    folder: PlanFolder, row: Candidate, out: Path, *, replace: bool = False
) -> tuple[Bundle, float | None]:
    """Write the bundle of one row of a plan.

    Args:
        folder: The plan's.
        row: Which candidate.
        out: The bundle's folder.
        replace: Whether what is there gives way.

    Returns:
        The bundle, and for a split how far its answers are from those that the plan evaluated, as
        a share of the largest output.

    Raises:
        BundleError: There is something at `out`, or the fused parts answer differently.
        PlanError: The plan's folder is not whole.
    """
    from narrows.coding import ImageCodec
    from narrows.graph.load import load
    from narrows.packed import PackedFile
    from narrows.plan.candidate import Route
    from narrows.plan.halves import float_name
    from narrows.runtime.assemble import write_bundle

    prepared, samples = folder.load_variant(row.variant)
    model = load(folder.model(row.variant))
    floating = float_name(row.variant, [variant.name for variant in folder.read().variants])
    options: dict[str, Any] = {}
    error = None
    if row.route is Route.SPLIT:
        whole = model if floating == row.variant else load(folder.model(floating))
        options["split"], error = _split(folder, row, floating, _halves(whole, model), samples)
    elif row.route is Route.IMAGE:
        codec = row.codec
        assert codec is not None
        assert codec.quality is not None
        options["image"] = ImageCodec(
            format=codec.name,  # type: ignore[arg-type]
            quality=codec.quality,
            scale=codec.scale or 1.0,
        )
    elif row.route is Route.RAW:
        assert row.codec is not None
        options |= {"raw": True, "deflate": row.codec.name.endswith("-deflate")}
    file = folder.packed(row.variant)
    bundle = write_bundle(
        out,
        name=row.variant,
        packed=PackedFile.open(file) if file.is_file() else None,
        model=model.proto,
        preprocess=prepared.preprocess,
        labels=prepared.labels,
        replace=replace,
        **options,
    )
    return bundle, error


def _halves(original: Model, model: Model) -> Halves:
    """Where head and tail come from: one network, or an int8 one and its original."""
    from narrows.graph.cuts import find_cuts
    from narrows.plan.halves import float_halves, int8_halves

    cuts = find_cuts(original)
    return float_halves(model, cuts) if model is original else int8_halves(original, cuts, model)


def _split(
    folder: PlanFolder,
    row: Candidate,
    floating: str,
    halves: Halves,
    samples: NDArray[np.float32],
) -> tuple[SplitParts, float]:
    from narrows.graph.fuse import fuse_head, fuse_tail
    from narrows.runtime.assemble import SplitParts

    assert row.cut is not None
    assert row.rate_index is not None
    assert row.codec is not None
    coder = row.codec.name.split("-")[1]
    fitted = folder.load_fitted(floating, row.cut)
    rate = fitted.rates[row.rate_index]
    codec = fitted.codec(rate, coder)
    tail = halves.tails[row.cut]
    fused = SplitParts(
        head=fuse_head(halves.head(row.cut), halves.heads[row.cut], codec),
        tail=fuse_tail(halves.tail(row.cut), tail, codec),
        coder=coder,
        table=codec.coder_table,
        cut=tail.index,
        tensor=tail.tensor,
    )
    return fused, _error(fused, halves, fitted, rate, samples)


def _error(
    fused: SplitParts,
    halves: Halves,
    fitted: FittedCut,
    rate: FittedRate,
    samples: NDArray[np.float32],
) -> float:
    """Largest difference to the plan's own evaluation, as a share of the largest output."""
    import numpy as np

    from narrows.coding import CODERS
    from narrows.graph.ort import run, session
    from narrows.plan.features import FeatureReader, Tail, flat_outputs

    model, index = halves.device, fused.cut
    features, _ = FeatureReader(model, [halves.heads[index]], threads=1).read(samples)
    expected_symbols = fitted.symbols(fitted.components(features[index]), rate)
    tail_of = Tail(halves.cloud, halves.tails[index], threads=1)
    expected = tail_of.run(fitted.restored(expected_symbols, rate))
    head, tail = session(fused.head), session(fused.tail)
    coder = CODERS[fused.coder]()
    feed = np.moveaxis(samples, 0, model.input.batch_axis or 0).astype(model.input.dtype)
    (symbols,) = run(head, {model.input.name: feed}, ["symbols"])
    decoded = [
        coder.decode(coder.encode(one, fused.table), one.shape, fused.table) for one in symbols
    ]
    output = model.outputs[0]
    (outputs,) = run(tail, {"symbols": np.stack(decoded)}, [output.name])
    scale = float(np.abs(expected).max()) or 1.0
    error = float(np.abs(flat_outputs(outputs, output) - expected).max()) / scale
    if not error <= _MOST_ERROR:
        differing = float((symbols != expected_symbols).mean())
        msg = (
            f"cut {index} fused with its codec answers {error:.2g} of the largest output away "
            f"from what the plan evaluated ({differing:.2g} of the symbols differ): plan again "
            "with this version of narrows and ONNX Runtime"
        )
        raise BundleError(msg)
    return error
