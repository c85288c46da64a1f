"""What a study measures, cell by cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, final

from narrows.references import is_model_file
from narrows.study.settings import ORIGINAL, TORCH, NetworkSettings, StudySettings

_TITLES: Final[Mapping[str, str]] = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "litert": "LiteRT",
    TORCH: "PyTorch eager",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cell:
    """One thing to measure.

    Args:
        network: Name of the network.
        variant: Name of its variant.
        runtime: Name of the backend, or "torch" for the eager baseline.
        threads: Threads inside one inference.
    """

    network: str
    variant: str
    runtime: str
    threads: int

    def __str__(self) -> str:
        """As progress and messages name it."""
        return f"{self.network} · {self.variant} · {self.runtime} · {threads_text(self.threads)}"


def runtime_title(runtime: str) -> str:
    """What a reader sees of a runtime.

    Example:
        >>> runtime_title("onnxruntime"), runtime_title("torch")
        ('ONNX Runtime', 'PyTorch eager')
    """
    return _TITLES.get(runtime, runtime)


def threads_text(threads: int) -> str:
    """A number of threads in words.

    Example:
        >>> threads_text(1), threads_text(2)
        ('1 thread', '2 threads')
    """
    return f"{threads} thread{'' if threads == 1 else 's'}"


def cells(settings: StudySettings) -> tuple[Cell, ...]:
    """Every cell, network by network, and in a network one session after another."""
    return tuple(cell for network in settings.networks for cell in _cells(settings, network))


def _cells(settings: StudySettings, network: NetworkSettings) -> Iterator[Cell]:
    # A file says nothing about the network PyTorch would run.
    has_baseline = settings.baseline is not None and not is_model_file(network.model)
    for threads in settings.threads:
        for variant in network.variants:
            for runtime in settings.runtimes:
                yield Cell(
                    network=network.name, variant=variant.name, runtime=runtime, threads=threads
                )
        if has_baseline:
            yield Cell(network=network.name, variant=ORIGINAL, runtime=TORCH, threads=threads)
