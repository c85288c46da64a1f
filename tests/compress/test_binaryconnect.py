"""BinaryConnect against its rule, step by step."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from stopping import same, stop_at
from torch import nn

from narrows.compress import (
    BinaryConnect,
    BinaryNet,
    Chain,
    MagnitudePruning,
    TernaryWeights,
    taught,
)
from narrows.compress.binary_weights import (
    BinaryWeight,
    choose_loss,
    clip_steps_,
    drawn_loss,
    put_binary_,
    rate_scale,
)
from narrows.compress.weight_layers import weight_layers
from narrows.compress.weight_maps import bake
from narrows.config import from_dict, to_dict
from narrows.errors import ConfigError, ModelError
from narrows.train import TrainingTask, TrainSettings, outputs, squared_hinge, train

TRAINING = TrainSettings(
    epochs=4,
    optimizer="adamw",
    learning_rate=0.01,
    weight_decay=0.0,
    schedule="exponential",
    final_rate=1e-3,
    warmup=0.0,
)
METHOD = BinaryConnect(training=TRAINING)
DRAWN = replace(METHOD, signs="stochastic")


def small(bound: float = 1.0, *, stochastic: bool = False) -> nn.Sequential:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3, bias=False)).double()
    put_binary_(
        model, weight_layers(model), bound=bound, stochastic=stochastic, init="uniform", seed=1
    )
    return model


@pytest.mark.parametrize(
    ("shape", "scale"), [((4096, 784), 57), ((4096, 4096), 74), ((128, 128, 3, 3), 39)]
)
def test_steps_are_longer_by_what_the_reference_says(shape: tuple[int, ...], scale: int) -> None:
    area = math.prod(shape[2:])
    fan_in, fan_out = shape[1] * area, shape[0] * area
    assert rate_scale(shape) == pytest.approx(1 / math.sqrt(1.5 / (fan_in + fan_out)))
    assert round(rate_scale(shape)) == scale


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "shift_adamax"])
@pytest.mark.parametrize("scaled", [True, False])
def test_a_step_is_scaled_and_clipped_as_the_paper_says(optimizer: str, scaled: bool) -> None:
    """The optimiser's own step is taken by a twin whose weights are plain."""
    settings = replace(TRAINING, optimizer=optimizer, learning_rate=0.1)
    model, x = small(bound=0.5), torch.randn(6, 5, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    twin = [nn.Parameter(p.detach().clone()) for p in model.parameters()]
    holder = nn.ParameterList(twin)
    steps, theirs = settings.build(model), settings.build(holder)
    clip_steps_(model, steps, scaled=scaled)
    clipped = False
    for _ in range(8):
        for value, mine in zip(twin, model.parameters(), strict=True):
            value.data.copy_(mine.detach())
        model.zero_grad()
        squared_hinge(model, x, y).mean().backward()
        for value, mine in zip(twin, model.parameters(), strict=True):
            value.grad = mine.grad.clone()
        steps.step()
        before = [value.detach().clone() for value in twin]
        theirs.step()
        for value, old, mine in zip(twin, before, model.parameters(), strict=True):
            wanted = value.detach().numpy()
            if value.ndim > 1:  # the bias is neither scaled nor clipped
                s = 1 / math.sqrt(1.5 / sum(value.shape)) if scaled else 1.0
                s = s**2 if optimizer == "sgd" else s
                moved = old.numpy() + s * (wanted - old.numpy())
                wanted = np.clip(moved, -0.5, 0.5)
                clipped = clipped or bool((abs(moved) > 0.5).any())
            assert np.allclose(mine.detach().numpy(), wanted, rtol=1e-12)
    assert clipped or not scaled


def test_a_weight_is_used_by_its_sign_and_learns_by_the_gradient_of_that() -> None:
    weight = nn.Parameter(torch.tensor([[-0.9, -0.0, 0.0, 1e-9, 2.0]]))
    made = BinaryWeight(weight.shape, bound=0.25, stochastic=False)
    used = made(weight)
    assert used.tolist() == [[-0.25, 0.25, 0.25, 0.25, 0.25]]
    used.backward(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]))
    assert weight.grad.tolist() == [[1.0, 2.0, 3.0, 4.0, 5.0]]  # that of 2.0 too
    assert torch.equal(made.eval()(weight), used)


def test_drawn_weights_are_unbiased_and_kept_for_a_whole_step() -> None:
    weight = torch.tensor([-0.5, -0.2, 0.0, 0.3, 0.5])
    made, count, total = BinaryWeight(weight.shape, bound=0.5, stochastic=True), 20_000, 0.0
    torch.manual_seed(0)
    for _ in range(count):
        made.draw_()
        total = total + made(weight)
    assert torch.equal(made(weight), made(weight))
    assert set(made(weight).abs().tolist()) == {0.5}
    wrong = (total / count - weight).abs()
    assert float(wrong.max()) < 4 * 0.5 / math.sqrt(count)
    assert torch.equal(made.eval()(weight), weight)  # tested with the real ones


