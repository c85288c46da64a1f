"""How much of each layer is left: units, parameters and those of them that are not zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from torch import Tensor, nn

from narrows.compress.sparse_formats import Format, weight_size
from narrows.compress.weight_maps import bake

_UNITS: Final = (
    "out_features",
    "out_channels",
    "hidden_size",
    "embed_dim",
    "embedding_dim",
    "num_features",
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One layer, before and after.

    Args:
        name: The module's.
        units: Outputs, channels or hidden units of each direction, after.
        parameters: It had, biases included.
        left: Of them, those that are there and not zero, or those of what it was replaced by.
        weights: It had in tensors of two or more axes, as the papers' tables count.
        weights_left: Of them.
        dense_bytes: What is there, zeros too.
        size_bytes: The same, each matrix in the smaller of its two formats, indices counted.
    """

    name: str
    units: int
    parameters: int
    left: int
    weights: int
    weights_left: int
    dense_bytes: int
    size_bytes: int

    @property
    def format(self) -> Format:
        """Of its file: "csr" where one of its matrices is smaller so; it says nothing of time."""
        return "csr" if self.size_bytes < self.dense_bytes else "dense"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTable:
    """Every layer that has parameters, in module order.

    Args:
        rows: One a layer.
    """

    rows: tuple[LayerRow, ...]

    @property
    def share_left(self) -> float:
        """Share (0–1) of all parameters that is left."""
        return sum(row.left for row in self.rows) / sum(row.parameters for row in self.rows)

    @property
    def weight_share_left(self) -> float:
        """Share (0–1) of the weights that is left, biases and normalisation not counted."""
        return sum(row.weights_left for row in self.rows) / sum(row.weights for row in self.rows)


def layer_table(model: nn.Module, original: nn.Module | None = None) -> LayerTable:
    """Count what is left of each layer; a parameter that is shared counts once, where it is first.

    Args:
        model: After compression; weight maps in it are counted as used.
        original: Before; by default the zeros of `model` are all that is gone. A layer of it that
            `model` has no more has nothing left, and one that became several has theirs.

    Example:
        >>> table = layer_table(nn.Sequential(nn.Linear(4, 2)), nn.Sequential(nn.Linear(4, 8)))
        >>> table.rows[0].parameters, table.rows[0].weights, table.rows[0].weights_left
        (40, 32, 8)
    """
    after = _own(bake(model))
    before = after if original is None else _own(bake(original))
    units = {name: _units(module) for name, module in model.named_modules()}
    rows = []
    for name, values in before.items():
        fresh = [other for other in after if other.startswith(f"{name}.") and other not in before]
        now = [value for other in (name, *fresh) for value in after.get(other, ())]
        left = [(value.ndim > 1, int(value.count_nonzero())) for value in now]
        rows.append(
            LayerRow(
                name=name,
                units=units.get(name) or (len(now[-1]) if now else 0),
                parameters=sum(value.numel() for value in values),
                left=sum(count for _, count in left),
                weights=sum(value.numel() for value in values if value.ndim > 1),
                weights_left=sum(count for wide, count in left if wide),
                dense_bytes=sum(value.numel() * value.element_size() for value in now),
                size_bytes=sum(_size_bytes(value) for value in now),
            )
        )
    return LayerTable(rows=tuple(rows))


def _own(model: nn.Module) -> dict[str, list[Tensor]]:
    """The parameters each module has itself, none twice."""
    seen: set[int] = set()
    found: dict[str, list[Tensor]] = {}
    for name, module in model.named_modules():
        fresh = [p for p in module._parameters.values() if p is not None and id(p) not in seen]
        seen |= {id(value) for value in fresh}
        if fresh:
            found[name] = [value.detach() for value in fresh]
    return found


def _size_bytes(value: Tensor) -> int:
    dense_bytes: int = value.numel() * value.element_size()
    return weight_size(value).size_bytes if value.ndim > 1 else dense_bytes


def _units(module: nn.Module) -> int:
    return next((int(getattr(module, key)) for key in _UNITS if hasattr(module, key)), 0)
