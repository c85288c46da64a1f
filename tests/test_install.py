"""The base install is small, brings no torch, and is enough for everything on an ONNX file."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LARGEST_BYTES = 260_000_000
TOOLS = {"pip", "setuptools", "pkg_resources", "_distutils_hack"}
# What the base install must do without: the extras' packages.
EXTRAS = ("torch", "torchvision", "timm", "sympy", "onnxscript", "plotly", "matplotlib", "scipy")


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
        "import narrows.cli, narrows.task, narrows.coding, narrows.graph, narrows.measure.latency"
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
