"""A student learns from its teacher, in all or up to a cut."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from narrows.compress import Chain, Distillation, MagnitudePruning, UnitPruning, taught
from narrows.compress.methods.distillation import _freeze_after_
from narrows.errors import ConfigError, ModelError
from narrows.train import TrainingTask, TrainSettings, outputs

TRAINING = TrainSettings(epochs=3, learning_rate=0.05)


def small() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Identity(), nn.Linear(6, 3))


def test_the_loss_is_the_papers(clouds: TrainingTask) -> None:
    method = Distillation(training=TRAINING, temperature=3.0, weight=0.7)
    student, teacher = small().eval(), clouds.model
    x, y = next(clouds.fit.batches(0))
    with torch.no_grad():
        found = method._loss(method._taught(clouds.loss, teacher), (), student, x, y)
        t, s = (functional.softmax(net(x) / 3, -1) for net in (teacher, student))
        kl = (t * (t.log() - s.log())).sum(-1).mean()
        expected = 0.3 * functional.cross_entropy(student(x), y) + 0.7 * 9 * kl
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_a_task_is_taught_by_its_own_network_sample_by_sample(clouds: TrainingTask) -> None:
    student, x = small().eval(), clouds.example.repeat(4, 1) + torch.arange(4)[:, None] / 4
    y = torch.tensor([0, 1, 2, 0])
    task = taught(clouds, temperature=2.0, weight=0.25)
    with torch.no_grad():
        found = task.loss(student, x, y)
        for each, one, label in zip(found, x, y, strict=True):
            t, s = ((net(one[None])[0] / 2).softmax(0) for net in (clouds.model.eval(), student))
            kl = sum(p * (p / q).log() for p, q in zip(t, s, strict=True))
            cross = -student(one[None])[0].log_softmax(0)[label]
            assert float(each) == pytest.approx(float(0.75 * cross + 0.25 * 4 * kl), rel=1e-4)
    pruned = UnitPruning(shares=(0.5,), retrain=TRAINING).apply(task)
    assert pruned[0].out_features < 24
    for wrong in ({"temperature": 0.0}, {"weight": 1.5}):
        with pytest.raises(ConfigError, match="expected"):
            taught(clouds, **wrong)


def test_a_student_comes_nearer_to_its_teacher_than_labels_alone_bring_it(
    clouds: TrainingTask,
) -> None:
    """Labels drawn at random teach nothing, the teacher does."""
    task = replace(clouds, model=small(), teacher=clouds.model)
    taught = Distillation(training=TRAINING, weight=1.0).apply(task)
    wanted, _ = outputs(clouds.model, clouds.choose)
    found, _ = outputs(taught, clouds.choose)
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.9


def test_a_chain_teaches_what_it_has_pruned(clouds: TrainingTask) -> None:
    told: list[str] = []
    pruning = UnitPruning(shares=(0.4,), retrain=TRAINING)
    chain = Chain(methods=(pruning, Distillation(training=TRAINING)))
    found = chain.apply(clouds, progress=told.append)
    assert found[0].out_features < clouds.model[0].out_features
    assert sum("distillation" in line for line in told) == 3


def test_what_was_pruned_stays_zero_and_what_was_never_learned_is_learned(
    clouds: TrainingTask,
) -> None:
    pruning = MagnitudePruning(by="global", targets=(0.6,), retrain=TRAINING)
    sparse = pruning.apply(clouds)
    chain = Chain(methods=(pruning, Distillation(training=TRAINING)))
    found = chain.apply(clouds)
    assert list(found.state_dict()) == list(clouds.model.state_dict())
    for number in (0, 3):
        assert torch.equal(found[number].weight == 0, sparse[number].weight == 0)
    assert not torch.equal(found[0].weight, sparse[0].weight)
    fresh = small()
    nn.init.zeros_(fresh[3].weight)
    learned = Distillation(training=TRAINING).apply(
        replace(clouds, model=fresh, teacher=clouds.model)
    )
    assert learned[3].weight.count_nonzero() == 18


def test_up_to_a_cut_the_tail_stays_the_teachers(clouds: TrainingTask) -> None:
    student = copy.deepcopy(clouds.model)
    with torch.no_grad():
        student[0].weight.normal_()
    task = replace(clouds, model=student, teacher=clouds.model)
    found = Distillation(training=TRAINING, cut="1").apply(task)
    assert torch.equal(found[3].weight, clouds.model[3].weight)
    x, _ = next(clouds.choose.batches(0))
    before, after = (
        float((net[:2](x) - clouds.model[:2](x)).square().mean().detach())
        for net in (student, found)
    )
    assert after < before / 2
    assert all(parameter.requires_grad for parameter in found.parameters())


def test_normalisation_of_the_tail_is_frozen_too() -> None:
    model = nn.Sequential(
        nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
    )
    assert _freeze_after_(model, "1", torch.zeros(2, 4)) == ("2", "3", "4")
    assert [p.requires_grad for p in model.parameters()] == [True] * 4 + [False] * 6


def test_what_cannot_be_taught_is_refused(clouds: TrainingTask) -> None:
    with pytest.raises(ConfigError, match="no teacher"):
        Distillation(training=TRAINING).apply(clouds)
    task = replace(clouds, model=small(), teacher=clouds.model)
    for cut, words in (("nowhere", "no layer"), ("1", "one shape"), ("3", "leave cut out")):
        with pytest.raises(ModelError, match=words):
            Distillation(training=TRAINING, cut=cut).apply(task)
    for change in ({"temperature": 0.0}, {"weight": 1.5}, {"feature_weight": -1.0}):
        with pytest.raises(ConfigError):
            replace(Distillation(training=TRAINING), **change)  # type: ignore[arg-type]
