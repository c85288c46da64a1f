import errno
from pathlib import Path

import pytest
from invented_plans import make_plan

from narrows.errors import StorageError
from narrows.report.page import write_page
from narrows.report.scene import gather


def test_a_page_that_found_a_full_disk_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="the disk is full"):
        write_page(gather([make_plan(rates=1)]), tmp_path / "new" / "page")
    assert not list(tmp_path.iterdir())
