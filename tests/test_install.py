"""The base install is small, brings no torch, and is enough for everything on an ONNX file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from sklearn.datasets import load_digits

ROOT = Path(__file__).parent.parent
LARGEST_BYTES = 260_000_000
TOOLS = {"pip", "setuptools", "pkg_resources", "_distutils_hack"}
# What the base install must do without: the extras' packages.
EXTRAS = (
    *("torch", "torchvision", "timm", "sympy", "onnxscript", "array_api_compat"),
    *("plotly", "matplotlib", "scipy"),
    *("openvino", "ai_edge_litert", "mlperf_loadgen", "pynvml", "numba", "llvmlite"),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with narrows and nothing else."""
    folder = tmp_path_factory.mktemp("base")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / name, source)
    left_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", source / "src", ignore=left_out)
    venv.create(folder / "venv")
    command = [sys.executable, "-m", "pip", "--python", str(folder / "venv"), "install", "--quiet"]
    command += ["--disable-pip-version-check", "--constraint", str(source / "constraints.txt")]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "venv"


def test_the_base_install_is_under_260_mb(base: Path) -> None:
    packages = next((base / "lib").glob("python*/site-packages"))
    sizes: dict[str, int] = {}
    for path in packages.rglob("*"):
        name = path.relative_to(packages).parts[0].partition("-")[0]
        if path.is_file() and name not in TOOLS:
            sizes[name] = sizes.get(name, 0) + path.stat().st_size
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:8]
    assert sum(sizes.values()) < LARGEST_BYTES, largest


def test_it_brings_no_package_of_an_extra(base: Path) -> None:
    code = (
        f"import importlib.util as u; print([n for n in {EXTRAS!r} if u.find_spec(n)]);"
        "import narrows.cli, narrows.task, narrows.coding, narrows.graph, narrows.measure.latency;"
        "import narrows.binary"
    )
    done = subprocess.run(
        [base / "bin" / "python", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_source_that_needs_torch_says_what_to_install(base: Path) -> None:
    done = subprocess.run(
        [base / "bin" / "narrows", "inspect", "torchvision:resnet18"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'narrows[lab]'" in done.stderr


def network(x: np.ndarray, y: np.ndarray) -> onnx.ModelProto:
    """Convolution and pooling with a read-out of their features fitted by least squares."""
    text = """<ir_version: 10, opset_import: ["" : 20]>
        net (float[batch, 1, 8, 8] input) => (float[batch, 10] output, float[batch, 384] flat) {
            wide = Conv <pads = [1, 1, 1, 1]> (input, kernel)
            positive = Relu (wide)
            small = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (positive)
            flat = Flatten (small)
            output = Gemm (flat, weight, bias)
        }"""
    proto = onnx.parser.parse_model(text)
    kernel = np.random.default_rng(0).normal(size=(24, 1, 3, 3))
    constants = {"kernel": kernel, "weight": np.zeros((384, 10)), "bias": np.zeros(10)}
    for fitted in (False, True):
        tensors = [
            onnx.numpy_helper.from_array(value.astype(np.float32), name)
            for name, value in constants.items()
        ]
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(tensors)
        if not fitted:
            session = ort.InferenceSession(proto.SerializeToString())
            flat = session.run(["flat"], {"input": x})[0]
            wanted = 20 * np.eye(10)[y]  # as far apart as a trained network's logits
            ridge = 10 * np.eye(flat.shape[1])
            constants["weight"] = np.linalg.solve(flat.T @ flat + ridge, flat.T @ wanted)
    del proto.graph.output[1]
    return proto


@pytest.fixture(scope="module")
def work(base: Path) -> Path:
    """A folder with an ONNX file, a task and a few samples."""
    folder = base.parent / "work"
    folder.mkdir()
    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    onnx.save(network(x[:900], y[:900]), folder / "net.onnx")
    np.savez(folder / "digits.npz", x=x[900:1500], y=y[900:1500])
    (folder / "task.toml").write_text('[data]\nkind = "array"\nall = "digits.npz"\n')
    for number in range(3):
        np.save(folder / f"{number}.npy", x[1500 + number])
    return folder


def narrows(base: Path, work: Path, *arguments: str) -> str:
    """Run one command of the base install; give what it printed."""
    command = [str(base / "bin" / "narrows"), *arguments]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_plan_deploy_serve_and_run_work_on_an_onnx_file(base: Path, work: Path) -> None:
    choice = ["--device", "esp32-s3", "--link", "ble", "--rates", "2", "--max-drop", "1"]
    narrows(base, work, "plan", "net.onnx", "--task", "task.toml", "-o", "plan", *choice)
    rows = json.loads((work / "plan" / "plan.json").read_text())["candidates"]
    splits = [row for row in rows if row["route"] == "split"]
    best = max(splits, key=lambda row: row["choose"]["agreement"])["id"]
    narrows(base, work, "deploy", "plan", "-o", "bundle", "--candidate", best)
    command = [str(base / "bin" / "narrows"), "serve", "bundle", "--port", "0", "--json"]
    with subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())["address"]
            files = ["0.npy", "1.npy", "2.npy"]
            options = ["--server", address, "--no-local", "--deadline", "0", "--json"]
            answers = narrows(base, work, "run", "bundle", *files, *options).splitlines()
        finally:
            server.terminate()
    found = [json.loads(line) for line in answers]
    assert [answer["route"] for answer in found] == ["split"] * 3
    session = ort.InferenceSession(work / "net.onnx")
    samples = np.stack([np.load(work / file) for file in files])
    whole = session.run(None, {"input": samples})[0].argmax(axis=1)
    assert [answer["top"][0][0] for answer in found] == whole.tolist()
