"""Values are rounded where int8 rounds them, and a network that learned so loses less by it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from stopping import same, stop_at
from torch import Tensor, nn
from torch.nn import functional

from narrows.compress import Chain, Int8Aware, MagnitudePruning
from narrows.compress.catalog import method_of
from narrows.compress.int8_network import Int8Weights, RunningRange
from narrows.errors import ConfigError, ModelError
from narrows.graph.ort import run, session
from narrows.graph.quantize import quantize_static
from narrows.graph.quantize_weights import weight_levels
from narrows.graph.quantized import weight_bearing
from narrows.task import array_task
from narrows.train import TrainingTask, TrainSettings, score, train, training_task
from narrows.zoo.export import export

TRAINING = TrainSettings(epochs=3, learning_rate=0.01, schedule="constant", weight_decay=0.0)
METHOD = Int8Aware(training=TRAINING)


def numbers(model: nn.Module, name: str) -> np.ndarray:
    return model.get_parameter(name).detach().numpy()


def naive_levels(weight: np.ndarray) -> np.ndarray:
    """Output by output: the nearest multiple of a 127th of the largest magnitude."""
    made = np.zeros_like(weight)
    for place, row in enumerate(weight):
        step = np.float32(np.abs(row).max() / np.float32(127))
        made[place] = np.rint(row / step) * step if step else row
    return made


def test_weights_are_rounded_as_the_int8_file_rounds_them() -> None:
    random = np.random.default_rng(0)
    for shape in ((6, 4), (5, 3, 3, 3), (8, 1, 5, 5)):
        weight = random.normal(size=shape).astype(np.float32)
        weight[1] = 0
        found = Int8Weights()(torch.from_numpy(weight)).numpy()
        levels, steps = weight_levels(weight, axis=0)
        spread = steps.reshape(-1, *[1] * (len(shape) - 1))
        assert found == pytest.approx(levels * spread, rel=1e-6)
        assert found == pytest.approx(naive_levels(weight), rel=1e-6)
        again = Int8Weights()(torch.from_numpy(found)).numpy()
        assert again == pytest.approx(found, rel=1e-6)


def test_gradients_of_weights_go_straight_through() -> None:
    weight = torch.randn(4, 5, requires_grad=True)
    gradient = torch.randn(4, 5)
    (Int8Weights()(weight) * gradient).sum().backward()
    assert torch.equal(weight.grad, gradient)


def test_ranges_follow_what_passes_and_hold_zero() -> None:
    follow = RunningRange(0.25)
    x = torch.tensor([1.0, 3.0])
    assert torch.equal(follow.eval()(x), x)
    follow.train()(x)
    assert (float(follow.low), float(follow.high)) == (0.0, 3.0)
    follow(torch.tensor([-4.0, 1.0]))
    assert (float(follow.low), float(follow.high)) == (-1.0, 2.5)
    follow.eval()(torch.tensor([100.0]))
    assert (float(follow.low), float(follow.high)) == (-1.0, 2.5)


def test_activations_become_levels_and_gradients_end_beyond_them() -> None:
    follow = RunningRange(1.0)
    follow.train()(torch.tensor([-1.0, 2.0]))
    x = torch.linspace(-2, 3, 1001, requires_grad=True)
    found = follow.eval()(x)
    step = np.float32(3 / 255)
    zero = np.rint(1 / step)
    expected = (np.clip(np.rint(x.detach().numpy() / step) + zero, 0, 255) - zero) * step
    assert found.detach().numpy() == pytest.approx(expected, abs=1e-6)
    assert len(found.detach().unique()) == 256
    assert float(follow(torch.zeros(1))) == 0
    found.sum().backward()
    inside = (x.detach() >= -1 - step / 2) & (x.detach() <= 2 + step / 2)
    assert torch.equal(x.grad != 0, inside)


class Net(nn.Module):
    """A branch, folded and free activations, pooling, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8)
        self.pool, self.mean = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2)
        self.drop, self.hidden, self.head = nn.Dropout(0.1), nn.Linear(32, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        first = functional.relu6(self.norm1(self.conv1(x)))
        both = functional.relu(first + self.norm2(self.conv2(first)))
        flat = torch.flatten(self.mean(self.pool(both)), 1)
        return self.head(torch.sigmoid(self.hidden(self.drop(flat))))


@pytest.fixture(scope="module")
def bars() -> TrainingTask:
    """Where a bright bar stands in pictures of 8 × 8, learned."""
    random = np.random.default_rng(0)
    y = np.arange(400) % 4
    x = random.normal(size=(400, 1, 8, 8)).astype(np.float32) * 0.8
    x[np.arange(400), 0, :, 2 * y] += 1
    torch.manual_seed(1)
    task = training_task(array_task("bars", x, y), Net(), batch_size=20, seed=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = train(task, TrainSettings(epochs=15, learning_rate=0.1), device="cpu").model
    torch.set_num_threads(threads)
    return replace(task, model=model)


def test_the_places_are_those_of_the_int8_file(bars: TrainingTask) -> None:
    network = METHOD.network(bars.model)
    assert list(network.ranges) == [
        *("x", "relu6", "norm2", "relu", "mean", "hidden", "sigmoid", "head")
    ]
    x = next(iter(bars.fit.batches(0)))[0]
    network.train()(x)
    int8 = quantize_static(export(bars.model, (1, 8, 8)), [x.numpy()])
    rounds = [node for node in int8.graph.node if node.op_type == "QuantizeLinear"]
    # The file rounds what was rounded once more after a maximum and after flattening.
    assert len(rounds) == len(network.ranges) + 2
    held = {n.name: onnx.numpy_helper.to_array(n) for n in int8.graph.initializer}
    steps = {node.input[0]: float(held[node.input[1]]) for node in rounds}
    for ours, theirs in (
        ("x", "input"),
        ("relu6", "clip"),
        ("norm2", "norm2"),
        ("hidden", "hidden"),
    ):
        spread = network.ranges[ours]
        assert float(spread.high - spread.low) / 255 == pytest.approx(steps[theirs], rel=0.6)


def test_it_answers_as_the_int8_file_does(bars: TrainingTask) -> None:
    network = METHOD.network(bars.model)
    network.train()
    batches = [x for x, _ in bars.fit.batches(0)]
    for x in batches:
        network(x)
    network.eval()
    int8 = session(quantize_static(export(bars.model, (1, 8, 8)), [x.numpy() for x in batches]))
    with torch.no_grad():
        ours, plain = network(x).numpy(), bars.model(x).numpy()
    (theirs,) = run(int8, {"input": x.numpy()})
    assert np.abs(ours - theirs).mean() < np.abs(plain - theirs).mean() + 0.02
    assert np.abs(ours - theirs).max() < 0.3


def int8_accuracy(task: TrainingTask, model: nn.Module) -> float:
    """Of the int8 form, on the choose set."""
    proto = export(model, tuple(task.example.shape[1:]))
    running = session(quantize_static(proto, [x.numpy() for x, _ in task.fit.batches(0)]))
    pairs = [
        (run(running, {"input": x.numpy()})[0].argmax(1), y.numpy())
        for x, y in task.choose.batches(0)
    ]
    answers, labels = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return float((answers == labels).mean())


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 24), nn.Linear(24, 24), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu(self.second(functional.relu(self.first(torch.flatten(x, 1)))))
        return self.head(hidden)


def test_in_integers_it_loses_less_than_without(bars: TrainingTask) -> None:
    torch.manual_seed(3)
    task = replace(bars, model=Plain())
    model = train(task, TrainSettings(epochs=15, learning_rate=0.1), device="cpu").model
    with torch.no_grad():  # units of very different size share a range: the same answers
        for layer, reader in ((model.first, model.second), (model.second, model.head)):
            factors = torch.logspace(0, 2.6, 24)
            layer.weight *= factors[:, None]
            layer.bias *= factors
            reader.weight /= factors
    hard, told = replace(task, model=model), []
    found = Int8Aware(training=replace(TRAINING, epochs=8, learning_rate=2e-5)).apply(
        hard, progress=told.append
    )
    whole, without, with_it = (
        score(hard, model),
        int8_accuracy(hard, model),
        int8_accuracy(hard, found),
    )
    assert told[0].startswith("int8 aware: epoch 1 of 8, loss ")
    assert without < whole - 0.05
    assert with_it > without + 0.05


def test_the_result_is_plain_and_its_weights_are_on_their_levels(bars: TrainingTask) -> None:
    before = copy.deepcopy(bars.model.state_dict())
    found = METHOD.apply(bars)
    assert list(found.state_dict()) == list(before)
    assert all(torch.equal(before[key], value) for key, value in bars.model.state_dict().items())
    assert not found.training
    for name in ("conv1.weight", "conv2.weight", "hidden.weight", "head.weight"):
        weight = numbers(found, name)
        assert weight == pytest.approx(naive_levels(weight), rel=1e-6)
        assert not np.array_equal(weight, numbers(bars.model, name))
    for name in ("norm1.running_mean", "norm2.running_var"):
        assert torch.equal(found.state_dict()[name], before[name])
    assert score(bars, found) > score(bars, bars.model) - 0.05
    int8 = quantize_static(export(found, (1, 8, 8)), [np.zeros((1, 1, 8, 8), np.float32)])
    assert len(weight_bearing(int8).int8) == 4
    free = replace(METHOD, frozen_norms=False).apply(bars)
    assert not torch.equal(free.norm1.running_mean, before["norm1.running_mean"])


def test_skipped_layers_stay_in_floating_point(bars: TrainingTask) -> None:
    method = replace(METHOD, skip=("head", "conv1"))
    network = method.network(bars.model)
    assert "head" not in network.ranges
    found = method.apply(bars)
    for name in ("head.weight", "conv1.weight"):
        weight = numbers(found, name)
        assert weight != pytest.approx(naive_levels(weight), rel=1e-4)
    assert numbers(found, "hidden.weight") == pytest.approx(
        naive_levels(numbers(found, "hidden.weight")), rel=1e-6
    )


def test_zeros_of_a_pruning_before_stay(clouds: TrainingTask) -> None:
    pruning = MagnitudePruning(by="layer", targets=(0.6,), retrain=replace(TRAINING, epochs=1))
    pruned = pruning.apply(clouds)
    found = Chain(methods=(pruning, METHOD)).apply(clouds)
    for name in ("0.weight", "3.weight"):
        assert not numbers(found, name)[numbers(pruned, name) == 0].any()
        assert (numbers(found, name) != 0).sum() > 0.9 * (numbers(pruned, name) != 0).sum()


def test_killed_and_taken_up_again_it_ends_with_the_same_bits(
    bars: TrainingTask, tmp_path: Path
) -> None:
    for method in (METHOD, replace(METHOD, frozen_norms=False)):
        folder = tmp_path / str(method.frozen_norms)
        whole = method.apply(bars)
        stop_at("epoch 1", method, bars, folder)
        stop_at("epoch 2", method, bars, folder)
        assert same(whole, method.apply(bars, folder=folder))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.reshape(-1, 4, 3))[0][:, -1])


