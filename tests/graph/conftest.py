from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def benchmark(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The program in benchmarks/ that the test module names by BENCHMARK."""
    source = Path(__file__).parents[2] / "benchmarks" / f"{request.module.BENCHMARK}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{source.stem}", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]
