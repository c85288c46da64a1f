"""What a number was measured on, and whether two numbers may be compared.

Latencies of two machines, governors or runtime versions are different quantities. Every record
carries an `Environment`; its `key` is equal exactly where a comparison is allowed.
"""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import final

# Instruction sets that decide which kernel a runtime picks; others do not change a latency.
_KERNEL_FLAGS = frozenset(
    {"sse4_1", "avx", "fma", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16"}
    | {"amx_int8", "amx_bf16", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2", "neon"}
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The machine and the software of a measurement.

    Args:
        cpu_model: As the operating system names it.
        cores: Logical cores this process may use.
        architecture: "x86_64", "aarch64", ...
        cpu_flags: The instruction sets that kernels are chosen by, sorted.
        memory_bytes: Physical memory; 0 where it is unknown.
        governor: Frequency governor of the first core, or None where there is none (most guests).
        max_frequency_hz: Highest frequency of the first core, or None where unknown.
        threads: Threads the measured thing was allowed.
        system: Operating system and kernel.
        python, numpy, onnxruntime, narrows: Versions.
        load_average_1m: Load before the measurement; never part of `key`.
    """

    cpu_model: str
    cores: int
    architecture: str
    cpu_flags: tuple[str, ...]
    memory_bytes: int
    governor: str | None
    max_frequency_hz: float | None
    threads: int
    system: str
    python: str
    numpy: str
    onnxruntime: str
    narrows: str
    load_average_1m: float

    @property
    def key(self) -> str:
        """Twelve hex digits; equal where two latencies are comparable."""
        parts = (
            self.cpu_model,
            str(self.cores),
            self.architecture,
            *self.cpu_flags,
            self.governor or "",
            str(self.threads),
            self.onnxruntime,
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def environment(*, threads: int = 1, root: Path = Path("/")) -> Environment:
    """Look at this machine.

    Args:
        threads: Threads the measured thing is allowed.
        root: Where /proc and /sys are read; another place in tests.

    Example:
        >>> here = environment()
        >>> here.cores >= 1, len(here.key)
        (True, 12)
    """
    cpu = _cpu_facts(root)
    cpufreq = root / "sys/devices/system/cpu/cpu0/cpufreq"
    max_khz = _text(cpufreq / "cpuinfo_max_freq")
    return Environment(
        cpu_model=cpu.get("model name") or cpu.get("Model") or platform.processor() or "unknown",
        cores=_usable_cores(),
        architecture=platform.machine(),
        cpu_flags=_flags(cpu),
        memory_bytes=_memory_bytes(root),
        governor=_text(cpufreq / "scaling_governor"),
        max_frequency_hz=float(max_khz) * 1e3 if max_khz else None,
        threads=threads,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        numpy=_version("numpy"),
        onnxruntime=_version("onnxruntime"),
        narrows=_version("narrows"),
        load_average_1m=round(os.getloadavg()[0], 2),
    )


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _cpu_facts(root: Path) -> dict[str, str]:
    """First value of every field of /proc/cpuinfo."""
    facts: dict[str, str] = {}
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            facts.setdefault(name.strip(), value.strip())
    return facts


def _flags(cpu: dict[str, str]) -> tuple[str, ...]:
    found = (cpu.get("flags") or cpu.get("Features") or "").split()
    return tuple(sorted(_KERNEL_FLAGS.intersection(found)))


def _memory_bytes(root: Path) -> int:
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
