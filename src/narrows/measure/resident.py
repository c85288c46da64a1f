"""Resident memory of this process, as the system counts it. Imports nothing that takes any."""

from __future__ import annotations

from pathlib import Path

from narrows.errors import MeasureError


def resident_bytes(field: str = "VmRSS") -> int:
    """Resident memory of this process: "VmRSS" now, "VmHWM" the most since it began.

    Raises:
        MeasureError: The system does not tell.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        status = ""
    found = [line.split()[1] for line in status.splitlines() if line.startswith(f"{field}:")]
    if not found:
        msg = f"memory cannot be measured: this system has no {field} in /proc/self/status"
        raise MeasureError(msg)
    return int(found[0]) * 1024
