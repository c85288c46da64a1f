"""Everything lies on its grid, sums are exact, updates are rounded once, and it is resumed."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stopping import same, stop_at
from torch import Tensor, nn
from torch.nn import functional

from narrows.coding.quantizers import FixedPoint
from narrows.compress import (
    Chain,
    FixedPointFormats,
    FixedPointNetwork,
    FixedPointTraining,
    MagnitudePruning,
)
from narrows.compress.catalog import method_of
from narrows.compress.fixed_point_network import converted
from narrows.errors import ConfigError, ModelError, TaskError
from narrows.task import array_task
from narrows.train import TrainingTask, TrainSettings, score, training_task

TRAINING = TrainSettings(
    epochs=3, learning_rate=0.05, momentum=0.0, schedule="constant", weight_decay=0.0
)
NARROW = FixedPointFormats(weights=(3, 9), activations=(6, 8), gradients=(3, 10))
METHOD = FixedPointTraining(training=TRAINING, formats=NARROW)
NEAREST = replace(METHOD, rounding="nearest")


def numbers(model: nn.Module, place: int = 0) -> np.ndarray:
    return model[place].weight.detach().numpy().astype(np.float64)


def on_grid(values: np.ndarray, integer_bits: int, fraction_bits: int) -> bool:
    low, high = -(2.0 ** (integer_bits - 1)), 2.0 ** (integer_bits - 1) - 2.0**-fraction_bits
    multiples = values * 2.0**fraction_bits
    return bool(
        (multiples == np.rint(multiples)).all() and low <= values.min() <= values.max() <= high
    )


def convert(values: np.ndarray, integer_bits: int, fraction_bits: int) -> np.ndarray:
    """The paper's rule, number by number: to the nearest, ties down, saturated."""
    eps, half = 2.0**-fraction_bits, 2.0 ** (integer_bits - 1)
    below = np.floor(values / eps) * eps
    return np.clip(np.where(values <= below + eps / 2, below, below + eps), -half, half - eps)


def stepped(network: FixedPointNetwork, x: Tensor, y: Tensor, **given: float) -> None:
    """One step of training."""
    optimizer = torch.optim.SGD(network.parameters(), **{"lr": 0.5} | given)
    network.hook_into_(optimizer)
    network.train()
    functional.cross_entropy(network(x), y).backward()
    optimizer.step()


def test_a_step_is_that_of_the_rule_written_out(clouds: TrainingTask) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    network = NEAREST.network(replace(clouds, model=model))
    x, y = next(iter(clouds.fit.batches(0)))
    w1, w2 = (convert(numbers(model, place), 3, 9) for place in (0, 2))
    b1, b2 = (convert(model[place].bias.detach().double().numpy(), 3, 9) for place in (0, 2))
    a0 = convert(x.double().numpy(), 6, 8)
    z1 = convert(a0 @ w1.T + b1, 6, 8)
    a1 = np.maximum(z1, 0)
    z2 = convert(a1 @ w2.T + b2, 6, 8)
    logits = torch.from_numpy(z2).float().requires_grad_()
    functional.cross_entropy(logits, y).backward()
    n = len(x)
    d2 = convert(logits.grad.double().numpy() * n, 3, 10)
    d1 = convert((d2 @ w2) * (z1 > 0), 3, 10)
    expected = {}
    for name, weight, bias, delta, answer in (
        ("0", w1, b1, d1, a0),
        ("2", w2, b2, d2, a1),
    ):
        expected[f"{name}.weight"] = convert(
            weight - 0.5 * convert(delta.T @ answer / n, 3, 10), 3, 9
        )
        expected[f"{name}.bias"] = convert(bias - 0.5 * convert(delta.sum(0) / n, 3, 10), 3, 9)
    stepped(network, x, y)
    for name, value in expected.items():
        found = network.traced.get_parameter(name).detach().numpy()
        assert np.array_equal(found, value)
    assert not np.array_equal(expected["0.weight"], w1)


