"""narrows fits deep networks into small devices and through thin links.

The names below are the ones most programs need; they are imported when they are first used, so
that `import narrows` costs nothing. Everything else is in the package named after what it does:
`coding`, `graph`, `measure`, `plan`, `runtime`, `report`, `zoo`.
"""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from narrows.errors import NarrowsError
    from narrows.metrics import Metric
    from narrows.plan.record import PlanRecord
    from narrows.preprocess import Preprocess
    from narrows.runtime.bundle import Bundle, read_bundle
    from narrows.runtime.cloud import CloudService
    from narrows.runtime.edge import EdgeClient
    from narrows.task import Task, array_task, load_task

__version__: Final = "0.1.0"

__all__ = [
    "Bundle",
    "CloudService",
    "EdgeClient",
    "Metric",
    "NarrowsError",
    "PlanRecord",
    "Preprocess",
    "Task",
    "__version__",
    "array_task",
    "load_task",
    "read_bundle",
]

_HOMES: Final = MappingProxyType(
    {
        "Bundle": "runtime.bundle",
        "CloudService": "runtime.cloud",
        "EdgeClient": "runtime.edge",
        "Metric": "metrics",
        "NarrowsError": "errors",
        "PlanRecord": "plan.record",
        "Preprocess": "preprocess",
        "Task": "task",
        "array_task": "task",
        "load_task": "task",
        "read_bundle": "runtime.bundle",
    }
)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        msg = f"module 'narrows' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"narrows.{_HOMES[name]}"), name)