def test_what_has_no_integer_kernel_stays_in_floating_point(clouds: TrainingTask) -> None:
    torch.manual_seed(0)
    found = METHOD.apply(replace(clouds, model=Recurrent()))
    weight = found.rnn.weight_ih_l0.detach().numpy()
    assert weight != pytest.approx(naive_levels(weight), rel=1e-4)
    weight = numbers(found, "head.weight")
    assert weight == pytest.approx(naive_levels(weight), rel=1e-6)


class Choosing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) if x.sum() > 0 else self.head(-x)


def test_what_cannot_be_rounded_is_told(clouds: TrainingTask) -> None:
    with pytest.raises(ModelError, match="no linear or convolutional layer to keep in 8 bits"):
        METHOD.apply(replace(clouds, model=nn.Sequential(nn.Flatten(), nn.ReLU())))
    with pytest.raises(ModelError, match="Choosing cannot be taken apart"):
        METHOD.apply(replace(clouds, model=Choosing()))
    with pytest.raises(ModelError, match="no layer is named 'fc'"):
        replace(METHOD, skip=("fc",)).apply(clouds)
    model = copy.deepcopy(clouds.model)
    with torch.no_grad():
        model[3].weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="weights of '3' are not all finite"):
        METHOD.apply(replace(clouds, model=model))
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="range_share is"):
            replace(METHOD, range_share=share)


def test_a_line_says_it() -> None:
    line = "int8_aware:training.epochs=3,training.learning_rate=0.002,range_share=0.1,skip=[head]"
    assert method_of(line) == Int8Aware(
        training=TrainSettings(epochs=3, learning_rate=0.002), range_share=0.1, skip=("head",)
    )
