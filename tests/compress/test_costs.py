"""What is left, told beforehand, is what is left after the removal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from narrows.compress import remove_units
from narrows.compress.costs import UnitCosts
from narrows.compress.latency import MeasuredLatency, costs_of
from narrows.compress.units import find
from narrows.errors import ModelError
from narrows.graph import load
from narrows.graph.cost import total_macs
from narrows.zoo.export import export
from narrows.zoo.lenet import lenet5


class Residual(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 12, 3, groups=2)
        self.out = nn.Linear(12 * 36, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.stem(x)).relu()
        return self.out(self.grouped(y + self.deep(y)).flatten(1))


class Recurrent(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(5, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0])


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lenet5": (lenet5, (1, 1, 28, 28)),
    "residual": (Residual, (1, 3, 8, 8)),
    "recurrent": (Recurrent, (1, 7, 5)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_left_are_those_after_removal(name: str) -> None:
    build, shape = NETWORKS[name]
    model, example = build(), torch.zeros(shape)
    found = find(model, example)
    costs = UnitCosts(model, found, example, "parameters")
    assert costs.whole == sum(p.numel() for p in model.parameters())
    generator = torch.Generator().manual_seed(0)
    keep = {g.name: torch.rand(g.size, generator=generator) < 0.6 for g in found.units.groups}
    for group in found.units.groups:
        for needed in ((0,), *group.needed):
            keep[group.name][list(needed)[:1]] = True
    smaller = remove_units(
        model, example, {n: row.nonzero().flatten().tolist() for n, row in keep.items()}
    )
    assert costs.of(keep) == sum(p.numel() for p in smaller.parameters())


@pytest.mark.parametrize("name", ["lenet5", "residual"])
def test_macs_are_those_of_the_graph(name: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    build, shape = NETWORKS[name]
    model, example = build().eval(), torch.zeros(shape)
    path = tmp_path / "net.onnx"
    path.write_bytes(export(model, shape[1:], name=name).SerializeToString())
    found = find(model, example)
    # BatchNormalization is folded into the convolution by the export, and counts nothing here.
    assert UnitCosts(model, found, example, "macs").whole == total_macs(load(path))


def test_macs_of_a_recurrent_layer_count_every_step() -> None:
    model, example = Recurrent(), torch.zeros(2, 7, 5)
    cost = UnitCosts(model, find(model, example), example, "macs").whole
    first, second = 4 * 6 * (5 + 6), 4 * 6 * (12 + 6)
    assert cost == 7 * (2 * first + 2 * second + 12 * 3)


def wide() -> nn.Module:
    return nn.Sequential(nn.Linear(256, 4096), nn.ReLU(), nn.Linear(4096, 256))


def test_latency_is_measured_beside_the_original_and_kept_in_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, example = wide(), torch.zeros(1, 256)
    keep = {"0": torch.arange(4096) < 64}
    journal = tmp_path / "latencies.json"
    with torch.autocast("cpu", torch.bfloat16):  # as in a search of mixed precision
        left = MeasuredLatency(model, example, journal=journal).left(keep)
    assert 0 < left < 0.7  # a sixty-fourth of the work
    monkeypatch.setattr(MeasuredLatency, "_timed", lambda *_: pytest.fail("timed again"))
    again = MeasuredLatency(wide(), example, journal=journal)
    assert again.left(keep) == left
    assert again.left({"0": torch.arange(4096) >= 4032}) == left  # other units, equal shapes
    journal.write_text("{")
    with pytest.raises(ModelError, match="remove it"):
        MeasuredLatency(model, example, journal=journal)


def test_a_network_that_cannot_be_exported_is_not_timed() -> None:
    class Odd(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return torch.special.airy_ai(self.last(self.first(x)))

    costs = MeasuredLatency(Odd(), torch.zeros(1, 4))
    with pytest.raises(ModelError, match="another cost"):
        costs.left({"first": torch.arange(8) < 4})


def test_shares_are_of_the_original() -> None:
    original, example = lenet5(), torch.zeros(1, 1, 28, 28)
    model = remove_units(original, example, {"conv1": range(10)})
    costs = costs_of("macs", model, find(model, example), example, original=original)
    whole = UnitCosts(original, find(original, example), example, "macs").whole
    own = UnitCosts(model, find(model, example), example, "macs").whole
    assert costs.left({}) == own / whole
