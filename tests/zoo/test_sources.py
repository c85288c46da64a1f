"""A model's name becomes ONNX that answers as torch does, with the batch left open."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import nn

from narrows.errors import (
    ConfigError,
    InputError,
    MissingExtra,
    ModelError,
    NarrowsError,
    StorageError,
)
from narrows.preprocess import preset as named_preset
from narrows.zoo import libraries, preset, resolve, resolve_for
from narrows.zoo.efficientnet_lite import LITES
from narrows.zoo.export import export


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NARROWS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def answers(proto: onnx.ModelProto | Path, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    source = str(proto) if isinstance(proto, Path) else proto.SerializeToString()
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


class Residual(nn.Module):
    """A convolution with normalisation, a residual sum, a shape taken at run time."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.body = nn.Conv2d(4, 4, 1)
        self.act = nn.ReLU6()
        self.head = nn.Linear(4 * 8 * 8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.stem(x))
        x = self.act(x + self.body(x))
        return self.head(x.reshape(x.shape[0], -1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


@pytest.mark.parametrize(("module", "shape"), [(Residual(), (3, 8, 8)), (Recurrent(), (20, 6))])
def test_an_export_answers_as_the_module_for_any_batch(
    module: nn.Module, shape: tuple[int, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    for parameter in module.buffers():
        if parameter.dtype == torch.float32:
            parameter.data.uniform_(0.5, 1.5)
    module.train()
    proto = export(module, shape)
    assert module.training
    assert capfd.readouterr() == ("", "")
    onnx.checker.check_model(proto, full_check=True)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert (proto.graph.input[0].name, proto.graph.output[0].name) == ("input", "output")
    for batch in (1, 2, 5):
        x = np.random.default_rng(batch).normal(size=(batch, *shape)).astype(np.float32)
        with torch.no_grad():
            expected = module.eval()(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(answers(proto, x), expected, rtol=0, atol=1e-5)


def test_tensors_are_named_after_modules_and_no_path_is_left() -> None:
    proto = export(Residual(), (3, 8, 8))
    names = [node.output[0] for node in proto.graph.node]
    assert [node.name for node in proto.graph.node] == names
    assert {"stem.1", "act", "body", "add", "act_2"} <= set(names)
    assert len(set(names)) == len(names)
    assert "batchnormalization" not in {node.op_type.lower() for node in proto.graph.node}
    written = proto.SerializeToString()
    for private in (__file__, str(Path.cwd()), sys.prefix, "stack_trace"):
        assert private.encode() not in written


def test_lite0_has_its_weights_at_another_size_and_is_exported_once(cache: Path) -> None:
    path = resolve("zoo:efficientnet_lite0?size=64")
    written = path.stat().st_mtime_ns
    assert resolve("zoo:efficientnet_lite0?size=64") == path
    assert path.stat().st_mtime_ns == written
    assert [file.parent for file in cache.iterdir()] == [cache]
    network = LITES["efficientnet_lite0"].build()
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    x = np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    assert expected.std() > 0.3  # random weights give nearly nothing
    np.testing.assert_allclose(answers(path, x), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_lite_loads_and_has_its_own_preprocessing(number: int) -> None:
    lite = LITES[f"efficientnet_lite{number}"]
    lite.build()
    own, theirs = lite.preprocess(), libraries.timm_preprocess(f"tf_efficientnet_lite{number}")
    assert (own.size, own.resize, own.interpolation) == (
        theirs.size,
        theirs.resize,
        theirs.interpolation,
    )
    assert (own.mean, own.std, own.scale) == ((0.498,), (0.502,), 255.0)


def test_a_library_s_network_repeats_with_its_seed() -> None:
    name = "torchvision:squeezenet1_1?pretrained=0&size=32"
    state = torch.random.get_rng_state()
    path = resolve(name)
    assert torch.equal(torch.random.get_rng_state(), state)
    x = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    first = answers(path, x)
    assert first.shape == (2, 1000)
    path.unlink()
    np.testing.assert_array_equal(answers(resolve(name), x), first)
    assert not np.array_equal(answers(resolve(name + "&seed=1"), x), first)


def test_a_network_of_timm_takes_another_size() -> None:
    network, shape = libraries.timm_network(
        "vit_tiny_patch16_224", size=32, pretrained=False, seed=0
    )
    assert shape == (3, 32, 32)
    assert network(torch.zeros(1, *shape)).shape == (1, 1000)


@pytest.mark.parametrize(
    "name", ["resnet50", "mobilenetv3_small_100", "vit_tiny_patch16_224", "inception_v3"]
)
def test_timm_s_own_transform_is_reproduced(name: str) -> None:
    config = timm.data.resolve_data_config({}, model=timm.create_model(name))
    ours, theirs = preset(f"timm:{name}"), timm.data.create_transform(**config)
    image = photograph()
    np.testing.assert_allclose(
        ours.to_input(ours.pixels(image)), theirs(image).numpy(), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "efficientnet_b0", "inception_v3"])
def test_torchvision_s_own_transform_is_reproduced(name: str) -> None:
    theirs = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    ours, image = preset(f"torchvision:{name}"), photograph()
    np.testing.assert_allclose(
        ours.to_input(ours.pixels(image)), theirs(image).numpy(), rtol=0, atol=1e-5
    )


def photograph() -> Image.Image:
    coarse = np.random.default_rng(1).integers(0, 256, (11, 13, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((640, 427), Image.Resampling.BICUBIC)


def test_model_and_task_fill_in_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sizes_from_task.py").write_text(
        "from torch import nn\ndef net(): return nn.Linear(7, 2)\n"
    )
    np.savez("d.npz", x=np.eye(8)[:, :7], y=np.arange(8) % 2)
    Path("t.toml").write_text("[data]\nkind = 'array'\nall = 'd.npz'\n")
    proto, task = resolve_for("sizes_from_task:net", "t.toml")
    assert answers(proto, task.inputs(task.report, 0, 3)[0]).shape == (3, 2)
    photograph().save("a.png")
    Image.new("RGB", (50, 50)).save("b.png")
    Image.new("RGB", (50, 50), "red").save("c.png")
    Path("t.csv").write_text("a.png,0\nb.png,1\nc.png,2\nd.png,3\n")
    Image.new("RGB", (50, 50), "blue").save("d.png")
    Path("t.toml").write_text("[data]\nall = 't.csv'\n")
    onnx.save(proto, "m.onnx")
    with pytest.raises(NarrowsError, match="nothing says how to prepare"):
        resolve_for("m.onnx", "t.toml")
    _, task = resolve_for("torchvision:squeezenet1_1?pretrained=0&size=32", "t.toml")
    assert task.preprocess == preset("torchvision:squeezenet1_1?size=32")


def test_presets_by_name_at_another_size_and_none_for_a_file() -> None:
    assert preset("zoo:efficientnet_lite0") == named_preset("efficientnet-lite")
    assert preset("zoo:efficientnet_lite0?size=192").resize == 219
    assert preset("torchvision:mobilenet_v2?size=96").size == (96, 96)
    assert preset("flowers.onnx") is None
    assert preset("a.b:c") is None


def test_a_factory_may_give_a_module_a_model_or_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model_factory_here.py").write_text(
        "from pathlib import Path\nimport onnx\nfrom torch import nn\n"
        "def module(): return nn.Linear(4, 2)\n"
        "def proto(): return onnx.load('m.onnx')\n"
        "def path(): return 'm.onnx'\n"
        "def wrong(): return 3\n"
        "def asks(x): return x\n"
        "def odd():\n"
        "    class Odd(nn.Module):\n"
        "        def forward(self, x):\n"
        "            return x if float(x.sum()) > 0 else x + 1\n"
        "    return Odd()\n"
    )
    proto = resolve("model_factory_here:module", input_shape=(4,))
    onnx.save(proto, "m.onnx")
    assert resolve("model_factory_here:proto").graph.output[0].name == "output"
    assert resolve("model_factory_here:path") == Path("m.onnx")
    with pytest.raises(ModelError, match="input shape"):
        resolve("model_factory_here:module")
    with pytest.raises(ModelError, match="gave a int"):
        resolve("model_factory_here:wrong", input_shape=(4,))
    with pytest.raises(ConfigError, match=r"failed with TypeError: .*'x'"):
        resolve("model_factory_here:asks")
    with pytest.raises(ModelError, match=r"cannot export .*odd.*give the \.onnx file"):
        resolve("model_factory_here:odd", input_shape=(4,))


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("flowers.onnx", InputError, "no model file flowers.onnx"),
        ("flowers", InputError, "give a .onnx file"),
        ("zoo:efficientnet_lite0?siz=3", InputError, "unknown option 'siz'"),
        ("zoo:efficientnet_lite0?size=big", InputError, "no whole number"),
        ("zoo:lenet", ModelError, "it has efficientnet_lite0"),
        ("timm:no_such_network", ModelError, "timm has no network"),
        ("torchvision:no_such_network", ModelError, "torchvision has no classifier"),
        ("torchvision:raft_large", ModelError, "torchvision has no classifier"),
        ("no_module_here:net", NarrowsError, "cannot import"),
    ],
)
def test_a_name_that_is_none_is_refused(name: str, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words.replace("?", r"\?")):
        resolve(name)


@pytest.mark.parametrize("missing", ["torch", "timm", "torchvision"])
def test_what_is_not_installed_is_said(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    name = {"torch": "zoo:efficientnet_lite0", "timm": "timm:resnet18"}
    with pytest.raises(MissingExtra, match=r"narrows\[lab\]"):
        resolve(name.get(missing, "torchvision:resnet18?pretrained=0"))


def test_weights_that_are_not_installed_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"narrows\[demo\]"):
        LITES["efficientnet_lite0"].build()
    with pytest.raises(MissingExtra, match=r"narrows\[zoo\]"):
        LITES["efficientnet_lite2"].build()


def test_warnings_and_logs_of_torch_stay_inside() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(nn.Linear(3, 2), (3,))


def test_a_cache_folder_that_cannot_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NARROWS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="its folder is a file"):
        resolve("timm:lcnet_035?pretrained=0&size=32")
