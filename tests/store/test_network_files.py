"""A network comes back from its file as it was, and a file runs nothing of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from narrows.coding.coders import Ans, Huffman
from narrows.compress import find_units, remove_units
from narrows.errors import CorruptData, InputError, ModelError
from narrows.packed import PackedFile, pack
from narrows.store import load_network, pack_network, save_network
from narrows.zoo.families import FAMILIES
from narrows.zoo.lenet import lenet5


class Mixed(nn.Module):  # type: ignore[misc]
    """Functions, methods, a parameter and a buffer of its own, slices, a two-way LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.scale = nn.Parameter(torch.rand(8, 1))
        self.register_buffer("shift", torch.rand(8, 1))
        self.rnn = nn.LSTM(8, 6, batch_first=True, bidirectional=True)
        self.out = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm(self.conv(x))) * self.scale + self.shift
        y, (last, _) = self.rnn(y[..., 1:].permute(0, 2, 1))
        return self.out(torch.cat([y.mean(1), last[0]], dim=1)[:, :12]).softmax(-1)


class Attending(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 4, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.wide = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.wide(x)
        return self.norm(x + self.attention(x, x, x)[0]).mean(1)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lenet5": (lenet5, (2, 1, 28, 28)),
    "mixed": (Mixed, (2, 3, 9)),
    "attending": (Attending, (2, 5, 8)),
    "resnet18": (torchvision.models.resnet18, (2, 3, 64, 64)),
    "mobilenet_v3": (torchvision.models.mobilenet_v3_small, (2, 3, 64, 64)),
    "shufflenet": (torchvision.models.shufflenet_v2_x0_5, (2, 3, 64, 64)),
    "norms with activations": (FAMILIES["cifar_mobilenet_v1"].build, (2, 3, 32, 32)),
    "convolutions that pad": (lambda: timm.create_model("tf_efficientnet_lite0"), (2, 3, 64, 49)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_answers_as_before_whole_and_pruned(name: str, tmp_path: Path) -> None:
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    model, x = build().eval(), torch.randn(shape)
    units = find_units(model, x[:1])
    keep = {g.name: list(range(0, g.size, 2)) for g in units.groups if not g.needed}
    for number, network in enumerate((model, remove_units(model, x[:1], keep).eval())):
        path = tmp_path / f"{number}.narrows"
        save_network(network, path)
        again = load_network(path)
        assert torch.equal(again(x), network(x))
        save_network(again, tmp_path / "again.narrows")
        assert (tmp_path / "again.narrows").read_bytes() == path.read_bytes()


def test_recurrent_layers_of_unequal_size_are_kept(tmp_path: Path) -> None:
    model, x = Mixed().eval(), torch.randn(2, 3, 9)
    keep = {"rnn.l0": [0, 2], "rnn.l0_reverse": [1, 2, 5], "conv": [0, 2]}
    smaller = remove_units(model, x[:1], keep).eval()
    save_network(smaller, tmp_path / "net")
    assert torch.equal(load_network(tmp_path / "net")(x), smaller(x))


def rewritten(path: Path, change: Callable[[dict[str, object]], None]) -> Path:
    file = PackedFile.open(path)
    structure = file.container.header["structure"]
    change(structure)
    tensors = {name: file.tensor(name) for name in file.names}
    path.write_bytes(pack(tensors, kind="network", extra={"structure": structure}))
    return path


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["evil", "call_function", "os.system", ["true"], {}], "list of functions"),
        (["evil", "call_function", "builtins.eval", ["1"], {}], "list of functions"),
        (
            ["evil", "call_function", "getattr", [{"node": "input_1"}, "__class__"], {}],
            "expected one",
        ),
        (["evil", "call_method", "__reduce__", [{"node": "input_1"}], {}], "list"),
        (["evil", "import", "os", [], {}], "expected one"),
    ],
)
def test_a_hostile_structure_calls_nothing(tmp_path: Path, call: list[object], words: str) -> None:
    save_network(nn.Sequential(nn.Linear(3, 2)), tmp_path / "net")
    path = rewritten(tmp_path / "net", lambda s: s["calls"].insert(1, call))  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=words):
        load_network(path)


