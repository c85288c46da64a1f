"""Units of one pattern after another are removed, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from narrows.compress.removal import remove_units
from narrows.compress.units import Units, find_units

H = 6


class Net(nn.Module):
    """Layers by name and a forward written as a function of them."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def conv(inputs: int, outputs: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups)


def residual() -> nn.Module:
    def forward(m, x):
        y = functional.relu(m.bn(m.a(x)))
        return m.head((y + m.c(torch.relu(m.b(y)))).mean((2, 3)))

    return Net(
        forward,
        a=conv(3, 8),
        bn=nn.BatchNorm2d(8),
        b=conv(8, 6),
        c=conv(6, 8),
        head=nn.Linear(8, 4),
    )


def concatenation() -> nn.Module:
    def forward(m, x):
        both = torch.cat([m.a(x), m.b(x)], 1)
        return m.head(functional.max_pool2d(torch.relu(m.c(m.bn(both))), 2).flatten(1))

    return Net(
        forward, a=conv(3, 4), b=conv(3, 6), bn=nn.BatchNorm2d(10), c=conv(10, 5),
        head=nn.Linear(5 * 9, 4),
    )  # fmt: skip


def depthwise(multiplier: int) -> nn.Module:
    made = 8 * multiplier
    return nn.Sequential(
        conv(3, 8), nn.BatchNorm2d(8), nn.ReLU6(), conv(8, made, groups=8), nn.BatchNorm2d(made),
        nn.Hardswish(), conv(made, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


def grouped(groups: int) -> nn.Module:
    return nn.Sequential(
        conv(3, 16), nn.ReLU(), conv(16, 32, groups), nn.BatchNorm2d(32), nn.ReLU(), conv(32, 8),
        nn.Flatten(), nn.Linear(8 * H * H, 3),
    )  # fmt: skip


def shuffled() -> nn.Module:
    def shuffle(x):
        n, c, h, w = x.size()
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)

    def forward(m, x):
        x = m.stem(x)
        left, right = x.chunk(2, dim=1)
        x = shuffle(torch.cat([left, torch.relu(m.b(m.a(right)))], 1))
        return m.head(torch.relu(m.c(x)).mean([2, 3]))

    return Net(
        forward, stem=conv(3, 16), a=conv(8, 8), b=conv(8, 8), c=conv(16, 6), head=nn.Linear(6, 3)
    )


def squeeze_excite() -> nn.Module:
    def forward(m, x):
        y = functional.silu(m.a(x))
        gate = torch.sigmoid(m.up(torch.relu(m.down(functional.adaptive_avg_pool2d(y, 1)))))
        return m.head(torch.flatten(m.b(y * gate), 1))

    return Net(
        forward, a=conv(3, 8), down=nn.Conv2d(8, 4, 1), up=nn.Conv2d(4, 8, 1), b=conv(8, 4),
        head=nn.Linear(4 * H * H, 3),
    )  # fmt: skip


def sense(kind: type[nn.RNNBase], **options: object) -> nn.Module:
    """Convolution, permute, reshape, recurrent: DeepSense's pattern."""

    def forward(m, x):
        y = torch.relu(m.b(m.a(x))).permute(0, 3, 1, 2)
        states, _ = m.rnn(y.reshape(y.size(0), y.size(1), -1))
        return m.head(states.mean(1))

    width = 10 if options.get("bidirectional") else 5
    return Net(
        forward, a=conv(3, 4), b=nn.BatchNorm2d(4),
        rnn=kind(4 * H, 5, batch_first=True, **options), head=nn.Linear(width, 3),
    )  # fmt: skip


def channels_last() -> nn.Module:
    return Net(
        lambda m, x: m.head(torch.relu(m.a(x)).permute(0, 2, 3, 1).reshape(x.size(0), -1)),
        a=conv(3, 8), head=nn.Linear(8 * H * H, 3),
    )  # fmt: skip


def states(kind: type[nn.RNNBase]) -> nn.Module:
    """The states a bidirectional stack ends in, taken one by one; time comes first."""

    def forward(m, x):
        _, last = m.rnn(torch.tanh(m.a(x)).flatten(2).permute(2, 0, 1))
        last = last[0] if kind is nn.LSTM else last
        return m.head(torch.cat([last[-2], last[-1]], 1))

    rnn = kind(4, 5, num_layers=2, bidirectional=True)
    return Net(forward, a=conv(3, 4), rnn=rnn, head=nn.Linear(10, 3))


def states_as_array() -> nn.Module:
    def forward(m, x):
        _, last = m.rnn(m.a(x).flatten(2).permute(0, 2, 1))
        return m.head(last.permute(1, 0, 2).reshape(x.size(0), -1))

    rnn = nn.GRU(4, 6, num_layers=2, batch_first=True)
    return Net(forward, a=conv(3, 4), rnn=rnn, head=nn.Linear(12, 3))


class Attention(nn.Module):
    """A transformer block with a hard-coded reshape, and with learnt positions."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 2, 2)
        self.start = nn.Parameter(torch.randn(1, 1, 16))
        self.places = nn.Parameter(torch.randn(1, 10, 16))
        self.before, self.after = nn.LayerNorm(16), nn.LayerNorm(16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.mha = nn.MultiheadAttention(16, 4, batch_first=True)
        self.up, self.down, self.head = nn.Linear(16, 24), nn.Linear(24, 16), nn.Linear(16, 3)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.start.expand(x.shape[0], -1, -1), x], 1) + self.places
        x = x + self.attend(self.before(x))
        x = x + self.down(functional.gelu(self.up(self.after(x))))
        return self.head(x[:, 0])

    def attend(self, x: Tensor) -> Tensor:
        if self.kind == "module":
            return self.mha(x, x, x, need_weights=False)[0]
        n, length, width = x.shape
        qkv = self.qkv(x).reshape(n, length, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.kind == "function":
            mixed = functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = ((q * 4**-0.5) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(n, length, 16))


def shared() -> nn.Module:
    return Net(
        lambda m, x: m.head(m.b(torch.relu(m.b(torch.relu(m.a(x))))).mean((2, 3))),
        a=conv(3, 8), b=conv(8, 8), head=nn.Linear(8, 3),
    )  # fmt: skip


def normed(groups: int) -> nn.Module:
    return nn.Sequential(
        conv(3, 12), nn.GroupNorm(groups, 12), nn.ReLU(), conv(12, 6), nn.InstanceNorm2d(6),
        nn.Flatten(), nn.Linear(6 * H * H, 3),
    )  # fmt: skip


def transposed() -> nn.Module:
    return nn.Sequential(
        conv(3, 8), nn.PReLU(8), nn.ConvTranspose2d(8, 6, 2, 2), nn.PReLU(),
        nn.ConvTranspose2d(6, 6, 2, groups=6), nn.ConvTranspose2d(6, 4, 2, groups=2), nn.Sigmoid(),
        conv(4, 3),
    )  # fmt: skip


def rearranged() -> nn.Module:
    """Pixel shuffle, slices and a padded, rolled and flattened array of fixed size."""

    def forward(m, x):
        y = functional.pad(functional.pixel_shuffle(m.a(x), 2), (1, 1))
        y = torch.relu(m.b(y)).roll(1, 3)
        first, rest = y[:, :3], y[:, 3:]
        return m.head(torch.cat([rest, first * 0.5], 1).reshape(-1, 8 * 12 * 14))

    return Net(forward, a=conv(3, 20), b=conv(5, 8), head=nn.Linear(8 * 12 * 14, 3))


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "residual": residual,
    "concatenation": concatenation,
    "depthwise, multiplier 1": lambda: depthwise(1),
    "depthwise, multiplier 2": lambda: depthwise(2),
    "4 groups": lambda: grouped(4),
    "8 groups": lambda: grouped(8),
    "shuffled": shuffled,
    "squeeze and excite": squeeze_excite,
    "reshape to LSTM": lambda: sense(nn.LSTM),
    "reshape to GRU": lambda: sense(nn.GRU),
    "reshape to RNN": lambda: sense(nn.RNN),
    "LSTM, stacked": lambda: sense(nn.LSTM, num_layers=3),
    "GRU, two directions": lambda: sense(nn.GRU, bidirectional=True),
    "RNN, stacked, two directions": lambda: sense(
        nn.RNN, num_layers=2, bidirectional=True, nonlinearity="relu"
    ),
    "LSTM without bias": lambda: sense(nn.LSTM, bias=False, num_layers=2, bidirectional=True),
    "states of an LSTM": lambda: states(nn.LSTM),
    "states of a GRU": lambda: states(nn.GRU),
    "states as one array": states_as_array,
    "attention, module": lambda: Attention("module"),
    "attention, function": lambda: Attention("function"),
    "attention, products": lambda: Attention("products"),
    "shared layer": shared,
    "group norm, 2 groups": lambda: normed(2),
    "group norm, 6 groups": lambda: normed(6),
    "transposed": transposed,
    "rearranged": rearranged,
    "channels last to linear": channels_last,
    "one dimension, flattened": lambda: nn.Sequential(
        nn.Flatten(2), nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.Flatten(), nn.Linear(8 * 34, 3)
    ),
}


def example() -> Tensor:
    return torch.randn(1, 3, H, H, generator=torch.Generator().manual_seed(1))


def drawn(units: Units, seed: int) -> dict[str, list[int]]:
    """Which units stay: at most three quarters of each group."""
    generator = torch.Generator().manual_seed(seed)
    keep = {}
    for group in units.groups:
        most = max(1, 3 * group.size // 4)
        count = int(torch.randint(1, most + 1, (), generator=generator))
        stays = set(torch.randperm(group.size, generator=generator)[:count].tolist())
        stays |= {each[0] for each in group.needed if not stays & set(each)}
        keep[group.name] = sorted(stays)
    return keep


@pytest.mark.parametrize("name", NETWORKS)
def test_smaller_network_answers_as_the_masked_one(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    units = find_units(network, example())
    assert units.groups
    assert all(reason == "the network answers with them" for reason in units.refused.values()), (
        units.refused
    )
    before = sum(parameter.numel() for parameter in network.parameters())
    for seed in range(3):
        smaller = remove_units(network, example(), drawn(units, seed))
        assert sum(parameter.numel() for parameter in smaller.parameters()) < before
        assert smaller(example()).shape == network(example()).shape


def test_groups_of_patterns_are_as_large_as_they_can_be() -> None:
    torch.manual_seed(0)
    found = {name: find_units(make(), example()).groups for name, make in NETWORKS.items()}
    sizes = {name: [(one.name, one.size, one.kind) for one in found[name]] for name in found}
    assert sizes["residual"] == [("a", 8, "channels"), ("b", 6, "channels")]
    assert sizes["depthwise, multiplier 2"][0] == ("0", 8, "channels")
    assert sizes["4 groups"][:2] == [("0", 4, "channels"), ("2", 8, "channels")]
    assert sizes["8 groups"][0] == ("0", 8, "channels")
    assert sizes["RNN, stacked, two directions"][1:] == [
        (f"rnn.{run}", 5, "recurrent") for run in ("l0", "l0_reverse", "l1", "l1_reverse")
    ]
    assert sizes["states as one array"][1:] == [("rnn.l0", 6, "recurrent")]
    assert ("mha.heads", 4, "heads") in sizes["attention, module"]
    assert ("qkv", 4, "heads") in sizes["attention, function"]
    assert ("qkv", 4, "heads") in sizes["attention, products"]
    assert ("embed", 16, "channels") in sizes["attention, module"]
