"""Every model of a study made and judged beforehand, on a machine that need not be quiet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from narrows.errors import StorageError
from narrows.study.cells import Cell
from narrows.study.journal import MODELS
from narrows.study.models import open_network, variant_file
from narrows.study.record import FailedRecord, reason_of
from narrows.study.scores import scores_of
from narrows.study.session import Progress
from narrows.study.settings import ORIGINAL, StudySettings
from narrows.study.todo import chosen


def prepare_study(
    settings: StudySettings,
    folder: Path,
    *,
    only: Sequence[str] = (),
    progress: Progress = lambda what, done, total: None,
) -> tuple[FailedRecord, ...]:
    """Export, make and judge every model that was not before, and time nothing.

    Args:
        settings: The study.
        folder: Where models and scores are kept; made if it is not there.
        only: Names of networks, with `*` and `?`; empty for all.
        progress: Told what is being done, the steps done and to do.

    Returns:
        For each network or variant that cannot be made, why; nothing of it is recorded.

    Raises:
        StorageError: The disk is full.
        ConfigError: `only` names no network.
    """
    failed = []
    models = folder / MODELS
    names = chosen(settings, only)
    networks = [network for network in settings.networks if network.name in names]
    for number, network in enumerate(networks):
        progress(f"prepare {network.name}", number, len(networks))
        variant, files = ORIGINAL, dict[str, Path]()
        try:
            found = open_network(network, models)
            for one in network.variants:
                variant = one.name
                files[one.name] = variant_file(found, one, models, lambda what: None)
            wanted = [(name, runtime) for name in files for runtime in settings.runtimes]
            scores_of(settings, found, files, wanted, folder=folder, progress=progress)
        except StorageError:
            raise
        except Exception as error:
            # Exporters and quantizers raise errors of every kind; the other networks go on.
            cell = Cell(network=network.name, variant=variant, runtime="", threads=0)
            failed.append(FailedRecord(cell=cell, key="", reason=reason_of(error)))
    return tuple(failed)
