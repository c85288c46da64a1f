"""A child process and the pipes to it: it answers in time and in its words, or it is ended.

Whatever it writes on standard error is kept for the message, and read while an answer is awaited,
so that a child that prints a lot does not wait for somebody to read it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from narrows.errors import MeasureError

_LARGEST_ANSWER = 512 << 20
_GOODBYE_S = 2.0
_KEPT_ERRORS = 4000


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What a worker says of its own start.

    Args:
        import_s: Importing the runtime.
        load_s: Loading the model.
        first_s: The first inference.
        base_bytes: Resident memory with the runtime imported and no model; None where unknown.
        peak_bytes: Most resident memory until the first inference was done; None where unknown.
    """

    import_s: float
    load_s: float
    first_s: float
    base_bytes: int | None
    peak_bytes: int | None


@final
class Child:
    """One process and the pipes to it.

    Args:
        name: What messages call it.
        command: Starts it; it must speak as `narrows.measure.worker.serve` does.
        limit_s: How long it may take to greet.

    Raises:
        MeasureError: It does not start; its last line says why.
    """

    def __init__(self, name: str, command: Sequence[str], limit_s: float) -> None:
        self._name = name
        self._errors = b""
        try:
            # Its own session: Ctrl-C reaches the parent, which closes its children in order.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            msg = f"{name}: {command[0]} cannot be started ({error.strerror}): check the command"
            raise MeasureError(msg) from None
        with self._closed_on_error():
            self.greeting = Greeting(**self._answer(limit_s)["greeting"])

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def ask(self, request: Mapping[str, object], limit_s: float) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        assert self._process.stdin is not None
        with self._closed_on_error():
            with contextlib.suppress(BrokenPipeError):  # its end is told when the answer is read
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
            return self._answer(limit_s)

    def close(self) -> None:
        """End the process: politely, then by force."""
        process = self._process
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        process.terminate()
        try:
            process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            pipe.close()  # type: ignore[union-attr]

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:  # Ctrl-C too: no process is left behind
            self.close()
            raise

    def _answer(self, limit_s: float) -> dict[str, Any]:
        line = self._line(limit_s)
        try:
            found = json.loads(line)
        except ValueError:
            msg = f"{self._name}: its worker process said {line[:60]!r}, which is no JSON"
            raise MeasureError(msg) from None
        if not isinstance(found, dict) or "error" in found:
            told = found["error"] if isinstance(found, dict) else f"it answered {line[:60]!r}"
            raise MeasureError(f"{self._name}: {told}")
        return found

    def _line(self, limit_s: float) -> bytes:
        """The next line of standard output; what comes on standard error is kept meanwhile."""
        out, errors = self._process.stdout, self._process.stderr
        assert out is not None
        assert errors is not None
        until_s = time.monotonic() + limit_s
        parts: list[bytes] = []
        size = 0
        with selectors.DefaultSelector() as ready:
            ready.register(out, selectors.EVENT_READ)
            ready.register(errors, selectors.EVENT_READ)
            while True:
                events = ready.select(max(0.0, until_s - time.monotonic()))
                if not events:
                    self._give_up(limit_s)
                for key, _ in events:
                    data = os.read(key.fd, 1 << 16)
                    if key.fileobj is errors:
                        self._errors = (self._errors + data)[-_KEPT_ERRORS:]
                        if not data:
                            ready.unregister(errors)
                        continue
                    parts.append(data)
                    size += len(data)
                    if data.endswith(b"\n"):
                        return b"".join(parts)
                    if not data or size > _LARGEST_ANSWER:
                        self._ended(size)

    def _give_up(self, limit_s: float) -> None:
        msg = (
            f"{self._name}: its worker process did not answer within {limit_s:.0f} s: is the model"
            " too large for this machine?"
        )
        raise MeasureError(msg)

    def _ended(self, size: int) -> None:
        if size > _LARGEST_ANSWER:
            msg = f"{self._name}: its worker process answers without end: ask for shorter rounds"
            raise MeasureError(msg)
        try:
            rest = self._process.communicate(timeout=_GOODBYE_S)[1]
        except subprocess.TimeoutExpired:
            rest = b""
        told = (self._errors + rest).decode(errors="replace").strip().splitlines()
        code = self._process.returncode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        why = told[-1].strip() if told else "it said nothing; was memory short?"
        msg = f"{self._name}: its worker process ended ({how}: {why}); run it alone to see more"
        raise MeasureError(msg)
