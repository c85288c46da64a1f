"""The papers' networks by name, files of networks as models, and what is refused of either."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from narrows.errors import InputError, MissingExtra, ModelError, TaskError
from narrows.store import save_network
from narrows.task import array_task
from narrows.train import TrainingTask
from narrows.zoo import parse, preset, resolve
from narrows.zoo.cifar import PREPROCESS
from narrows.zoo.names import Source
from narrows.zoo.papers import PAPERS
from narrows.zoo.sources import network
from narrows.zoo.trainable import torch_network, training_task_of

# Numbers of weights that the papers, or the networks' own examples, count.
WEIGHTS = {
    "lenet5": 430_500,
    "lenet_300_100": 266_200,
    "deepiot_vgg": 29_693_632,
    "deepsense": 472_592,
    "bilstm": 2 * (100 + 128 * 4 + 5 * 128) * 512 + 256 * 11,
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NARROWS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_s_network_has_its_weights_and_takes_its_input(name: str) -> None:
    if name == "deepiot_vgg":
        assert preset("zoo:deepiot_vgg") == PREPROCESS
    made, shape = network(f"zoo:{name}?pretrained=0")
    assert sum(p.numel() for p in made.parameters() if p.ndim > 1) == WEIGHTS[name]
    classes = PAPERS[name].classes
    with torch.inference_mode():
        assert made(torch.zeros(1, *shape)).shape[-1] == classes
    assert parse(f"zoo:{name}").is_random


def test_width_and_classes_change_it_and_the_seed_draws_it() -> None:
    name = "zoo:lenet5?pretrained=0&width=0.5&classes=7"
    made, again, other = (network(one)[0] for one in (name, name, f"{name}&seed=1"))
    shapes = [tuple(p.shape) for p in made.parameters() if p.ndim > 1]
    assert shapes == [(10, 1, 5, 5), (25, 10, 5, 5), (250, 400), (7, 250)]
    assert torch.equal(made[0].weight, again[0].weight)
    assert not torch.equal(made[0].weight, other[0].weight)
    halved, _ = network("zoo:cifar_vgg16?pretrained=0&width=0.125&classes=3")
    assert halved[-1][-1].weight.shape == (3, 64)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("zoo:lenet5", r"without weights: give \?weights=.*pretrained=0.*--train"),
        ("zoo:lenet5?pretrained=0&size=32", "takes inputs of 1 × 28 × 28, asked was size=32"),
        ("zoo:lenet5?width=wide", "give a share"),
        ("zoo:lenet5?width=-1", "give a share"),
        ("zoo:efficientnet_lite0?width=0.5", "leave out width=0.5"),
        ("timm:resnet18?classes=3", "only networks of the zoo take classes"),
        ("zoo:lenet6", "it has .*lenet5, .*bilstm"),
    ],
)
def test_what_a_name_cannot_mean_is_told(name: str, words: str) -> None:
    with pytest.raises((InputError, ModelError), match=words):
        resolve(name)


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).eval()


def test_a_file_of_a_network_is_exported_once_for_a_shape(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "model.narrows"
    save_network(tiny(), file)
    assert parse(str(file)) == Source(library="file", name=str(file))
    path = resolve(file, input_shape=(6,))
    x = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    (answers,) = ort.InferenceSession(path).run(None, {"input": x})
    with torch.inference_mode():
        assert np.allclose(answers, tiny()(torch.from_numpy(x)).numpy(), atol=1e-6)
    before = path.stat().st_mtime_ns
    assert resolve(file, input_shape=(6,)) == path
    assert path.stat().st_mtime_ns == before
    with torch.no_grad():
        changed = tiny()
        changed[0].bias += 1
    save_network(changed, file)
    assert resolve(file, input_shape=(6,)) != path
    assert len(list(cache.glob("*.onnx"))) == 2
    with pytest.raises(ModelError, match=r"input shape of .* is not known: give a task"):
        resolve(file)
    with pytest.raises(InputError, match=r"no model file .*\.narrows file"):
        resolve(tmp_path / "none.narrows", input_shape=(6,))


def test_a_file_of_a_network_needs_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.narrows"
    save_network(tiny(), file)
    monkeypatch.setitem(__import__("sys").modules, "narrows.store", None)
    with pytest.raises(MissingExtra, match="lab"):
        resolve(file, input_shape=(6,))


_MODULE = """
import numpy as np
from torch import nn
from narrows.task import array_task
from narrows.train import training_task

def task():
    x = np.random.default_rng(0).normal(size=(40, 1, 28, 28)).astype(np.float32)
    return array_task("noise", x, np.arange(40) % 10)

def whole():
    return training_task(task(), nn.Flatten())

def number():
    return 3
"""


def test_a_network_and_its_task_are_ready_to_be_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "papers_noise.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    asked = training_task_of("zoo:lenet5", "papers_noise:task", batch_size=5, untrained=True)
    assert isinstance(asked, TrainingTask)
    assert asked.example.shape == (1, 1, 28, 28)
    x, y = next(iter(asked.fit.batches(0)))
    with torch.inference_mode():
        assert asked.loss(asked.model, asked.fit.prepare(x), y).shape == (5,)
    assert training_task_of("papers_noise:whole", None).task.name == "noise"
    with pytest.raises(TaskError, match="leave the task out"):
        training_task_of("papers_noise:whole", "papers_noise:task")
    with pytest.raises(TaskError, match="give a task"):
        training_task_of("zoo:lenet5?pretrained=0", None)
    with pytest.raises(ModelError, match="gives a int"):
        torch_network("papers_noise:number")
    with pytest.raises(InputError, match="names no torch network"):
        torch_network("some.onnx")


def test_strings_are_learnt_with_ctc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from narrows.zoo import trainable
    from narrows.zoo.bilstm import ctc

    x = np.random.default_rng(0).normal(size=(12, 56, 26)).astype(np.float32)
    spoken = array_task("spoken", x, np.tile([1, 2, 0], (12, 1)), metric="wer")
    monkeypatch.setattr(trainable, "load_task", lambda task, *, preprocess: spoken)
    asked = training_task_of("zoo:bilstm?width=0.05", "spoken:task", untrained=True)
    assert asked.loss is ctc
