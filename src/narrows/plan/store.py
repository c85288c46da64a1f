"""What a plan keeps on disk: tables from which any row can be deployed, and where it stopped.

plan/
├── plan.json                              the record
├── tables/VARIANT/cutN.safetensors        transform, and quantizer and coders of every rate
├── models/VARIANT.onnx                    the checked models
└── progress/                              what an interrupted plan need not do again
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from narrows.config import to_dict, write_atomic
from narrows.errors import PlanError
from narrows.files import storage_error
from narrows.plan.fitted import FittedCut, FittedRate
from narrows.plan.judge import Answers
from narrows.plan.points import Payloads, Point

RECORD: Final = "plan.json"
_METADATA: Final = "narrows"
_FIELDS: Final = ("cut", "block", "threshold")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFolder:
    """The folder of one plan.

    Args:
        path: Where it is.
    """

    path: Path

    def open(self, key: object) -> None:
        """Make the folder, and forget the progress of a plan with another key.

        Args:
            key: Everything that a result depends on; JSON-able.

        Raises:
            StorageError: The folder cannot be made.
        """
        text = json.dumps(to_dict(key), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        mark = self.path / "progress" / "key"
        try:
            if not mark.is_file() or mark.read_text() != digest:
                shutil.rmtree(self.path / "progress", ignore_errors=True)
                shutil.rmtree(self.path / "tables", ignore_errors=True)
            for name in ("progress", "tables", "models"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self.path, error) from error
        write_atomic(mark, digest)

    def close(self) -> None:
        """The plan is whole: its progress is not needed any more."""
        shutil.rmtree(self.path / "progress", ignore_errors=True)

    @property
    def record(self) -> Path:
        """The record's file."""
        return self.path / RECORD

    @property
    def progress(self) -> Path:
        """Where what is not needed afterwards goes."""
        return self.path / "progress"

    def model(self, variant: str) -> Path:
        """The checked model of a variant."""
        return self.path / "models" / f"{slug(variant)}.onnx"

    def tables(self, variant: str, cut: int) -> Path:
        """The tables of one cut."""
        return self.path / "tables" / slug(variant) / f"cut{cut}.safetensors"

    def save_fitted(self, variant: str, fitted: FittedCut) -> None:
        """Write the tables of one cut.

        Raises:
            StorageError: The disk is full.
        """
        arrays: dict[str, NDArray[Any]] = dict(_prefixed("transform", fitted.transform_table))
        for rate in fitted.rates:
            arrays.update(_prefixed(f"r{rate.index}.quantizer", rate.quantizer_table))
            for coder, table in rate.coder_tables.items():
                arrays.update(_prefixed(f"r{rate.index}.coder.{coder}", table))
        facts = {name: getattr(fitted, name) for name in _FIELDS} | {
            "shape": list(fitted.shape),
            "component_shape": list(fitted.component_shape),
            "rates": [[rate.step, rate.step_share] for rate in fitted.rates],
        }
        path = self.tables(variant, fitted.cut)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(path, error) from error
        whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        write_atomic(path, safetensors.numpy.save(whole, {_METADATA: json.dumps(facts)}))

    def load_fitted(self, variant: str, cut: int) -> FittedCut:
        """The tables of one cut.

        Raises:
            PlanError: They are not there or not whole.
        """
        path = self.tables(variant, cut)
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                facts = json.loads(file.metadata()[_METADATA])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            rates = tuple(
                _rate(k, step, share, arrays) for k, (step, share) in enumerate(facts["rates"])
            )
            return FittedCut(
                **{name: facts[name] for name in _FIELDS},
                shape=tuple(facts["shape"]),
                component_shape=tuple(facts["component_shape"]),
                transform_table=_under("transform", arrays),
                rates=rates,
            )
        except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
            msg = f"cannot read the tables of cut {cut} from {path}: {error}; plan again"
            raise PlanError(msg) from None

    def save_point(self, name: str, point: Point) -> None:
        """Keep a finished point, so that an interrupted plan need not run it again.

        Raises:
            StorageError: The disk is full.
        """
        arrays = point.answers.arrays()
        for coder, payloads in point.payloads.items():
            for field in ("sizes", "encode_s", "decode_s"):
                arrays[f"{coder}/{field}"] = getattr(payloads, field)
        path = self._point(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(path, error) from error
        write_atomic(path, safetensors.numpy.save(arrays))

    def load_point(self, name: str) -> Point | None:
        """A point that was kept, or None."""
        path = self._point(name)
        if not path.is_file():
            return None
        arrays = safetensors.numpy.load_file(path)
        coders = sorted({key.split("/")[0] for key in arrays if "/" in key})
        payloads = {
            coder: Payloads(
                sizes=arrays[f"{coder}/sizes"],
                encode_s=arrays[f"{coder}/encode_s"],
                decode_s=arrays[f"{coder}/decode_s"],
            )
            for coder in coders
        }
        answers = Answers(**{name: arrays[name] for name in Answers.__slots__})
        return Point(answers=answers, payloads=payloads)

    def _point(self, name: str) -> Path:
        return self.progress / "points" / f"{slug(name)}.safetensors"


def slug(name: str) -> str:
    """A name as part of a path.

    Example:
        >>> slug("timm:resnet18.a1_in1k")
        'timm-resnet18.a1_in1k'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"


def _prefixed(prefix: str, table: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {f"{prefix}/{name}": array for name, array in table.items()}


def _under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    start = f"{prefix}/"
    return {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}


def _rate(k: int, step: float, share: float, arrays: Mapping[str, NDArray[Any]]) -> FittedRate:
    start = f"r{k}.coder."
    coders = sorted({n.removeprefix(start).split("/")[0] for n in arrays if n.startswith(start)})
    return FittedRate(
        index=k,
        step=step,
        step_share=share,
        quantizer_table=_under(f"r{k}.quantizer", arrays),
        coder_tables={coder: _under(f"{start}{coder}", arrays) for coder in coders},
    )
