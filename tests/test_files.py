from __future__ import annotations

import errno
from pathlib import Path

import pytest

from narrows.errors import StorageError
from narrows.files import check_writable, folders, write_atomic


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_path_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    check_writable(tmp_path / "f")
    assert not list(tmp_path.iterdir())
    (tmp_path / "f").write_text("old")
    check_writable(tmp_path / "f")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("f", "old")]


def test_a_full_disk_is_seen_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="the disk is full"):
        check_writable(tmp_path / "f")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"), [("", "folder of that name"), ("a/b", "does not exist")]
)
def test_a_path_that_is_no_file_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        check_writable(tmp_path / name)


def test_folders_stay_where_something_is_in_them(tmp_path: Path) -> None:
    with folders(tmp_path / "a" / "b", tmp_path / "a" / "c"):
        write_atomic(tmp_path / "a" / "b" / "f", "x")
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"b", "c"}
    with pytest.raises(ValueError, match="later"), folders(tmp_path / "a" / "b" / "d"):
        raise ValueError("later")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["f"]


def test_empty_folders_go_again_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.setattr("os.fsync", full)
    asked = (tmp_path / "there" / "new" / "deep", tmp_path / "there")
    with pytest.raises(StorageError, match="the disk is full"), folders(*asked):
        write_atomic(asked[0] / "f", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert not list((tmp_path / "there").iterdir())


def test_a_folder_that_cannot_be_made_leaves_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    asked = (tmp_path / "new" / "one", tmp_path / "file" / "two")
    with pytest.raises(StorageError, match="its folder is a file"), folders(*asked):
        pytest.fail("entered without a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
