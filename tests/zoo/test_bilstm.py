"""The speech network has the weights of DeepIoT's table 4, units, and a loss for each sample."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from narrows.compress import (
    DeepIoT,
    DynamicNetworkSurgery,
    SurgerySettings,
    find_units,
    layer_table,
    remove_units,
)
from narrows.metrics import METRICS
from narrows.store import load_network, save_network
from narrows.task import array_task
from narrows.train import TrainingTask, TrainSettings, outputs, train, training_task
from narrows.zoo.bilstm import BiLSTM, ctc
from narrows.zoo.export import export

FORWARD, BACKWARD = (55, 192, 240, 258, 294), (20, 71, 76, 81, 90)


def test_the_weights_are_those_of_table_4_counted_in_full() -> None:
    with torch.device("meta"):
        large = BiLSTM(20, 29, forward_units=(512,) * 5)
        small = BiLSTM(20, 29, forward_units=FORWARD, backward_units=BACKWARD)
    counts = [sum(p.numel() for p in m.parameters() if p.ndim > 1) for m in (large, small)]
    assert counts == [18_985_984, 1_981_300]


@pytest.mark.parametrize("merge", ["output", "levels"])
def test_both_directions_answer_as_one_lstm_of_pytorch_in_both_directions(merge: str) -> None:
    torch.manual_seed(0)
    model = BiLSTM(3, 4, forward_units=(5, 5), merge=merge).eval()
    whole = torch.nn.LSTM(3, 5, 2, batch_first=True, bidirectional=True)
    x = torch.randn(2, 7, 3)
    if merge == "levels":
        parts = [*zip(model.forwards, model.backwards, strict=True)]
        for level, way in itertools.product(range(2), range(2)):
            for name, value in parts[level][way].named_parameters():
                own = name + ("_reverse" if way else "")
                whole.get_parameter(own.replace("l0", f"l{level}")).data.copy_(value.data)
        expected = whole(x)[0]
    else:
        sides = []
        for layers, seen in ((model.forwards, x), (model.backwards, x.flip(1))):
            for layer in layers:
                seen = layer(seen)[0]
            sides.append(seen)
        expected = torch.cat([sides[0], sides[1].flip(1)], -1)
    assert torch.allclose(model(x), model.out(expected), atol=1e-6)


def test_what_the_fifth_level_gives_varies_as_much_as_what_the_second_gives() -> None:
    torch.manual_seed(0)
    model, seen = BiLSTM(80, 11), torch.randn(16, 40, 80)
    spread = []
    for layer in model.forwards:
        seen = layer(seen)[0]
        spread.append(float(seen.detach().std()))
    assert spread[4] > 0.7 * spread[1]


def test_the_loss_is_that_of_each_sample_over_all_paths() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(3, 4, 3), torch.tensor([[1, 2], [2, 2], [1, 0]])
    likely = x.softmax(-1).numpy()
    for sample, label in enumerate(y.tolist()):
        total = 0.0
        for path in itertools.product(range(3), repeat=4):
            read = [number for number, _ in itertools.groupby(path) if number]
            if read == [number for number in label if number]:
                total += float(np.prod([likely[sample, step, k] for step, k in enumerate(path)]))
        found = ctc(torch.nn.Identity(), x, y)[sample]
        assert float(torch.exp(-found)) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("merge", ["output", "levels"])
def test_its_units_can_be_removed_and_it_is_kept_and_exported(merge: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = BiLSTM(6, 4, forward_units=(8, 8, 8), merge=merge).eval(), torch.randn(2, 9, 6)
    units = find_units(model, x)
    assert [group.size for group in units.groups] == [8] * 6
    assert list(units.refused) == ["out"]
    keep = {group.name: range(2 + n) for n, group in enumerate(units.groups)}
    smaller = remove_units(model, x, keep)
    assert sorted(layer.hidden_size for layer in smaller.forwards + smaller.backwards) == [
        2, 3, 4, 5, 6, 7
    ]  # fmt: skip
    session = onnxruntime.InferenceSession(export(smaller, (9, 6)).SerializeToString())
    with torch.no_grad():
        expected = smaller(x).numpy()
        save_network(smaller, tmp_path / "model.narrows")
        assert np.array_equal(load_network(tmp_path / "model.narrows")(x), expected)
    assert np.allclose(session.run(None, {"input": x.numpy()})[0], expected, atol=1e-5)


def _made() -> TrainingTask:
    """Strings of two symbols, each seen for two of eight steps, with pauses between."""
    rng = np.random.default_rng(0)
    y = np.array([[*rng.integers(1, 3, n), *[0] * (3 - n)] for n in rng.integers(1, 4, 1024)])
    x = np.zeros((1024, 9, 2), np.float32)
    for row, label in zip(x, y, strict=True):
        for place, symbol in enumerate(label[label > 0]):
            row[3 * place : 3 * place + 2, symbol - 1] = 1
    x += 0.1 * rng.normal(size=x.shape).astype(np.float32)
    task = array_task("symbols", x, y, kind="series", metric=METRICS["wer"])
    torch.manual_seed(0)
    model = BiLSTM(2, 3, forward_units=(12, 12))
    return training_task(task, model, loss=ctc, batch_size=16)


def test_it_learns_strings_and_loses_units_or_weights(one_thread: None) -> None:
    made = _made()
    settings = TrainSettings(epochs=12, optimizer="adamw", learning_rate=0.02, clip_norm=5.0)
    trained = train(made, settings, device="cpu")
    assert trained.best.score > -0.05
    made = TrainingTask(
        task=made.task,
        model=trained.model,
        loss=made.loss,
        fit=made.fit,
        choose=made.choose,
        example=made.example,
    )
    short = TrainSettings(epochs=2, optimizer="adamw", learning_rate=0.005)
    smaller = DeepIoT(share=0.5, search=short, finetune=short, learning_rate=0.02).apply(made)
    assert layer_table(smaller, made.model).share_left <= 0.5
    rule = SurgerySettings(c_rate=0.3, iter_stop=4)
    sparse = DynamicNetworkSurgery(training=short, settings=rule).apply(made)
    assert 0.2 < layer_table(sparse).share_left < 0.8
    for model in (smaller, sparse):
        answers, labels = outputs(model, made.choose)
        assert answers.shape == (len(labels), 9, 3)
