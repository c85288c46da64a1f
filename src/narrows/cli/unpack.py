"""narrows unpack: a model again of a packed file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def unpack(
    source: Annotated[Path, typer.Argument(help="A .narrows file.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="What to write: .onnx, or .npz of the tensors.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Make a model again of a packed file, with the weights it was packed with.

    The suffix of --out says what is written: .onnx is the model, in floating point, ready to run;
    .npz is every tensor as an array of NumPy's.
    """
    import io

    import numpy as np

    from narrows.errors import InputError
    from narrows.files import check_writable, write_atomic
    from narrows.graph.packed_model import unpack_model
    from narrows.packed import PackedFile

    check_writable(out)
    file = PackedFile.open(source)
    if out.suffix == ".onnx":
        data = unpack_model(file).SerializeToString()
    elif out.suffix == ".npz":
        target = io.BytesIO()
        tensors: dict[str, Any] = {name: file.tensor(name) for name in file.names}
        np.savez(target, **tensors)
        data = target.getvalue()
    else:
        msg = f"--out {out} ends in {out.suffix!r}: expected .onnx or .npz"
        raise InputError(msg)
    write_atomic(out, data)
    size = source.stat().st_size
    found = {"out": str(out), "kind": file.kind, "tensors": len(file.names)}
    found |= {"size_bytes_before": size, "size_bytes": len(data)}
    if as_json:
        typer.echo(json.dumps(found))
    else:
        typer.echo(f"{out}: {len(file.names)} tensors, {len(data):,} bytes of {size:,}")
