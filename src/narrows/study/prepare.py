"""Every model of a study made beforehand, on a machine that need not be quiet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from narrows.errors import NarrowsError, StorageError
from narrows.study.cells import Cell
from narrows.study.models import open_network, variant_file
from narrows.study.record import FailedRecord
from narrows.study.session import OUT_OF_MEMORY
from narrows.study.settings import ORIGINAL, StudySettings

MODELS: Final = "models"
Progress = Callable[[str, int, int], None]


def prepare_study(
    settings: StudySettings, folder: Path, *, progress: Progress = lambda what, done, total: None
) -> tuple[FailedRecord, ...]:
    """Export and make every model that is missing, and measure nothing.

    Making models needs no quiet machine; measuring does.

    Returns:
        For each network or variant that cannot be made, why; nothing of it is recorded.

    Raises:
        StorageError: The disk is full.
    """
    failed = []
    models = folder / MODELS
    for number, network in enumerate(settings.networks):
        progress(f"prepare {network.name}", number, len(settings.networks))
        variant = ORIGINAL
        try:
            found = open_network(network, models)
            for one in network.variants:
                variant = one.name
                variant_file(found, one, models, lambda what: None)
        except StorageError:
            raise
        except Exception as error:
            # Exporters and quantizers raise errors of every kind; the other networks go on.
            cell = Cell(network=network.name, variant=variant, runtime="", threads=0)
            failed.append(FailedRecord(cell=cell, key="", reason=reason_of(error)))
    return tuple(failed)


def reason_of(error: Exception) -> str:
    """What a record of a failure says."""
    if isinstance(error, MemoryError):
        return OUT_OF_MEMORY
    told = " ".join(str(error).split())
    return told if isinstance(error, NarrowsError) else f"{type(error).__name__}: {told}"
