"""DeepSense has the weights that DeepIoT's tables count, and padding that has no say."""

from __future__ import annotations

import pytest
import torch

from narrows.compress import find_units, layer_table, remove_units
from narrows.zoo.deepsense import CODE_KERNELS, KERNELS, DeepSense, DeepSenseUnits

HHAR = DeepSenseUnits(own=((20, 19), (20, 14), (23, 23)), merged=(10, 12, 17), hidden=(27, 31))
USER = DeepSenseUnits(own=((7, 1), (7, 4), (9, 9)), merged=(7, 5, 7), hidden=(13, 9))


@pytest.mark.parametrize(
    ("classes", "units", "kernels", "whole", "left"),
    [
        (6, HHAR, KERNELS, 472_592, 29_045),
        (6, HHAR, CODE_KERNELS, 513_552, 30_581),
        (9, USER, KERNELS, 472_952, 5_324),
    ],
)
def test_the_weights_are_those_of_tables_5_and_6(
    classes: int,
    units: DeepSenseUnits,
    kernels: tuple[tuple[int, int], ...],
    whole: int,
    left: int,
) -> None:
    large = DeepSense(classes, kernels=kernels)
    table = layer_table(DeepSense(classes, units=units, kernels=kernels), large)
    assert sum(row.weights for row in table.rows) == whole
    assert sum(row.weights_left for row in table.rows) == left


def test_intervals_of_zeros_at_the_end_change_nothing() -> None:
    torch.manual_seed(0)
    model = DeepSense(6).eval()
    x = torch.rand(3, 20, 120)
    x[:, 12:] = 0
    assert torch.allclose(model(x), model(x[:, :12]), atol=1e-5)


def test_its_shapes_are_those_of_the_authors_code() -> None:
    model, seen = DeepSense(6).eval(), {}
    for name in ("own.0.0", "own.0.4", "own.1.8", "merged.1", "merged.11", "gru1"):
        model.get_submodule(name).register_forward_hook(
            lambda _, __, made, name=name: seen.update({name: made})
        )
    model(torch.rand(2, 20, 120))
    shapes = {n: tuple((m[0] if isinstance(m, tuple) else m).shape) for n, m in seen.items()}
    assert shapes == {
        "own.0.0": (2, 64, 20, 8),
        "own.0.4": (2, 64, 20, 6),
        "own.1.8": (2, 64, 20, 4),
        "merged.1": (2, 64, 20, 2, 4),
        "merged.11": (2, 64, 20, 2, 4),
        "gru1": (2, 20, 120),
    }


def test_all_its_units_can_be_removed() -> None:
    model, x = DeepSense(6).eval(), torch.rand(1, 20, 120)
    units = find_units(model, x)
    assert sum(group.size for group in units.groups) == 4 * 64 + 64 + 3 * 64 + 2 * 120
    assert list(units.refused) == ["out"]
    keep = {group.name: list(range(0, group.size, 3)) for group in units.groups}
    smaller = remove_units(model, x, keep)
    assert sum(p.numel() for p in smaller.parameters()) < 0.15 * 474_000
