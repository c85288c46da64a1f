"""One variable names the folder of one data set, or of several side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from narrows.errors import InputError
from narrows.zoo.data_folder import data_folder


def test_a_folder_of_its_own_comes_before_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NARROWS_DATA", str(tmp_path))
    assert data_folder("digits", "the digits") == tmp_path
    (tmp_path / "digits").mkdir()
    assert data_folder("digits", "the digits") == tmp_path / "digits"


@pytest.mark.parametrize("value", [None, ""])
def test_without_the_variable_it_is_told_which(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NARROWS_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("NARROWS_DATA", value)
    message = "the folder of the digits is not known: set NARROWS_DATA to it"
    with pytest.raises(InputError, match=message):
        data_folder("digits", "the digits")