_LIST: list[object] = []
for _ in range(300):
    _LIST = [_LIST]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"placeholder": "input=print('injected')"}, "no name of a call"),
        ({"placeholder": "in put"}, "no name of a call"),
        ({"placeholder": "lambda"}, "no name of a call"),
        ({"keyword": "out=print('injected'), y"}, "no name of a call"),
        ({"layer": "y\" if print('injected') else \"y"}, "no name of a layer"),
        ({"argument": _LIST}, "no structure of a network"),
        ({"type": "LSTM", "input_size": 1, "hidden_size": 1, "num_layers": 20000}, "more layers"),
        ({"type": "Linear", "in_features": 10**6, "out_features": 10**6}, "no structure|size"),
        ({"type": "MultiheadAttention", "embed_dim": 3, "num_heads": 2}, "cannot be made"),
        ({"type": "GroupNorm", "num_groups": 0, "num_channels": 4}, "cannot be made"),
        ({"type": "Hardtanh", "min_val": 4, "max_val": 2}, "cannot be made"),
    ],
    ids=str,
)
def test_a_hostile_structure_runs_and_allocates_nothing(
    part: dict[str, object], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = PackedFile.open(pack_network(nn.Sequential(nn.Linear(3, 2))))
    structure = file.container.header["structure"]
    first, call, answer = structure["calls"]
    if "type" in part:
        kind = part.pop("type")
        structure["layers"]["0"] = {"type": kind, "settings": part}
    elif "layer" in part:
        structure["layers"][part["layer"]] = structure["layers"].pop("0")
        call[2] = part["layer"]
    elif "placeholder" in part:
        first[2] = part["placeholder"]
    elif "keyword" in part:
        call[4] = {part["keyword"]: 1}
    else:
        answer[3] = part["argument"]
    tensors = {name: file.tensor(name) for name in file.names}
    began = time.monotonic()
    with pytest.raises(ModelError, match=words):
        load_network(pack(tensors, kind="network", extra={"structure": structure}))
    assert time.monotonic() - began < 20
    assert not capsys.readouterr().out


def test_a_layer_that_is_not_listed_is_not_made(tmp_path: Path) -> None:
    save_network(nn.Sequential(nn.Linear(3, 2)), tmp_path / "net")

    def change(structure: dict[str, object]) -> None:
        structure["layers"]["0"]["type"] = "Module"  # type: ignore[index]

    with pytest.raises(ModelError, match="cannot be made"):
        load_network(rewritten(tmp_path / "net", change))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_another_network(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("net") / "net"
    save_network(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with contextlib.suppress(CorruptData):
        load_network(path)


def test_what_cannot_be_stored_is_named(tmp_path: Path) -> None:
    class Own(nn.Module):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.rfft(x).abs()

    with pytest.raises(ModelError, match="fft_rfft"):
        save_network(Own(), tmp_path / "net")
    with pytest.raises(ModelError, match="Transformer"):
        save_network(nn.Sequential(nn.TransformerEncoderLayer(8, 2)), tmp_path / "net")
    assert not (tmp_path / "net").exists()
    with pytest.raises(ModelError, match=r"'0.weight' is torch.bfloat16.*cast it"):
        save_network(nn.Sequential(nn.Linear(3, 2)).bfloat16(), tmp_path / "net")
    assert not (tmp_path / "net").exists()
    with pytest.raises(InputError, match="net"):
        load_network(tmp_path / "net")
    with pytest.raises(CorruptData, match=r"holds tensors, no network: give a file of"):
        load_network(pack({"a": np.zeros(1)}))
    with pytest.raises(ModelError, match="no structure of a network"):
        load_network(pack({"a": np.zeros(1)}, kind="network"))


def test_weights_on_few_values_and_zeros_take_few_bits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = lenet5().eval(), torch.randn(2, 1, 28, 28)
    save_network(model, tmp_path / "floats.narrows")
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim > 1:
                value.copy_((value / value.std()).round() * value.std())
                value[torch.rand_like(value) < 0.9] = 0
    for coder in (Huffman(), Ans(), None):
        save_network(model, tmp_path / "net.narrows", coder=coder)
        assert torch.equal(load_network(tmp_path / "net.narrows")(x), model(x))
        size = (tmp_path / "net.narrows").stat().st_size
        assert size < (tmp_path / "floats.narrows").stat().st_size / 30