def test_product_sums_are_exact_in_convolutions_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 5, 3, bias=False), nn.Flatten())
    x = torch.randn(20, 16, 5, 5)
    task = training_task(array_task("noise", x.numpy(), np.arange(20)), model, batch_size=2)
    wide = FixedPointFormats(weights=(2, 14), activations=(8, 16), gradients=(2, 14))
    network = replace(METHOD, formats=wide).network(task)
    whole = (
        converted(x.double(), FixedPoint(integer_bits=8, fraction_bits=16), drawn=False) * 2**16
    ).long()
    weight = (network.traced.get_parameter("0.weight") * 2**14).long()
    sums = functional.conv2d(whole.double(), weight.double()).long()
    patches = whole.unfold(2, 3, 1).unfold(3, 3, 1)  # (n, c, y, x, i, j), as whole numbers
    expected = (patches[:, None] * weight[None, :, :, None, None]).sum((2, 5, 6))
    assert torch.equal(sums, expected)
    exact = expected.double() / 2**30
    answer = network(x).detach().reshape(exact.shape)
    assert np.array_equal(answer.numpy(), convert(exact.numpy(), 8, 16).astype(np.float32))


class Watched:
    """A loss that sees what goes through a network while it trains."""

    def __init__(self, task: TrainingTask) -> None:
        self.loss, self.seen = task.loss, []

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if model.training:
            self.seen.append([p.detach().numpy().copy() for p in model.parameters()])
        return self.loss(model, x, y)


