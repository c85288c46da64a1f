"""The reduced families are the originals' structure at a width, and are named like any network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from narrows.errors import InputError, ModelError
from narrows.graph import load
from narrows.graph.cost import total_macs
from narrows.zoo import preset, resolve
from narrows.zoo.cifar import PREPROCESS
from narrows.zoo.families import FAMILIES

# Parameters and millions of multiply-adds, counted by hooks on the layers of the torch network.
SIZES = {
    "cifar_mobilenet_v1": (470_882, 6.901),
    "cifar_mobilenet_v2": (305_770, 3.863),
    "cifar_vgg16": (940_698, 19.924),
    "cifar_inception_v1": (355_138, 7.482),
    "cifar_inception_v3": (775_126, 5.791),
    "cifar_resnet50": (375_762, 5.286),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NARROWS_CACHE", str(tmp_path / "cache"))


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]


def kinds(network: nn.Module) -> list[tuple[object, ...]]:
    return [(c.kernel_size, c.groups == 1) for c in convolutions(network)]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_has_the_size_stated_and_answers_ten_classes(name: str) -> None:
    network = FAMILIES[name].build().eval()
    macs = 0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        macs += output[0].numel() * layer.weight[0].numel()

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    parameters = sum(p.numel() for p in network.parameters())
    assert (parameters, round(macs / 1e6, 3)) == SIZES[name]


@pytest.mark.parametrize(
    ("name", "original", "changed"),
    [
        ("cifar_mobilenet_v2", "mobilenet_v2", 0),
        ("cifar_vgg16", "vgg16_bn", 0),
        ("cifar_inception_v1", "googlenet", 1),
        ("cifar_inception_v3", "inception_v3", 0),
        ("cifar_resnet50", "resnet50", 1),
    ],
)
def test_layers_are_the_originals_with_the_width_for_channels(
    name: str, original: str, changed: int
) -> None:
    options = {"aux_logits": False} if original in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        whole = (
            torchvision.models.get_model(original, init_weights=False, **options)
            if (options)
            else torchvision.models.get_model(original)
        )
    own = FAMILIES[name].build()
    assert kinds(own)[changed:] == kinds(whole)[changed:]
    if name != "cifar_mobilenet_v2":  # its channels are rounded to multiples of eight
        pairs = zip(convolutions(own), convolutions(whole), strict=True)
        width = FAMILIES[name].width
        assert all(a.out_channels == width * b.out_channels for a, b in pairs)


def test_weights_belong_to_a_seed_and_the_caller_keeps_its_random_numbers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first, again, other = (FAMILIES["cifar_vgg16"].build(seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(2), expected)
    weights = [next(network.parameters()) for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_stored_weights_are_found_by_file_or_folder_and_become_onnx(tmp_path: Path) -> None:
    network = FAMILIES["cifar_vgg16"].build(seed=3).eval()
    file = tmp_path / "cifar_vgg16.safetensors"
    save_file(network.state_dict(), file)
    x = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    for stated in (file, tmp_path):
        path = resolve(f"zoo:cifar_vgg16?weights={stated}")
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        found = session.run(None, {"input": x})[0]
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    assert total_macs(load(path)) == pytest.approx(19.924e6, rel=1e-3)
    assert preset("zoo:cifar_vgg16") == PREPROCESS
    # Other weights under the same name are not taken from the cache.
    save_file(FAMILIES["cifar_vgg16"].build(seed=4).state_dict(), file)
    assert resolve(f"zoo:cifar_vgg16?weights={file}") != path


def test_random_weights_are_given_where_asked_for() -> None:
    assert resolve("zoo:cifar_resnet50?pretrained=0") != resolve(
        "zoo:cifar_resnet50?pretrained=0&seed=1"
    )


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("zoo:cifar_vgg16", ModelError, r"comes without weights: give \?weights=FILE"),
        ("zoo:cifar_vgg16?weights=nowhere", InputError, "no weights of cifar_vgg16 at nowhere"),
        ("zoo:cifar_vgg16?pretrained=0&size=64", InputError, "inputs of 3 × 32 × 32"),
        ("zoo:efficientnet_lite0?weights=a", InputError, "has weights of its own"),
        ("timm:resnet18?weights=a.safetensors", InputError, "only networks of the zoo"),
        ("zoo:cifar_vgg", ModelError, "no network 'cifar_vgg' in the zoo: .*cifar_vgg16"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_told(
    model: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        resolve(model)


def test_weights_of_another_network_and_damaged_ones_are_told(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(2)}, file)
    with pytest.raises(ModelError, match=r"weights of another network: .*Missing key"):
        resolve(f"zoo:cifar_vgg16?weights={file}")
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ModelError, match="cannot be read"):
        FAMILIES["cifar_vgg16"].build(weights=file)


def test_a_family_can_be_had_at_another_width() -> None:
    wide = replace(FAMILIES["cifar_vgg16"], width=0.5).build()
    assert convolutions(wide)[0].out_channels == 32
