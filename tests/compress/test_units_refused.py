"""What cannot be removed is said; what would be wrong is not given."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from narrows.compress import rewrite, slicing
from narrows.compress.masking import masked
from narrows.compress.removal import remove_units
from narrows.compress.units import find_units
from narrows.errors import ModelError


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Mixing(nn.Module):
    """A sum over channels, and a sort: no weights say how units are read there."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 4, 1) for _ in range(3))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).softmax(1) + torch.sort(self.b(x), 1)[0].mean()
        return self.head((y.sum() + self.c(x)).mean((2, 3)))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(32, 6), nn.Tanh(), nn.Linear(6, 3)
    )


def image() -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_network_that_branches_on_values_is_named() -> None:
    with pytest.raises(
        ModelError, match=r"Branching cannot be taken apart: torch.fx cannot trace it"
    ):
        find_units(Branching(), image())


def test_layers_read_by_what_has_no_weights_are_refused_with_the_reason() -> None:
    refused = find_units(Mixing(), image()).refused
    assert refused["a"] == "softmax mixes them and has no weights"
    assert "read by sort (sort)" in refused["b"]
    assert refused["head"] == "the network answers with them"
    assert "c" not in refused


def test_refused_layers_are_skipped_only_if_asked() -> None:
    keep = {"5": [0], "0": [1, 2]}
    with pytest.raises(ModelError, match="'5' cannot be removed: the network answers with them"):
        remove_units(network(), image(), keep)
    smaller = remove_units(network(), image(), keep, skip_refused=True)
    assert smaller[5].out_features == 3
    assert smaller[0].out_channels == 2


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"7": [0]}, "no units '7' to remove; there are 0, 3"),
        ({"0": []}, "at least one of 0 to 7"),
        ({"0": [8]}, "at least one of 0 to 7"),
    ],
)
def test_what_cannot_be_kept_is_told(keep: dict[str, list[int]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        remove_units(network(), image(), keep)


def test_removal_is_what_zeroed_columns_of_the_readers_are() -> None:
    large = network().double()
    smaller = remove_units(large, image().double(), {"0": [1, 4], "3": [0, 5]})
    zeroed = network().double()
    with torch.no_grad():
        for channel in (0, 2, 3, 5, 6, 7):
            zeroed[3].weight[:, 4 * channel : 4 * channel + 4] = 0
        zeroed[5].weight[:, 1:5] = 0
    assert torch.allclose(smaller(image().double()), zeroed(image().double()), rtol=0, atol=1e-12)


def test_removal_from_lstm_is_what_zeroed_columns_of_its_state_are() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0])

    torch.manual_seed(0)
    large, x = Last().double(), torch.randn(2, 7, 3).double()
    smaller = remove_units(large, x, {"rnn.l0": [0, 3, 4]})
    with torch.no_grad():
        large.rnn.weight_hh_l0[:, 1:3] = 0
        large.head.weight[:, 1:3] = 0
    assert smaller.rnn.hidden_size == 3
    assert torch.allclose(smaller(x), large(x), rtol=0, atol=1e-12)


def test_wrong_slices_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = slicing.Removal.slice

    def wrong(self: slicing.Removal, tensor: Tensor, axis: int, labels: Tensor) -> Tensor:
        return right(self, tensor.flip(axis) if axis == 1 else tensor, axis, labels)

    monkeypatch.setattr(slicing.Removal, "slice", wrong)
    with pytest.raises(ModelError, match=r"answers otherwise than the masked one .*relative error"):
        remove_units(network(), image(), {"0": [0, 1, 2]})


def test_sizes_left_as_they_were_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3), nn.Linear(32, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).view(-1, 32))

    assert remove_units(Viewed(), image(), {"a": [0, 2]})(image()).shape == (2, 2)
    monkeypatch.setattr(rewrite._Adjusting, "_adjust", lambda *_: None)
    with pytest.raises(ModelError, match="the smaller network does not run"):
        remove_units(Viewed(), image(), {"a": [0, 2]})


def test_the_network_given_is_not_changed() -> None:
    large = network().train()
    before = {name: value.clone() for name, value in large.state_dict().items()}
    state = torch.get_rng_state()
    smaller = remove_units(large, image(), {"0": [0]})
    assert smaller.training
    assert large.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in large.state_dict().items())


def test_masks_for_each_sample_are_those_for_all_one_by_one() -> None:
    class Sense(nn.Module):
        def __init__(self, kind: type[nn.RNNBase]) -> None:
            super().__init__()
            self.a = nn.Conv1d(3, 4, 3, padding=1)
            self.rnn = kind(4, 5, num_layers=2, bidirectional=True, batch_first=True)
            self.head = nn.Linear(10, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(self.a(x).transpose(1, 2))[0])

    torch.manual_seed(0)
    x = torch.randn(2, 3, 6).double()
    for kind in (nn.LSTM, nn.GRU, nn.RNN):
        network = Sense(kind).double()
        model = masked(network, x)
        assert torch.equal(model(x), network(x))
        masks = {
            group.name: torch.bernoulli(torch.full((2, group.size), 0.6)).double()
            for group in model.units.groups
        }
        model.set_masks(masks)
        together = model(x)
        for sample in range(2):
            model.set_masks({name: mask[sample] for name, mask in masks.items()})
            assert torch.allclose(model(x[sample : sample + 1])[0], together[sample])


def test_masks_that_do_not_fit_are_told() -> None:
    model = masked(network(), image())
    with pytest.raises(ModelError, match="no units 'x' to mask"):
        model.set_masks({"x": torch.ones(3)})
    with pytest.raises(ModelError, match=r"mask of shape \(3,\) does not fit the 8 units of '0'"):
        model.set_masks({"0": torch.ones(3)})
    model.set_masks({"0": torch.ones(3, 8)})
    with pytest.raises(ModelError, match="masks for 3 samples do not fit 2 rows"):
        model(image())


def test_gradients_reach_masks_and_weights_of_the_copy() -> None:
    model = masked(network(), image())
    mask = torch.ones(2, 8, requires_grad=True)
    model.set_masks({"0": mask})
    model(image()).sum().backward()
    assert mask.grad is not None
    assert bool((mask.grad != 0).any())
    assert model.network[0].weight.grad is not None
