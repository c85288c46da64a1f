"""Records on disk: one JSON object a line, appended and synced, whole or not there.

A process may be killed, or the disk fill up, in the middle of a line. What such a line lacks is its
end, so a last line without one is dropped: it was never a record. A line that is damaged anywhere
else is an error, because something other than an interruption did that.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, final

from narrows.config import from_dict, to_dict
from narrows.errors import ConfigError, StorageError
from narrows.files import storage_error
from narrows.study.record import FORMAT, FailedRecord, MeasuredRecord, Record

RECORDS: Final = "records.jsonl"
SETTINGS: Final = "study.json"
MODELS: Final = "models"
SCORES: Final = "scores"
_LOCK: Final = ".lock"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """The records of one study.

    Args:
        folder: Of the study; the file in it is `records.jsonl`.
    """

    folder: Path

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / RECORDS

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep other processes from writing to it meanwhile.

        Raises:
            StorageError: The folder cannot be made, or another process measures into it.
        """
        path = self.folder / _LOCK
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = path.open("w")
        except OSError as error:
            raise storage_error(self.folder, error) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                msg = f"another narrows study writes to {self.folder}: wait, or choose another -o"
                raise StorageError(msg) from None
            yield

    def append(self, record: Record) -> None:
        """Add a record; when this returns it is on the disk.

        Raises:
            StorageError: It could not be written; records before it are untouched.
        """
        line = json.dumps({"format": FORMAT} | to_dict(record), ensure_ascii=False, allow_nan=False)
        content = line.encode() + b"\n"
        try:
            with self.path.open("ab") as file:
                start = self._repaired(file)
                try:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.ftruncate(file.fileno(), start)
                    raise
        except OSError as error:
            raise storage_error(self.path, error, len(content)) from error

    def _repaired(self, file: IO[bytes]) -> int:
        """Cut off a last line that has no end; give the length that is left."""
        whole = self.path.read_bytes().rfind(b"\n") + 1
        os.ftruncate(file.fileno(), whole)
        return whole

    def read(self) -> tuple[Record, ...]:
        """All records, oldest first; a last line without an end is left out.

        Raises:
            StorageError: The file is there and cannot be read.
            ConfigError: A line that has an end is no record of this version.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise storage_error(self.path, error) from error
        lines = content.split(b"\n")[:-1]
        return tuple(self._record(number, line) for number, line in enumerate(lines, 1))

    def _record(self, number: int, line: bytes) -> Record:
        where = f"{self.path}, line {number}"
        try:
            data = json.loads(line)
        except ValueError as error:
            msg = f"{where} is not JSON ({error}): it was damaged; remove the line"
            raise ConfigError(msg) from None
        found = data.pop("format", None) if isinstance(data, dict) else None
        if found != FORMAT:
            msg = f"{where} has format {found}, expected {FORMAT}: study into another folder"
            raise ConfigError(msg)
        try:
            if data.get("name") == FailedRecord.name:
                return from_dict(FailedRecord, data)
            return from_dict(MeasuredRecord, data)
        except ConfigError as error:
            msg = f"{where}: {error}"
            raise ConfigError(msg) from None
