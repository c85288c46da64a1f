"""A network of bits answers what torch answers: every sign, and scores up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from narrows.binary import load_binary, save_binary, unpack_signs
from narrows.compress import BinaryActivation, ShiftBatchNorm, binary_network
from narrows.compress.binary_export import _thresholds
from narrows.errors import ModelError

Norm = Callable[[int], nn.Module]


def fold(norm: nn.Module, most: int, axes: int = 2) -> np.ndarray:
    """What the integer threshold answers for every sum: (sums, features)."""
    features = norm.num_features
    threshold, flip = _thresholds("norm", norm, axes, features, 1.0, most)
    return (np.arange(-most, most + 1)[:, None] >= threshold) != flip


def evaluated(norm: nn.Module, most: int, layout: str) -> np.ndarray:
    """The sign of every sum as torch gives it to batches, of which it has several ways."""
    sums = torch.arange(-most, most + 1, dtype=torch.float32)
    x = sums[:, None].repeat(1, norm.num_features)
    if layout != "rows":
        x = x[:, :, None, None].repeat(1, 1, 3, 2)
    if layout == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        return (norm(x) >= 0).reshape(len(x), norm.num_features, -1)[:, :, -1].numpy()


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 7, 300, 4608]),
    st.sampled_from(["rows", "pictures", "channels last"]),
    st.booleans(),
)
def test_a_threshold_is_normalisation_and_sign_for_every_sum(
    seed: int, most: int, layout: str, shifts: bool
) -> None:
    random = np.random.default_rng(seed)
    plain = nn.BatchNorm1d if layout == "rows" else nn.BatchNorm2d
    norm = (ShiftBatchNorm if shifts else plain)(40).eval()
    gamma = random.normal(size=40) * 10.0 ** random.integers(-6, 3, 40)
    gamma[:4] = 0.0
    beta = np.where(random.random(40) < 0.2, 0.0, random.normal(size=40))
    values = {
        "weight": gamma,
        "bias": beta,
        "running_mean": np.where(
            random.random(40) < 0.5, random.integers(-most, most + 1, 40), random.normal(size=40)
        ),
        "running_var": 10.0 ** random.uniform(-4, 4, 40),
        "running_inverse_std": 10.0 ** random.uniform(-4, 4, 40),
    }
    with torch.no_grad():
        for name, value in values.items():
            if hasattr(norm, name):
                getattr(norm, name).copy_(torch.tensor(value))
    axes = 2 if layout == "rows" else 4
    assert (fold(norm, most, axes) == evaluated(norm, most, layout)).all()


def test_a_tie_is_plus_one_whichever_way_the_order_goes() -> None:
    norm = nn.BatchNorm1d(4).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -1.0, 0.0, 0.0]))
        norm.bias.copy_(torch.tensor([0.0, 0.0, 0.0, -1.0]))
        norm.running_mean.fill_(3.0)
    up = fold(norm, 5)
    assert up[:, 0].tolist() == [sum_ >= 3 for sum_ in range(-5, 6)]
    assert up[:, 1].tolist() == [sum_ <= 3 for sum_ in range(-5, 6)]
    assert up[:, 2].all()
    assert not up[:, 3].any()


def randomised(model: nn.Module, seed: int) -> nn.Module:
    """Signs for weights, factors of both signs and none, means among the sums."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.where(normal(parameter) >= 0, 1.0, -1.0))
        for norm in model.modules():
            if isinstance(norm, ShiftBatchNorm | nn.BatchNorm1d | nn.BatchNorm2d):
                norm.weight.copy_(normal(norm.weight))
                norm.weight[::7] = 0.0
                norm.bias.copy_(0.5 * normal(norm.bias))
                norm.running_mean.copy_((5 * normal(norm.bias)).round())
                if isinstance(norm, ShiftBatchNorm):
                    norm.running_inverse_std.copy_(normal(norm.bias).abs() / 8)
                else:
                    norm.running_var.copy_(100 * normal(norm.bias).square())
    return model.eval()


