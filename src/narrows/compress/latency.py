"""What units cost in time: the smaller network is made, and timed beside the original."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Final, final

import torch
from torch import Tensor, nn

from narrows.compress.costs import Cost, Costs, UnitCosts
from narrows.compress.removal import remove_units
from narrows.compress.units import Found, find
from narrows.errors import ModelError
from narrows.files import write_atomic
from narrows.measure.latency import Schedule, compare
from narrows.measure.workers import open_contender

LATENCIES: Final = "latencies.json"
QUICK: Final = Schedule(rounds=12, session_s=1.0, limit_s=10.0, respawns=1)


@final
class MeasuredLatency(Costs):
    """Latency in ONNX Runtime, one sample and one thread, on the machine that this runs on.

    The units are removed for real, the network is exported and timed in the same rounds as the
    original; the answer is the ratio of the two. Networks of equal shapes are timed once. What was
    timed is kept in a journal, so that a search that is taken up again hears the same numbers.

    Args:
        model: The network that was analysed.
        example: An input.
        original: The network that shares are of; by default the same.
        journal: A JSON file; None keeps nothing.
        schedule: How long and how often is timed.

    Raises:
        ModelError: The journal cannot be read.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Tensor,
        *,
        original: nn.Module | None = None,
        journal: Path | None = None,
        schedule: Schedule = QUICK,
    ) -> None:
        self._model = model
        self._example = example[:1].cpu()
        self._original = model if original is None else original
        self._exported: bytes | None = None
        self._journal = journal
        self._schedule = schedule
        self._known: dict[str, float] = {}
        if journal is not None and journal.exists():
            try:
                self._known = json.loads(journal.read_text())
            except ValueError:
                msg = f"{journal} cannot be read: remove it, and what is in it is timed anew"
                raise ModelError(msg) from None

    def left(self, keep: Mapping[str, Tensor]) -> float:
        """Share (0–1) of the original's latency that is left, as it was measured.

        Raises:
            ModelError: The smaller network cannot be made or exported.
            MeasureError: It cannot be run.
        """
        units = {name: stays.nonzero().flatten().tolist() for name, stays in keep.items()}
        smaller = remove_units(self._model, self._example, units)
        shapes = {name: tuple(each.shape) for name, each in smaller.state_dict().items()}
        key = hashlib.sha256(json.dumps(shapes).encode()).hexdigest()
        if key not in self._known:
            self._known[key] = self._timed(smaller)
            if self._journal is not None:
                write_atomic(self._journal, json.dumps(self._known, indent=1) + "\n")
        return self._known[key]

    def _timed(self, smaller: nn.Module) -> float:
        if self._exported is None:
            self._exported = _exported(self._original, self._example)
        files = {"original": self._exported, "smaller": _exported(smaller, self._example)}
        with (
            tempfile.TemporaryDirectory(prefix="narrows-") as place,
            ExitStack() as stack,
        ):
            contenders = {}
            for name, content in files.items():
                path = Path(place) / f"{name}.onnx"
                path.write_bytes(content)
                contenders[name] = stack.enter_context(open_contender(path, name=name))
            taken = compare(contenders, schedule=self._schedule)
        return taken.ratio("smaller", "original").estimate


def costs_of(
    cost: Cost,
    model: nn.Module,
    found: Found,
    example: Tensor,
    *,
    original: nn.Module | None = None,
    journal: Path | None = None,
) -> Costs:
    """What the units of a network cost.

    Args:
        cost: Of which kind.
        model: The network that was analysed.
        found: Its units.
        example: An input.
        original: The network that shares are of; by default the same.
        journal: Where measured latencies are kept.
    """
    if cost == "latency":
        return MeasuredLatency(model, example, original=original, journal=journal)
    if original is None or original is model:
        return UnitCosts(model, found, example, cost)
    whole = UnitCosts(original, find(original, example), example, cost).whole
    return UnitCosts(model, found, example, cost, whole=whole)


def _exported(model: nn.Module, example: Tensor) -> bytes:
    """The network as ONNX, for the runtime's eyes only."""
    still = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format).eval()
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            # A search in mixed precision asks from inside of it, and would export its casts.
            with torch.autocast("cpu", enabled=False):
                program = torch.onnx.export(still, (example,), dynamo=True, verbose=False)
        content: bytes = program.model_proto.SerializeToString()
    except Exception as error:
        # The exporter raises its own and torch's errors of many kinds.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        msg = f"{type(model).__name__} cannot be timed: its export to ONNX failed ({reason})"
        raise ModelError(f"{msg}; take another cost than latency") from error
    finally:
        logging.disable(logging.NOTSET)
    return content
