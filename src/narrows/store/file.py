"""The file of a network: safetensors, with the structure in its header."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from torch import fx, nn

from narrows.errors import ModelError
from narrows.files import write_atomic
from narrows.store.structure import build, describe
from narrows.train.checkpoint import pack_safetensors, read_safetensors

FORMAT: Final = 1


def save_network(model: nn.Module, path: str | Path) -> None:
    """Write a network, structure and weights, into one file.

    Args:
        model: Any network torch.fx can trace, of layers of torch.nn and plain functions; smaller
            ones of `remove_units` are. Whole branches that are dropped in training only are
            stored as if they never were.
        path: Usually ends in .safetensors.

    Raises:
        ModelError: The network cannot be traced, or holds what cannot be stored.
        StorageError: The file cannot be written; what was there is whole.

    Example:
        >>> import tempfile, torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "net.safetensors"
        ...     save_network(net, path)
        ...     again = load_network(path)
        >>> x = torch.ones(1, 4)
        >>> bool((again(x) == net(x)).all())
        True
    """
    structure, module = describe(model)
    header = {"format": FORMAT, "structure": structure}
    write_atomic(Path(path), pack_safetensors(module.state_dict(), header))


def load_network(path: str | Path) -> fx.GraphModule:
    """The network of a file, in evaluation mode.

    No code is loaded: layers and functions are looked up in lists of narrows' own.

    Raises:
        InputError: There is no such file.
        ModelError: It is damaged, or no file of `save_network`.
    """
    tensors, header = read_safetensors(Path(path))
    if header.get("format") != FORMAT or "structure" not in header:
        msg = (
            f"{path} holds no network with its structure (format {header.get('format')}, expected "
            f"{FORMAT}): give a file of `save_network`"
        )
        raise ModelError(msg)
    try:
        return build(header["structure"], tensors)
    except ModelError as error:
        msg = f"{path}: {error}"
        raise ModelError(msg) from error
