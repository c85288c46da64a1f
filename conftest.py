"""Blocks of the manual run in an empty folder of their own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_folder(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if request.node.path.suffix == ".md":
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("NARROWS_CACHE", str(tmp_path_factory.getbasetemp() / "models"))