def pictures(norm: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 20, 3, padding=1, bias=False), norm(20), BinaryActivation()),
        *(nn.Conv2d(20, 65, 3, padding=1, bias=False), nn.MaxPool2d(2), norm(65)),
        *(BinaryActivation(), nn.Dropout(0.5)),
        nn.Conv2d(65, 33, (3, 2), stride=(1, 2), padding=(2, 0), bias=False),
        *(nn.MaxPool2d((3, 2), stride=(2, 1)), norm(33), BinaryActivation(), nn.Flatten()),
        *(nn.Linear(33 * 2, 70, bias=False), _flat(norm)(70), BinaryActivation()),
        *(nn.Linear(70, 10, bias=False), nn.BatchNorm1d(10)),
    )


def _flat(norm: type[nn.Module]) -> type[nn.Module]:
    return ShiftBatchNorm if norm is ShiftBatchNorm else nn.BatchNorm1d


def values() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(48, 130, bias=False), nn.BatchNorm1d(130), BinaryActivation()),
        *(nn.Linear(130, 5, bias=False), nn.BatchNorm1d(5)),
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "pictures": (lambda: pictures(nn.BatchNorm2d), (3, 8, 8)),
    "pictures, shifts": (lambda: pictures(ShiftBatchNorm), (3, 8, 8)),
    "a picture flattened": (values, (3, 4, 4)),
    "values": (values, (48,)),
    "one layer": (lambda: nn.Sequential(nn.Linear(48, 5, bias=False), nn.BatchNorm1d(5)), (48,)),
}


