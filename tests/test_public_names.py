"""The public face is one list, every name of it is there, and importing it costs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import narrows


def test_every_public_name_is_there_and_the_lists_agree() -> None:
    assert set(narrows.__all__) == set(narrows._HOMES) | {"__version__"}
    for name in narrows.__all__:
        assert getattr(narrows, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        narrows.nothing  # noqa: B018


def test_type_checkers_see_the_same_names_at_the_same_homes() -> None:
    tree = ast.parse(Path(narrows.__file__).read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: statement.module
        for statement in checked.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen == {name: f"narrows.{home}" for name, home in narrows._HOMES.items()}


def test_importing_narrows_imports_no_other_package() -> None:
    code = "import sys, narrows; print([m for m in ('numpy', 'onnx', 'typer') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_version_is_stated_once_more_in_the_project_file() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    assert project["project"]["version"] == narrows.__version__