def test_weights_are_drawn_anew_once_a_step() -> None:
    model, x, y = small(stochastic=True), torch.zeros(1, 5).double(), torch.tensor([0])
    seen = []

    def look(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append(model[0].weight.detach().clone())
        return squared_hinge(model, x, y)

    for _ in range(2):
        drawn_loss(look, model, x, y)
    assert not torch.equal(*seen)
    assert list(small().state_dict()) == list(model.state_dict())  # what is drawn is not kept


def test_the_squared_hinge_is_the_papers() -> None:
    random = np.random.default_rng(0)
    scores, y = random.normal(size=(7, 4)) * 2, random.integers(0, 4, 7)
    wanted = [
        np.mean([max(0.0, 1 - (1 if j == label else -1) * row[j]) ** 2 for j in range(4)])
        for row, label in zip(scores, y, strict=True)
    ]
    net = nn.Identity()
    found = squared_hinge(net, torch.tensor(scores), torch.tensor(y))
    assert np.allclose(found, wanted)
    shares = nn.functional.one_hot(torch.tensor(y), 4).float()
    assert torch.equal(squared_hinge(net, torch.tensor(scores), shares), found)


def accuracy(task: TrainingTask, model: nn.Module) -> float:
    answers, labels = outputs(model, task.choose)
    return float((answers.argmax(1) == labels).mean())


def with_norms(task: TrainingTask) -> TrainingTask:
    torch.manual_seed(0)
    parts = (nn.Linear(12, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Linear(96, 3), nn.BatchNorm1d(3))
    return replace(task, model=nn.Sequential(*parts))


def test_it_learns_with_two_values_and_leaves_the_network_alone(clouds: TrainingTask) -> None:
    task = with_norms(clouds)
    before = [value.clone() for value in task.model.state_dict().values()]
    found = METHOD.apply(task)
    assert accuracy(clouds, found) > 0.9
    for layer in (found[0], found[3]):
        assert layer.weight.unique().tolist() == [-1.0, 1.0]
        assert layer.bias.unique().numel() > 1
    assert all(map(torch.equal, before, task.model.state_dict().values()))
    assert replace(METHOD, bound=0.125).apply(task)[0].weight.abs().unique().tolist() == [0.125]


def test_drawn_signs_leave_the_real_weights(clouds: TrainingTask) -> None:
    task = with_norms(clouds)
    found = replace(DRAWN, training=replace(TRAINING, epochs=8)).apply(task)
    assert accuracy(clouds, found) > 0.8
    assert found[0].weight.unique().numel() > 100
    assert float(found[0].weight.detach().abs().max()) <= 1


def test_weights_begin_uniform_by_the_seed_or_as_given(clouds: TrainingTask) -> None:
    slow = replace(TRAINING, epochs=1, learning_rate=1e-30, final_rate=1e-30)

    def begun(**change: object) -> torch.Tensor:
        method = replace(DRAWN, training=slow, **change)  # type: ignore[arg-type]
        return method.apply(clouds)[0].weight.detach()

    drawn = begun(bound=0.5)
    assert float(drawn.abs().max()) <= 0.5
    assert abs(float(drawn.mean())) < 4 * 0.5 / math.sqrt(3 * drawn.numel())
    assert float(drawn.std()) == pytest.approx(0.5 / math.sqrt(3), rel=0.1)
    assert torch.equal(begun(bound=0.5), drawn)
    other = replace(slow, seed=1)
    assert not torch.equal(replace(DRAWN, training=other).apply(clouds)[0].weight, drawn)
    given = clouds.model[0].weight
    assert torch.allclose(begun(init="given", bound=0.2), given.clamp(-0.2, 0.2), atol=1e-6)


def test_what_was_pruned_stays_zero_beside_two_values(clouds: TrainingTask) -> None:
    settings = TrainSettings(epochs=1, learning_rate=0.02)
    pruning = MagnitudePruning(by="global", targets=(0.6,), retrain=settings)
    sparse = pruning.apply(clouds)
    found = Chain(methods=(pruning, METHOD)).apply(clouds)
    for number in (0, 3):
        assert torch.equal(found[number].weight == 0, sparse[number].weight == 0)
        assert found[number].weight.unique().tolist() == [-1.0, 0.0, 1.0]
    # Zeros of a layer that stays real are kept, too.
    real = Chain(methods=(pruning, replace(METHOD, skip=("0",)))).apply(clouds)
    assert torch.equal(real[0].weight == 0, sparse[0].weight == 0)
    assert real[0].weight.unique().numel() > 3


@pytest.mark.parametrize("method", [METHOD, DRAWN])
def test_stopped_anywhere_it_ends_with_the_same_bits(
    clouds: TrainingTask, tmp_path: Path, method: BinaryConnect
) -> None:
    whole = method.apply(clouds)
    stop_at("epoch 2 of 4", method, clouds, tmp_path)
    told: list[str] = []
    assert same(method.apply(clouds, folder=tmp_path, progress=told.append), whole)
    assert len(told) == 2
    assert from_dict(BinaryConnect, to_dict(method)) == method


def test_any_layer_with_weights_can_be_binary() -> None:
    torch.manual_seed(0)
    model = nn.LSTM(3, 4, num_layers=2)
    put_binary_(model, weight_layers(model), bound=1.0, stochastic=False, init="given", seed=0)
    baked, x = bake(model), torch.randn(5, 2, 3)
    assert torch.equal(baked(x)[0], model(x)[0])
    assert all(p.abs().unique().tolist() == [1.0] for n, p in baked.named_parameters() if "w" in n)


def test_the_hook_is_part_of_training(clouds: TrainingTask) -> None:
    """Weights of a training without it leave the bound."""
    model = nn.Sequential(nn.Linear(12, 3))
    put_binary_(model, weight_layers(model), bound=0.1, stochastic=False, init="uniform", seed=0)
    task = replace(clouds, model=model)
    free = train(task, TRAINING, device="cpu").model
    held = train(task, TRAINING, device="cpu", prepare=partial(clip_steps_, scaled=True)).model
    sizes = [
        float(m[0].parametrizations.weight.original.detach().abs().max()) for m in (free, held)
    ]
    assert sizes[0] > 0.1 + 1e-6
    assert sizes[1] == pytest.approx(0.1)


def test_a_teacher_is_learned_from_beside_the_papers_loss(clouds: TrainingTask) -> None:
    x, y = next(iter(clouds.fit.batches(0)))
    student = nn.Linear(12, 3)
    asked = taught(clouds, temperature=2.0, weight=0.25)
    found = choose_loss("squared_hinge", asked.loss)(student, x, y)
    with torch.no_grad():
        soft = (clouds.model.eval()(x) / 2).softmax(-1)
        own = (student(x) / 2).log_softmax(-1)
        kl = (soft * (soft.log() - own)).sum(1)
        wanted = 0.75 * squared_hinge(student, x, y) + 0.25 * 4 * kl
    assert torch.allclose(found, wanted, atol=1e-6)
    assert choose_loss("task", asked.loss) is asked.loss
    assert choose_loss("squared_hinge", clouds.loss) is squared_hinge


@pytest.mark.parametrize("kind", [BinaryConnect, BinaryNet])
def test_training_asks_the_teacher(clouds: TrainingTask, kind: type) -> None:
    calls: list[int] = []

    def count(*_: object) -> None:
        calls.append(1)

    teacher = nn.Linear(12, 3)
    teacher.register_forward_hook(count)
    task = taught(replace(with_norms(clouds), teacher=teacher))
    task.loss.teacher.register_forward_hook(count)  # type: ignore[attr-defined]
    kind(training=replace(TRAINING, epochs=1)).apply(task)
    assert len(calls) >= len(clouds.fit)


def test_what_is_not_finite_is_refused_by_name(clouds: TrainingTask) -> None:
    task = with_norms(clouds)
    for name in ("0.bias", "1.running_mean", "4.running_var"):
        model = copy.deepcopy(task.model)
        with torch.no_grad():
            dict((*model.named_parameters(), *model.named_buffers()))[name][0] = torch.inf
        for method in (METHOD, TernaryWeights(training=TrainSettings(epochs=1))):
            with pytest.raises(ModelError, match=f"'{name}' is not finite throughout"):
                method.apply(replace(task, model=model))


def test_masks_may_be_infinite(clouds: TrainingTask) -> None:
    model = with_norms(clouds).model
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    METHOD.apply(replace(clouds, model=model))
    model.mask[0] = torch.nan
    with pytest.raises(ModelError, match="'mask' is not finite"):
        METHOD.apply(replace(clouds, model=model))


def test_settings_without_meaning_are_refused() -> None:
    for change in (
        {"bound": 0.0},
        {"bound": math.inf},
        {"signs": "both"},
        {"init": "zero"},
        {"loss": "hinge"},
    ):
        with pytest.raises(ConfigError, match="expected"):
            replace(METHOD, **change)  # type: ignore[arg-type]
