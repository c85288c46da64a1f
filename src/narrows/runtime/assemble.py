"""Put a bundle together from a model and a decision, and try it before it is written.

Everything that can be found out from the parts is found out by running them, not asked for: shapes,
outputs, the shape of the symbols. A bundle that is written has answered one input of zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import onnx

from narrows.coding.base import Table
from narrows.coding.images import ImageCodec
from narrows.errors import BundleError, ConfigError, NarrowsError
from narrows.graph.load import TensorInfo, load
from narrows.graph.ort import run, session
from narrows.packed import PackedFile
from narrows.plan.candidate import Route
from narrows.preprocess import Preprocess
from narrows.runtime.bundle import CHECK, SYMBOLS, Bundle, symbols_tensor
from narrows.runtime.folder import Content, write_folder
from narrows.runtime.frame import HEADER_BYTES
from narrows.runtime.manifest import HEAD, MODEL, TAIL, SplitPlace, Tensor
from narrows.runtime.network import zeros
from narrows.runtime.values import values_bytes


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SplitParts:
    """What the split route is made of.

    Args:
        head: Input → `symbols` int32 (n, components, positions...), `check` float.
        tail: `symbols` → the model's outputs.
        coder: Name in `narrows.coding.CODERS`.
        table: That coder's table.
        cut: Index of the cut.
        tensor: Name of the tensor that crosses, in the whole model.
    """

    head: onnx.ModelProto
    tail: onnx.ModelProto
    coder: str
    table: Table
    cut: int
    tensor: str


def write_bundle(
    path: str | Path,
    *,
    name: str,
    model: onnx.ModelProto | str | Path,
    split: SplitParts | None = None,
    image: ImageCodec | None = None,
    raw: bool = False,
    deflate: bool = True,
    preprocess: Preprocess | None = None,
    labels: Sequence[str] | None = None,
    optimise: bool = True,
    packed: PackedFile | None = None,
    replace: bool = False,
) -> Bundle:
    """Write a bundle for one route: split, image, raw, or local where none of the three is given.

    Args:
        path: The folder to make.
        name: What the cloud serves the model under.
        model: The whole model: the device's local route and the cloud's own model.
        split: For the split route.
        image: For the image route.
        raw: For the raw route.
        deflate: Whether the raw route compresses with zlib.
        preprocess: Picture or array to input; None where arrays are inputs already.
        labels: Name of each class.
        optimise: Whether ONNX Runtime may optimise the graphs.
        packed: The packed file that the model was read from: what the device holds is then packed.
        replace: Whether a bundle already at `path` gives way.

    Returns:
        The bundle, read back.

    Raises:
        BundleError: The parts do not fit together, or there is something at `path`.
        ModelError: The model cannot be read or run.
        StorageError: The disk is full or the path cannot be written; nothing is left behind.
    """
    if (split is not None) + (image is not None) + raw > 1:
        msg = f"bundle {name!r} asks for several routes: give one of split, image and raw"
        raise BundleError(msg)
    route = Route.SPLIT if split else Route.IMAGE if image else Route.RAW if raw else Route.LOCAL
    checked = load(model)
    given = _tensor(checked.input)
    outputs = tuple(_tensor(info) for info in checked.outputs)
    contents = {MODEL: _content(_with_shapes(checked.proto, outputs), given, packed)}
    place = None
    if split is not None:
        place = _place(split, given, optimise=optimise)
        symbols = symbols_tensor(place.symbol_shape)
        head, tail = _content(split.head, given, packed), _content(split.tail, symbols)
        contents = {HEAD: head, TAIL: tail, **contents}
    picture = image is not None or (preprocess is not None and preprocess.size is not None)
    fields = {
        "model": name,
        "route": route,
        "input": given,
        "outputs": outputs,
        "preprocess": preprocess,
        "labels": None if labels is None else tuple(labels),
        "split": place,
        "image": image,
        "deflate": raw and deflate,
        "max_frame_bytes": _max_frame_bytes(given, place, picture=picture),
        "optimise": optimise,
    }
    try:
        table = {} if split is None else split.table
        bundle = write_folder(Path(path), fields, contents=contents, table=table, replace=replace)
    except ConfigError as error:
        msg = f"cannot write the bundle {path}: {error}"
        raise BundleError(msg) from None
    return bundle


def _content(proto: onnx.ModelProto, given: Tensor, like: PackedFile | None = None) -> Content:
    return Content(proto=proto, values_bytes=values_bytes(proto, given), like=like)


def _tensor(info: TensorInfo) -> Tensor:
    return Tensor(
        name=info.name, shape=info.shape, dtype=str(info.dtype), batch_axis=info.batch_axis
    )


def _with_shapes(proto: onnx.ModelProto, outputs: Sequence[Tensor]) -> onnx.ModelProto:
    """A copy that declares the shapes of its outputs; `load` leaves them open."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.output[:]
    for output in outputs:
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(output.dtype))
        shape: list[int | str] = list(output.shape)
        if output.batch_axis is not None:
            shape.insert(output.batch_axis, "N")
        copy.graph.output.append(onnx.helper.make_tensor_value_info(output.name, kind, shape))
    return copy


def _place(split: SplitParts, given: Tensor, *, optimise: bool) -> SplitPlace:
    """Run the head once to learn the shape of the symbols."""
    try:
        head = session(split.head, optimise=optimise)
        sample = zeros(given)
        feed = sample if given.batch_axis is None else np.expand_dims(sample, given.batch_axis)
        symbols, check = run(head, {given.name: feed}, [SYMBOLS, CHECK])
    except NarrowsError as error:
        msg = f"the head does not run on an input of zeros: {error}"
        raise BundleError(msg) from None
    if symbols.dtype != np.int32 or symbols.ndim < 2 or symbols.shape[0] != 1 or check.size != 1:
        msg = (
            f"the head gives symbols {symbols.dtype} {symbols.shape} and check {check.shape}; "
            "expected int32 (n, components, positions...) and one number a sample"
        )
        raise BundleError(msg)
    shape = tuple(symbols.shape[1:])
    return SplitPlace(cut=split.cut, tensor=split.tensor, coder=split.coder, symbol_shape=shape)


def _max_frame_bytes(given: Tensor, place: SplitPlace | None, *, picture: bool) -> int:
    """What the worst content can need: escapes, noise in a picture, incompressible bytes."""
    if place is not None:
        return HEADER_BYTES + 1024 + 12 * math.prod(place.symbol_shape)
    values = math.prod(given.shape)
    return HEADER_BYTES + (1 << 16) + 2 * (values if picture else given.size_bytes)