@pytest.mark.parametrize("method", [METHOD, NEAREST], ids=["stochastic", "nearest"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weights_are_on_their_grid_in_every_step(
    clouds: TrainingTask, method: FixedPointTraining, momentum: float
) -> None:
    watched = Watched(clouds)
    asked = replace(method, training=replace(TRAINING, momentum=momentum, weight_decay=0.01))
    before = copy.deepcopy(clouds.model.state_dict())
    found = asked.apply(replace(clouds, loss=watched))
    assert len(watched.seen) == 3 * len(clouds.fit)
    assert all(on_grid(value, 3, 9) for step in watched.seen for value in step)
    moved = [
        not np.array_equal(a, b) for a, b in zip(watched.seen[0], watched.seen[-1], strict=True)
    ]
    assert all(moved)
    for name, value in found.named_parameters():
        assert value.dtype == torch.float32
        assert on_grid(value.detach().double().numpy(), 3, 9), name
    assert list(found.state_dict()) == list(before)
    assert all(torch.equal(before[key], value) for key, value in clouds.model.state_dict().items())
    assert not found.training
    assert score(clouds, found) > score(clouds, clouds.model) - 0.05


def test_answers_and_gradients_are_on_theirs(
    clouds: TrainingTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    grids: list[tuple[FixedPoint, np.ndarray]] = []

    def noted(x: Tensor, grid: FixedPoint, *, drawn: bool) -> Tensor:
        made = converted(x, grid, drawn=drawn)
        grids.append((grid, made.numpy().copy()))
        return made

    monkeypatch.setattr("narrows.compress.fixed_point_network.converted", noted)
    network = METHOD.network(clouds)
    grids.clear()
    stepped(network, *next(iter(clouds.fit.batches(0))), momentum=0.9)
    fractions = [grid.fraction_bits for grid, _ in grids]
    # Four parameters; input, layer, dropout, layer; three gradients; four and their velocities.
    assert fractions == [9] * 4 + [8] * 4 + [10] * 3 + [10] * 4 + [9] * 4 + [10] * 4
    assert all(on_grid(value, grid.integer_bits, grid.fraction_bits) for grid, value in grids)
    assert sum(bool(value.any()) for _, value in grids) == len(grids)


@pytest.mark.parametrize(("rounding", "moves"), [("nearest", False), ("stochastic", True)])
def test_updates_below_half_a_step_are_lost_or_happen_now_and_then(
    rounding: str, moves: bool
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 4000, bias=False))
    x = torch.ones(1, 1)
    formats = FixedPointFormats(weights=(4, 4), activations=(6, 8), gradients=(2, 10))
    method = FixedPointTraining(training=TRAINING, rounding=rounding, formats=formats)  # type: ignore[arg-type]
    samples = np.arange(20, dtype=np.float32)[:, None] / 20
    task = training_task(array_task("one", samples, np.arange(20) % 3), model)
    network = method.network(task)
    before = network.traced.get_parameter("0.weight").detach().clone()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.25)
    network.hook_into_(optimizer)
    network.train()
    (network(x) * 0.0625).sum().backward()  # an update of a quarter of a step of 1/16
    optimizer.step()
    moved = (before - network.traced.get_parameter("0.weight").detach()).flatten()
    assert set(moved.tolist()) <= {0.0, 0.0625}
    assert bool(moved.any()) is moves
    if moves:
        assert abs(float(moved.mean()) - 0.25 * 0.0625) < 4 * 0.0625 / math.sqrt(4000)


def test_nothing_passes_what_has_saturated(clouds: TrainingTask) -> None:
    model = nn.Sequential(nn.Linear(12, 3))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.copy_(torch.tensor([1.9, 0.0, -1.9]))
    low = FixedPointFormats(weights=(3, 9), activations=(1, 9), gradients=(3, 10))
    network = replace(NEAREST, formats=low).network(replace(clouds, model=model))
    stepped(network, *next(iter(clouds.fit.batches(0))))
    moved = network.traced.get_parameter("0.bias").detach() - torch.tensor(
        [973 / 512, 0, -973 / 512]
    )
    assert (moved != 0).tolist() == [False, True, False]


def test_words_place_their_point_for_what_is_seen(clouds: TrainingTask) -> None:
    words = FixedPointFormats(weights=16, biases=14, activations=12, gradients=16, headroom=0)
    network = replace(METHOD, formats=words).network(clouds)
    ((_, grids),) = network.grids
    x = torch.cat([x for x, _ in clouds.fit.batches(0)][:8])
    hidden = clouds.model[0](x).detach()
    for name, largest in (("input_1", x.abs().max()), ("_0", hidden.abs().max())):
        grid = grids.answers[name]
        assert grid.word_bits == 12
        assert grid.ends[1] * 1.01 > float(largest) >= grid.ends[1] / 2.02
    weight = float(clouds.model[0].weight.detach().abs().max())
    grid = grids.weights["traced.0.weight"]
    assert (grid.word_bits, grids.weights["traced.0.bias"].word_bits) == (16, 14)
    assert 2.0 ** (grid.integer_bits - 2) <= weight < 2.0 ** (grid.integer_bits - 1)
    wider = replace(METHOD, formats=replace(words, headroom=2)).network(clouds)
    assert wider.grids[0][1].weights["traced.0.weight"].integer_bits == grid.integer_bits + 2
    assert all(g.word_bits == 16 for g in (*grids.errors.values(), *grids.gradients.values()))
    found = replace(METHOD, formats=words).apply(clouds)
    assert score(clouds, found) > score(clouds, clouds.model) - 0.05


def test_the_last_epochs_have_other_formats(clouds: TrainingTask) -> None:
    watched = Watched(clouds)
    fine = FixedPointFormats(weights=(4, 14), activations=(6, 12), gradients=(4, 14))
    method = replace(METHOD, last=fine, last_epochs=1)
    found = method.apply(replace(clouds, loss=watched))
    steps = 2 * len(clouds.fit)
    first, then = watched.seen[:steps], watched.seen[steps + 1 :]
    assert all(on_grid(value, 3, 9) for step in first for value in step)
    assert all(on_grid(value, 4, 14) for step in then for value in step)
    assert not any(on_grid(step[0], 3, 9) for step in then)
    assert not on_grid(numbers(found), 3, 9)
    assert on_grid(numbers(found), 4, 14)


def test_it_answers_the_same_again_and_as_its_weights_are(clouds: TrainingTask) -> None:
    found = METHOD.apply(clouds)
    network = METHOD.network(clouds, found)
    x, _ = next(iter(clouds.choose.batches(0)))
    assert torch.equal(network(x), network(x))
    plain = found(x).detach()
    assert float((network(x).detach() - plain).abs().max()) < 0.2
    assert not torch.equal(network(x), plain)
    for name, value in found.named_parameters():
        assert torch.equal(network.traced.get_parameter(name).float(), value)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(2)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(6 * 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        first = self.act(self.conv1(x))
        both = functional.relu(first + self.conv2(first))
        return self.head(self.drop(torch.flatten(self.pool(both), 1)))


@pytest.fixture(scope="module")
def bars() -> TrainingTask:
    """Where a bright bar stands in pictures of 4 × 4."""
    random = np.random.default_rng(0)
    y = np.arange(240) % 4
    x = random.normal(size=(240, 1, 4, 4)).astype(np.float32) * 0.3
    x[np.arange(240), 0, :, y] += 1
    torch.manual_seed(1)
    return training_task(array_task("bars", x, y), Branching(), batch_size=12, seed=2)


def test_branches_pooling_and_dropout_learn(bars: TrainingTask) -> None:
    method = replace(METHOD, training=replace(TRAINING, epochs=6, momentum=0.9))
    found = method.apply(bars)
    assert score(bars, found) > 0.9
    assert score(bars, method.network(bars, found)) > 0.9


def test_zeros_of_a_pruning_before_stay(clouds: TrainingTask) -> None:
    pruning = MagnitudePruning(by="layer", targets=(0.6,), retrain=replace(TRAINING, epochs=1))
    pruned = pruning.apply(clouds)
    method = replace(METHOD, training=replace(TRAINING, momentum=0.9, weight_decay=0.01))
    found = Chain(methods=(pruning, method)).apply(clouds)
    for place in (0, 3):
        zero = numbers(pruned, place) == 0
        assert not numbers(found, place)[zero].any()
        assert (numbers(found, place) != 0).sum() > 0.8 * (~zero).sum()
    assert list(found.state_dict()) == list(clouds.model.state_dict())


@pytest.mark.parametrize("method", [METHOD, NEAREST], ids=["stochastic", "nearest"])
def test_killed_and_taken_up_again_it_ends_with_the_same_bits(
    clouds: TrainingTask, tmp_path: Path, method: FixedPointTraining
) -> None:
    fine = replace(NARROW, weights=(3, 13))
    asked = replace(method, training=replace(TRAINING, momentum=0.9), last=fine, last_epochs=1)
    whole = asked.apply(clouds)
    stop_at("epoch 1", asked, clouds, tmp_path)
    stop_at("epoch 2", asked, clouds, tmp_path)
    assert same(whole, asked.apply(clouds, folder=tmp_path))
    with pytest.raises(TaskError, match="take the same settings"):
        method.apply(clouds, folder=tmp_path)


class Filled(nn.Module):
    """Numbers from elsewhere among what a layer reads."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.head = how, nn.Linear(16, 3)
        self.token = nn.Parameter(torch.full((4,), 1 / 3))
        self.register_buffer("whole", torch.full((12,), 0.3))
        self.register_buffer("places", torch.arange(12).repeat(2)[:16])

    def forward(self, x: Tensor) -> Tensor:
        value = 0.3 if self.how == "pad" else 0.0
        if self.how == "places":
            return self.head(x.index_select(1, self.places))
        if self.how == "sum":
            return self.head(functional.pad(x + self.whole, (2, 2)))
        if self.how == "greater":
            return self.head(functional.pad(torch.maximum(x, self.whole), (2, 2)))
        if self.how == "token":
            return self.head(torch.cat([x, self.token.expand(x.shape[0], 4)], 1))
        mode = "constant" if self.how in ("pad", "zeros") else self.how
        if mode != "constant":
            return self.head(functional.pad(x[:, None], (2, 2), mode)[:, 0])
        return self.head(functional.pad(x, (2, 2), value=value))


@pytest.mark.parametrize(
    ("how", "converted_names"),
    [
        ("pad", ["pad"]),
        ("greater", ["whole"]),
        ("token", ["token"]),
        ("sum", ["add"]),  # converted once, as a sum
        ("zeros", []),
        ("reflect", []),
        ("places", []),
    ],
)
def test_constants_among_what_a_layer_reads_lie_on_the_grid(
    clouds: TrainingTask, how: str, converted_names: list[str]
) -> None:
    torch.manual_seed(0)
    task = replace(clouds, model=Filled(how))
    network = NEAREST.network(task)
    assert [name for name in network.places if name not in ("x", "head", "places")] == (
        converted_names
    )
    read: list[Tensor] = []
    network.traced.head.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    x, y = next(iter(clouds.fit.batches(0)))
    stepped(network, x, y)
    assert on_grid(read[0].detach().numpy(), 6, 8)
    if how == "pad":
        assert read[0][0, 0] == convert(np.array(0.3), 6, 8)
    replace(METHOD, formats=replace(NARROW, activations=14)).network(task)(x)


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 6)
        self.norm = nn.BatchNorm1d(6)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.reshape(-1, 4, 3))[0][:, -1])


class Smooth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.gelu(x))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Normed(), r"'norm' \(BatchNorm1d\) is not known in fixed point"),
        (Recurrent(), r"'rnn' \(LSTM\) is not known in fixed point"),
        (Smooth(), r"'gelu' \(gelu\) is not known in fixed point"),
        (nn.Flatten(), "no linear or convolutional layer"),
    ],
)
def test_what_has_no_fixed_point_form_is_named(
    clouds: TrainingTask, model: nn.Module, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        METHOD.apply(replace(clouds, model=model))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_named(clouds: TrainingTask, value: float) -> None:
    model = copy.deepcopy(clouds.model)
    with torch.no_grad():
        model[3].weight[1, 1] = value
    with pytest.raises(ModelError, match=r"'3\.weight' is not finite"):
        METHOD.apply(replace(clouds, model=model))


@pytest.mark.parametrize("word", [2, 16, 24])
def test_points_are_placed_for_any_finite_magnitude(word: int) -> None:
    for headroom in (0, 8):
        formats = FixedPointFormats(gradients=word, headroom=headroom)
        for seen in (1e-300, 1e-30, 0.0, 1.0, 1e30, 1e300):
            grid = formats.grid("gradients", seen=seen, rounding="nearest")
            assert grid.word_bits == word
            if 1e-30 < seen <= 1.0 or seen == 1e30:
                assert grid.ends[1] + grid.step > seen
        for seen in (math.inf, math.nan):
            with pytest.raises(
                ModelError, match=f"gradients: the largest magnitude seen is {seen}"
            ):
                formats.grid("gradients", seen=seen, rounding="nearest")


def test_what_is_not_finite_is_seen_in_any_batch(clouds: TrainingTask) -> None:
    words = replace(METHOD, formats=FixedPointFormats(activations=16))
    for number in (0, 1):
        fit = copy.deepcopy(clouds.fit)
        fit.samples[:] = torch.where(
            torch.arange(len(fit.samples))[:, None] == number, torch.nan, 1.0
        )
        with pytest.raises(ModelError, match="the largest magnitude seen is nan"):
            words.network(replace(clouds, fit=replace(fit, seed=None)))


def test_weights_of_another_network_are_refused_by_name(clouds: TrainingTask) -> None:
    other = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Dropout(0.4), nn.Linear(24, 4))
    with pytest.raises(ModelError, match=r"'3\.weight' is 3 × 24 .* 4 × 24 in the other"):
        METHOD.network(clouds, other)
    with pytest.raises(ModelError, match=r"'3\.weight' is 3 × 24 .* none in the other"):
        METHOD.network(clouds, nn.Sequential(nn.Linear(12, 24)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rounding": "up"}, "rounding is 'up'"),
        ({"training": replace(TRAINING, optimizer="adamw")}, "optimizer is 'adamw'"),
        ({"training": replace(TRAINING, clip_norm=1.0)}, "clip_norm 1.0"),
        ({"training": replace(TRAINING, precision="bf16")}, "precision 'bf16'"),
        ({"last": NARROW}, "last_epochs is 0 of 3"),
        ({"last_epochs": 1}, "without formats of the last"),
        ({"last": NARROW, "last_epochs": 3}, "last_epochs is 3 of 3"),
    ],
)
def test_settings_without_sense_are_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FixedPointTraining(**({"training": TRAINING} | changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights": (20, 14)}, r"weights: <20, 14> asked for"),
        ({"activations": 1}, "activations: "),
        ({"activations": 25}, "activations: "),
        ({"gradients": (1, 0)}, "gradients: <1, 0>"),
        ({"headroom": -1}, "headroom is -1"),
    ],
)
def test_formats_without_sense_are_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FixedPointFormats(**changed)


def test_sums_that_float64_does_not_hold_are_refused(clouds: TrainingTask) -> None:
    wide = FixedPointFormats(weights=(4, 20), activations=(6, 18), gradients=(4, 12))
    model = nn.Sequential(nn.Linear(12, 3), nn.ReLU(), nn.Linear(3, 3))
    METHOD.network(replace(clouds, model=model))
    replace(METHOD, formats=wide).network(replace(clouds, model=model))
    big = nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 3))
    with pytest.raises(ConfigError, match=r"sums of 40 products in '2' \(Linear\) need 54 bits"):
        replace(METHOD, formats=wide).network(replace(clouds, model=big))


def test_a_line_says_it() -> None:
    line = "fixed_point:rounding=nearest,formats.weights=[3,9],formats.activations=16"
    assert method_of(f"{line},training.epochs=4") == FixedPointTraining(
        training=TrainSettings(epochs=4),
        rounding="nearest",
        formats=FixedPointFormats(weights=(3, 9), activations=16),
    )
