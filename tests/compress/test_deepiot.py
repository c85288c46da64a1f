"""The search of compressor and critic, its threshold, its result and its resumption."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stopping import same, stop_at
from torch import Tensor, nn

from narrows.compress import Chain, DeepIoT, layer_table
from narrows.compress.costs import UnitCosts
from narrows.compress.critic import Critic, _above
from narrows.compress.latency import MeasuredLatency
from narrows.compress.units import UnitGroup, find
from narrows.errors import ConfigError, ModelError, TaskError
from narrows.task import array_task
from narrows.train import TrainingTask, TrainSettings, score, train, training_task

SEARCH = TrainSettings(epochs=6, learning_rate=0.02, schedule="constant", warmup=0.0)
TUNE = TrainSettings(epochs=3, learning_rate=0.02)
METHOD = DeepIoT(share=0.4, search=SEARCH, finetune=TUNE, learning_rate=0.01, width=8)


def critic_of(method: DeepIoT, task: TrainingTask) -> Critic:
    found = find(task.model, task.example)
    return Critic(method, task, found, UnitCosts(task.model, found, task.example, "parameters"))


def test_it_finds_a_smaller_network_that_does_as_well(clouds: TrainingTask) -> None:
    before = copy.deepcopy(clouds.model)
    told: list[str] = []
    found = METHOD.apply(clouds, progress=told.append)
    assert same(before, clouds.model)
    assert layer_table(found, clouds.model).share_left <= 0.4
    assert score(clouds, found) >= score(clouds, clouds.model) - 0.05
    assert any("of the parameters left" in line for line in told)


def test_the_threshold_rises_in_steps_and_the_units_are_fixed_at_the_target(
    clouds: TrainingTask,
) -> None:
    method = replace(METHOD, threshold_every=5, threshold_step=0.1)
    critic = critic_of(method, clouds)
    batches = (batch for epoch in range(3) for batch in clouds.fit.batches(epoch))
    torch.manual_seed(0)
    for step in range(1, 60):
        critic.learned(clouds.loss, *next(batches))
        if bool(critic.settled):
            break
        assert float(critic.threshold) == pytest.approx(0.1 * (step // 5))
    assert bool(critic.settled)
    fixed = critic.kept()
    assert critic.costs.left(fixed) <= 0.4
    critic.learned(clouds.loss, *next(batches))
    assert all(torch.equal(fixed[name], row) for name, row in critic.kept().items())


def test_the_last_step_of_the_threshold_goes_no_further_than_it_has_to(
    clouds: TrainingTask,
) -> None:
    critic = critic_of(METHOD, clouds)
    with torch.no_grad():
        p = critic.compressor(critic._matrices())["0"]
    left = {}
    for threshold in [*p.tolist(), 0.99]:
        critic.threshold.fill_(threshold)
        left[threshold] = critic.costs.left(critic.kept())
    critic.threshold.fill_(0.99)
    critic._lower_(0.0)
    assert float(critic.threshold) == min(t for t, share in left.items() if share <= METHOD.share)
    critic.threshold.fill_(0.99)
    critic._lower_(float(p.max()))
    assert float(critic.threshold) == pytest.approx(0.99)


@pytest.mark.parametrize("multiple", [1, 2])
def test_what_is_left_of_the_share_goes_to_the_most_probable_that_fit(
    clouds: TrainingTask, multiple: int
) -> None:
    model = nn.Sequential(
        nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 30), nn.ReLU(), nn.Linear(30, 3)
    )
    method = replace(METHOD, share=0.5, multiple=multiple)
    critic = critic_of(method, replace(clouds, model=model))
    few = {name: torch.arange(group.size) < 2 for name, group in critic.groups.items()}
    found = critic._filled(few)
    assert critic.costs.left(found) <= 0.5
    with torch.no_grad():
        p = critic.compressor(critic._matrices())
    for name, stays in found.items():
        assert bool(stays[few[name]].all())
        added, rest = stays & ~few[name], ~stays
        assert int(added.sum()) % multiple == 0
        assert not rest.any() or not added.any() or p[name][added].min() >= p[name][rest].max()
        best = rest.nonzero().flatten()[p[name][rest].argsort(descending=True)][:multiple]
        if len(best):
            more = found | {name: stays.index_fill(0, best, value=True)}
            assert critic.costs.left(more) > 0.5


def test_samples_have_masks_of_their_own_and_the_answer_is_scaled_without_training(
    clouds: TrainingTask,
) -> None:
    critic = critic_of(METHOD, clouds)
    x, y = next(clouds.fit.batches(0))
    torch.manual_seed(0)
    critic.train().learned(clouds.loss, x[:1].repeat(10, 1), y[:1].repeat(10))
    assert len(critic(x[:1].repeat(10, 1)).unique(dim=0)) > 1
    critic.eval()
    with torch.no_grad():
        p = critic.compressor(critic._matrices())["0"]
        hidden = clouds.model[1](clouds.model[0](x))
        expected = clouds.model[3](hidden * p)
        assert torch.allclose(critic(x), expected, atol=1e-6)


@pytest.mark.parametrize("line", ["search: epoch 2", "search: epoch 6", "fine-tuning: epoch 1"])
def test_a_search_stopped_anywhere_ends_with_the_same_bits(
    clouds: TrainingTask, tmp_path: Path, line: str
) -> None:
    stop_at(line, METHOD, clouds, tmp_path)
    assert same(METHOD.apply(clouds, folder=tmp_path), METHOD.apply(clouds))
    with pytest.raises(TaskError, match="another folder"):
        replace(METHOD, share=0.3).apply(clouds, folder=tmp_path)


def test_a_loss_that_is_no_number_stops_it_and_it_goes_on_from_the_epoch_before(
    clouds: TrainingTask, tmp_path: Path
) -> None:
    calls = iter(range(10_000))

    def broken(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        late = next(calls) > 2 * len(clouds.fit) + 3
        return clouds.loss(model, x, y) * (float("nan") if late else 1.0)

    with pytest.raises(TaskError, match="nan in epoch 3"):
        METHOD.apply(replace(clouds, loss=broken), folder=tmp_path)
    assert same(METHOD.apply(clouds, folder=tmp_path), METHOD.apply(clouds))


def test_a_target_that_is_not_met_is_told_and_the_best_is_given(clouds: TrainingTask) -> None:
    told: list[str] = []
    method = replace(METHOD, share=0.01, search=replace(SEARCH, epochs=1))
    found = method.apply(clouds, progress=told.append)
    assert layer_table(found, clouds.model).share_left > 0.01
    assert any("misses the 1.00% asked for" in line for line in told)


def test_units_are_kept_in_multiples(clouds: TrainingTask) -> None:
    found = replace(METHOD, multiple=8, share=0.7).apply(clouds)
    assert found[0].out_features in (8, 16)
    group = UnitGroup(name="0", size=6, layers=(), kind="channels", rows={}, needed=((0, 1),))
    p = torch.tensor([0.1, 0.2, 0.9, 0.8, 0.7, 0.6])
    for multiple, threshold, kept in (
        (1, 0.65, [1, 2, 3, 4]),  # of 0 and 1 one has to stay
        (4, 0.65, [1, 2, 3, 4, 5]),
        (4, 0.5, [1, 2, 3, 4, 5]),
        (4, 0.15, [0, 1, 2, 3, 4, 5]),
    ):
        assert _above(group, p, threshold, multiple).nonzero().flatten().tolist() == kept


def test_with_a_largest_drop_rounds_go_on_until_it_would_be_passed(clouds: TrainingTask) -> None:
    told: list[str] = []
    rounds = replace(METHOD, share=0.02, round_share=0.4, max_drop=0.05)
    found = rounds.apply(clouds, progress=told.append)
    assert score(clouds, found) >= score(clouds, clouds.model) - 0.05
    left = layer_table(found, clouds.model).share_left
    assert left <= 0.4
    assert left > 0.02
    assert any("back to round" in line for line in told) or any("misses" in line for line in told)


def test_where_no_round_keeps_the_score_the_network_stays(clouds: TrainingTask) -> None:
    told: list[str] = []
    still = replace(TUNE, learning_rate=1e-12, weight_decay=0.0)
    method = replace(METHOD, share=0.1, round_share=0.1, max_drop=0.0, finetune=still)
    found = method.apply(clouds, progress=told.append)
    assert same(found, clouds.model)
    assert found is not clouds.model
    assert "back to the network as it was" in told[-1]


def test_it_stops_at_a_measured_latency_and_hears_the_same_when_taken_up_again(
    clouds: TrainingTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def timed(_: MeasuredLatency, smaller: nn.Module) -> float:
        asked.append(smaller[0].out_features)
        return 0.2 + 0.8 * smaller[0].out_features / 24

    monkeypatch.setattr(MeasuredLatency, "_timed", timed)
    method = replace(METHOD, share=0.6, cost="latency")
    told: list[str] = []
    found = method.apply(clouds, progress=told.append)
    assert found[0].out_features <= 12
    assert any("of the latency left" in line for line in told)
    stop_at("fine-tuning: epoch 1", method, clouds, tmp_path)
    assert len(asked) == len(set(asked)) * 2  # each network once in each of the two searches
    asked.clear()
    assert same(method.apply(clouds, folder=tmp_path), found)
    assert not asked


class Sequence(nn.Module):  # type: ignore[misc]
    """Convolution, then a recurrent layer over what it makes: DeepSense's pattern, in small."""

    def __init__(self, kind: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 6, 3, padding=1)
        self.rnn = kind(6, 8, batch_first=True, bidirectional=True)
        self.out = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.reshape(-1, 2, 8)).relu().permute(0, 2, 1)
        return self.out(self.rnn(y)[0].mean(1))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_recurrent_networks_lose_hidden_units(kind: Callable[..., nn.Module]) -> None:
    random = np.random.default_rng(0)
    y = np.arange(120) % 2
    x = (random.normal(size=(120, 16)) + np.where(y[:, None] == 1, 1, -1)).astype(np.float32)
    torch.manual_seed(0)
    task = training_task(array_task("signs", x, y), Sequence(kind), batch_size=20)
    adam = TrainSettings(epochs=25, optimizer="adamw", learning_rate=0.01)
    task = replace(task, model=train(task, adam, device="cpu").model)
    search = replace(SEARCH, epochs=8)
    method = replace(METHOD, share=0.6, search=search, finetune=adam, threshold_step=0.1)
    found = method.apply(task)
    left = layer_table(found, task.model)
    assert left.share_left <= 0.6
    assert score(task, found) > 0.9


def test_settings_that_mean_nothing_are_refused(clouds: TrainingTask) -> None:
    for change in (
        *({"share": 0.0}, {"share": 1.0}, {"cost": "bytes"}, {"factor": 2.0}),
        *({"multiple": 0}, {"max_drop": -0.1}, {"round_share": 1.0}),
    ):
        with pytest.raises(ConfigError):
            replace(METHOD, **change)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="skip"):
        replace(METHOD, skip=("nowhere",)).apply(clouds)
    with pytest.raises(ConfigError, match="each sample"):
        METHOD.apply(replace(clouds, loss=lambda m, x, y: clouds.loss(m, x, y).mean()))
    with pytest.raises(ModelError, match="no unit"):
        METHOD.apply(replace(clouds, model=nn.Linear(12, 3)))


def test_it_goes_into_a_chain(clouds: TrainingTask) -> None:
    found = Chain(methods=(METHOD, replace(METHOD, share=0.8))).apply(clouds)
    assert layer_table(found, clouds.model).share_left <= 0.4
