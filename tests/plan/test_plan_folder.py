import errno
from pathlib import Path

import pytest

from narrows.errors import StorageError
from narrows.plan.store import PlanFolder


def test_a_plan_that_found_a_full_disk_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="the disk is full"):
        PlanFolder(path=tmp_path / "new" / "plan").open({"key": 1})
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    PlanFolder(path=tmp_path / "new" / "plan").open({"key": 1})
    assert (tmp_path / "new" / "plan" / "tables").is_dir()
