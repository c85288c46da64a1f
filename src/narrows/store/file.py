"""The file of a network: a packed file, with the structure in its header."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from narrows.coding import Coder
from narrows.errors import CorruptData, ModelError
from narrows.files import write_atomic
from narrows.packed import Grid, PackedFile, pack
from narrows.store.structure import build, describe


def save_network(
    model: nn.Module,
    path: str | Path,
    *,
    grids: Mapping[str, Grid] | None = None,
    coder: Coder | None = None,
) -> None:
    """Write a network, structure and weights, into one packed file.

    Weights come back as they are. Those that a method left on a few values, on multiples of a step
    or at zero take few bits; see `narrows.packed`.

    Args:
        model: Any network torch.fx can trace, of layers of torch.nn and plain functions; smaller
            ones of `remove_units` are. Whole branches that are dropped in training only are
            stored as if they never were.
        path: Usually ends in .narrows.
        grids: As `pack_network`.
        coder: As `pack_network`.

    Raises:
        ModelError: The network cannot be traced, or holds what cannot be stored.
        StorageError: The file cannot be written; what was there is whole.

    Example:
        >>> import tempfile, torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "net.narrows"
        ...     save_network(net, path)
        ...     again = load_network(path)
        >>> x = torch.ones(1, 4)
        >>> bool((again(x) == net(x)).all())
        True
    """
    write_atomic(Path(path), pack_network(model, grids=grids, coder=coder))


def pack_network(
    model: nn.Module, *, grids: Mapping[str, Grid] | None = None, coder: Coder | None = None
) -> bytes:
    """The bytes of a network's packed file, of kind "network".

    Args:
        model: As of `save_network`.
        grids: Of tensors, by the names of its `state_dict`, whose values lie on a grid that cannot
            be seen from the values.
        coder: Of symbols; by default `Adaptive`.

    Raises:
        ModelError: The network cannot be traced, or holds what cannot be stored.
        CodecError: A tensor does not lie on its grid.
    """
    structure, module = describe(model)
    tensors = {}
    for name, value in module.state_dict().items():
        if value.dtype in (torch.bfloat16, torch.complex64, torch.complex128):
            msg = f"{name!r} is {value.dtype}, which cannot be stored: cast it to float32"
            raise ModelError(msg)
        tensors[name] = value.detach().cpu().contiguous().numpy()
    return pack(tensors, grids=grids, coder=coder, kind="network", extra={"structure": structure})


def load_network(source: str | Path | bytes) -> fx.GraphModule:
    """The network of a packed file, in evaluation mode.

    No code is loaded: layers and functions are looked up in lists of narrows' own.

    Args:
        source: A path, or the file's bytes.

    Raises:
        InputError: There is no such file.
        CorruptData: It is damaged, or holds no network.
        ModelError: Its structure is none of a network, or not of its weights.
    """
    file = PackedFile.open(source)
    called = file.container.name
    if file.kind != "network":
        msg = f"{called} holds {file.kind}, no network: give a file of `save_network`"
        raise CorruptData(msg)
    weights: dict[str, Tensor] = {n: torch.from_numpy(file.tensor(n)) for n in file.names}
    try:
        return build(file.container.header.get("structure"), weights)
    except ModelError as error:
        msg = f"{called}: {error}"
        raise ModelError(msg) from error
