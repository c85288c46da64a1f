from __future__ import annotations

from pathlib import Path

import pytest

from narrows.runtime.bundle import Bundle
from narrows.testing.bundles import tiny_bundle


@pytest.fixture(scope="session")
def split_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "split", coder="huffman")


@pytest.fixture(scope="session")
def every_bundle(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder: Path = tmp_path_factory.mktemp("bundles")
    routes = ("split", "jpeg", "webp", "avif", "raw", "pixels", "local")
    return {route: tiny_bundle(folder / route, route=route) for route in routes}