@pytest.mark.parametrize("kernels", ["compiled", "numpy"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_sign_is_torchs_and_scores_are_up_to_rounding(name: str, kernels: str) -> None:
    build, shape = NETWORKS[name]
    for seed in range(3):
        model = randomised(build(), seed)
        bits = np.random.default_rng(seed).integers(0, 256, (30, *shape)).astype(np.uint8)
        seen: list[torch.Tensor] = []
        for layer in model.modules():
            if isinstance(layer, BinaryActivation):
                layer.register_forward_hook(lambda _, __, answer, seen=seen: seen.append(answer))
        with torch.no_grad():
            wanted = model((torch.from_numpy(bits).float() - 128) / 128).numpy()
        run = binary_network(model, shape, scale=1 / 128, zero=128).ready(kernels)
        *signs, scores = run.each(bits)
        for words, torchs in zip(signs, seen, strict=True):
            maps = torchs.reshape(*torchs.shape[:2], *(torchs.shape[2:] or (1, 1)))
            found = unpack_signs(words, maps.shape[1]).transpose(0, 3, 1, 2)
            assert (found == maps.numpy()).all()
        spread = abs(wanted).max()
        assert abs(scores.reshape(wanted.shape) - wanted).max() < 2e-6 * spread
        assert (run(bits).argmax(1) == wanted.argmax(1)).all()


def test_bytes_may_mean_anything() -> None:
    model = randomised(values(), 0)
    bits = np.random.default_rng(0).integers(0, 256, (50, 48)).astype(np.uint8)
    with torch.no_grad():
        wanted = model(torch.from_numpy(bits).float() / 255).numpy()
    found = binary_network(model, (48,), scale=1 / 255).ready("numpy")(bits)
    # Sums of multiples of 1/255 are rounded in torch: a sign in a thousand may differ there.
    assert (abs(found - wanted) < 1e-5).mean() > 0.9


def test_its_file_is_a_bit_for_each_weight(tmp_path: Path) -> None:
    model = randomised(values(), 0)
    made = binary_network(model, (48,), scale=1 / 128, zero=128)
    save_binary(made, tmp_path / "net")
    x = np.random.default_rng(0).integers(0, 256, (9, 48)).astype(np.uint8)
    assert (load_binary(tmp_path / "net").ready("numpy")(x) == made.ready("numpy")(x)).all()
    # Rows are filled up to words: 48 → 64 and 130 → 192 bits.
    assert made.size_bytes == 130 * 8 + 130 * 5 + 5 * 24 + 5 * 8


def conv(**named: object) -> nn.Module:
    return nn.Conv2d(4, 4, 3, bias=False, **named)


def chain(*layers: nn.Module) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        first = (nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), BinaryActivation())
        return nn.Sequential(*first, *layers, nn.BatchNorm2d(4))

    return build


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 3), nn.BatchNorm1d(3)), "has a bias"),
        (chain(conv(groups=2)), "groups, dilation"),
        (chain(conv(dilation=2)), "groups, dilation"),
        (chain(conv(padding="same")), "groups, dilation, or a padding"),
        (chain(conv(padding=1, padding_mode="reflect")), "no number of zeros"),
        (chain(conv(padding=3)), "zeros below its kernel"),
        (chain(conv(), nn.BatchNorm2d(4), nn.ReLU(), conv()), "is a ReLU: expected the signs"),
        (
            chain(
                conv(), nn.MaxPool2d(2, padding=1), nn.BatchNorm2d(4), BinaryActivation(), conv()
            ),
            "expected MaxPool2d without padding",
        ),
        (
            lambda: nn.Sequential(nn.Conv1d(1, 3, 3, bias=False), nn.BatchNorm1d(3)),
            "expected Linear or Conv2d",
        ),
        (
            lambda: nn.Sequential(nn.Linear(12, 12, bias=False), ShiftBatchNorm(12)),
            "layer '0' is linear along the last axis of pictures: put nn.Flatten",
        ),
        (
            chain(nn.Linear(10, 4, bias=False)),
            "layer '3': it is linear along the last axis of pictures",
        ),
        (
            lambda: nn.Sequential(nn.Flatten(), *chain(conv())()),
            "layer '1' is a convolution of flat values",
        ),
    ],
)
def test_what_has_no_binary_form_is_refused(build: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        binary_network(randomised(build(), 0), (1, 12, 12), scale=1 / 128, zero=128)


@pytest.mark.parametrize(
    ("kernel", "layers"),
    [
        (5, lambda: (nn.BatchNorm2d(6), BinaryActivation(), nn.Flatten())),
        (5, lambda: (nn.BatchNorm2d(6), nn.Flatten(), BinaryActivation())),
        (5, lambda: (ShiftBatchNorm(6), nn.Flatten(), nn.Dropout(), BinaryActivation())),
        (8, lambda: (nn.Flatten(), nn.BatchNorm1d(6), BinaryActivation())),
    ],
)
def test_flattening_may_stand_anywhere_before_a_linear_layer(
    kernel: int, layers: Callable[[], tuple[nn.Module, ...]]
) -> None:
    model = nn.Sequential(
        *(nn.Conv2d(2, 6, kernel, bias=False), *layers()),
        *(nn.Linear(6 * (9 - kernel) ** 2, 4, bias=False), nn.BatchNorm1d(4)),
    )
    randomised(model, 0)
    bits = np.random.default_rng(0).integers(0, 256, (20, 2, 8, 8)).astype(np.uint8)
    with torch.no_grad():
        wanted = model((torch.from_numpy(bits).float() - 128) / 128).numpy()
    found = binary_network(model, (2, 8, 8), scale=1 / 128, zero=128).ready("numpy")(bits)
    assert abs(found - wanted).max() < 2e-6 * abs(wanted).max()


def test_numbers_that_are_not_finite_and_inputs_that_are_none_are_refused() -> None:
    model = randomised(values(), 0)
    for shape, scale, zero in (
        *(((3, 4), 1.0, 0), ((48,), 0.0, 0), ((48,), 1.0, 256)),
        *(((48,), np.inf, 0), ((48,), 1.0, 1.5)),
    ):
        with pytest.raises(ModelError, match="expected"):
            binary_network(model, shape, scale=scale, zero=zero)
    with pytest.raises(ModelError, match="reads 48 channels of 40"):
        binary_network(model, (40,), scale=1.0)
    one = randomised(nn.Sequential(nn.Linear(48, 5, bias=False), nn.BatchNorm1d(5)), 0)
    with pytest.raises(ModelError, match="layer '1' gives numbers that are not finite"):
        binary_network(one, (48,), scale=1e300)
    with torch.no_grad():
        one[1].running_mean[3] = torch.inf
    with pytest.raises(ModelError, match="layer '1' gives numbers that are not finite"):
        binary_network(one, (48,), scale=1.0)
    with torch.no_grad():
        model[2].running_mean[3] = torch.inf
    with pytest.raises(ModelError, match="layer '2' gives numbers that are not finite"):
        binary_network(model, (48,), scale=1.0)
