"""What a plan keeps on disk: tables from which any row can be deployed, and where it stopped.

plan/
├── plan.json                              the record
├── tables/VARIANT/cutN.safetensors        transform, and quantizer and coders of every rate
├── models/VARIANT.onnx                    the checked models, and the packed files of those
│                                          that were packed (VARIANT.narrows)
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

from narrows.coding.transforms import BlockedPCA, SeparableKLT
from narrows.config import from_dict, read_json, to_dict, write_atomic, write_json
from narrows.errors import NarrowsError, PlanError
from narrows.files import folders, storage_error
from narrows.packed import SUFFIX
from narrows.plan.fitted import FittedCut, FittedRate, MapTransform
from narrows.plan.judge import Answers
from narrows.plan.points import Payloads, Point
from narrows.plan.record import PlanRecord
from narrows.preprocess import Preprocess

RECORD: Final = "plan.json"
_METADATA: Final = "narrows"
_KINDS: Final[Mapping[str, type[MapTransform]]] = {
    BlockedPCA.name: BlockedPCA,
    SeparableKLT.name: SeparableKLT,
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """How a variant's inputs come about.

    Args:
        preprocess: Of its task.
        labels: Names of the classes.
    """

    preprocess: Preprocess
    labels: tuple[str, ...] | None


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
        except OSError as error:
            raise storage_error(self.path, error) from error
        with folders(*(self.path / name for name in ("progress", "tables", "models"))):
            write_atomic(mark, digest)

    def close(self) -> None:
        """The plan is whole: drop what is large; points stay, for a plan at other places."""
        for pattern in ("*.pixels", "*.outputs", "*.seconds"):
            for file in self.progress.glob(pattern):
                file.unlink(missing_ok=True)

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

    def packed(self, variant: str) -> Path:
        """The packed file of a variant that was planned from one."""
        return self.model(variant).with_suffix(SUFFIX)

    def save_variant(
        self,
        name: str,
        proto: bytes,
        prepared: Prepared,
        samples: NDArray[np.float32],
        *,
        packed: bytes | None = None,
    ) -> None:
        """Keep what a deployment of a variant needs besides tables.

        Args:
            name: The variant's.
            proto: The checked model.
            prepared: How its inputs are prepared.
            samples: A few inputs (n, *input_shape).
            packed: The packed file it was read from.

        Raises:
            StorageError: The disk is full.
        """
        path = self.model(name)
        if packed is not None:
            write_atomic(self.packed(name), packed)
        else:
            self.packed(name).unlink(missing_ok=True)
        write_atomic(path, proto)
        write_json(path.with_suffix(".json"), prepared)
        data = safetensors.numpy.save({"inputs": np.ascontiguousarray(samples)})
        write_atomic(path.with_suffix(".samples.safetensors"), data)

    def load_variant(self, name: str) -> tuple[Prepared, NDArray[np.float32]]:
        """How a variant's inputs are prepared, and a few of them (n, *input_shape).

        Raises:
            PlanError: They are not there or not whole.
        """
        path = self.model(name)
        try:
            prepared = read_json(path.with_suffix(".json"), Prepared)
            samples = safetensors.numpy.load_file(path.with_suffix(".samples.safetensors"))
            return prepared, samples["inputs"]
        except (OSError, KeyError, NarrowsError, safetensors.SafetensorError) as error:
            msg = f"{self.path} is not a whole plan: {error}; plan again"
            raise PlanError(msg) from None

    def read(self) -> PlanRecord:
        """The record.

        Raises:
            PlanError: There is no finished plan in the folder.
            ConfigError: It is of another version.
        """
        if not self.record.is_file():
            started = (self.path / "progress").is_dir()
            what = "an unfinished plan: run `narrows plan` again to go on" if started else "no plan"
            msg = f"{self.path} holds {what}; `narrows plan -o {self.path}` writes {RECORD}"
            raise PlanError(msg)
        return read_json(self.record, PlanRecord)

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
            arrays[f"r{rate.index}.gain"] = rate.gain
            arrays[f"r{rate.index}.offset"] = rate.offset
            arrays.update(_prefixed(f"r{rate.index}.quantizer", rate.quantizer_table))
            for coder, table in rate.coder_tables.items():
                arrays.update(_prefixed(f"r{rate.index}.coder.{coder}", table))
        facts = {
            "cut": fitted.cut,
            "threshold": fitted.threshold,
            "shape": fitted.shape,
            "kind": fitted.transform.name,
            "transform": fitted.transform,
            "rates": [(rate.step, rate.step_share, rate.kept) for rate in fitted.rates],
        }
        path = self.tables(variant, fitted.cut)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(path, error) from error
        whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        write_atomic(path, safetensors.numpy.save(whole, {_METADATA: json.dumps(to_dict(facts))}))

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
            return FittedCut(
                cut=facts["cut"],
                threshold=facts["threshold"],
                shape=tuple(facts["shape"]),
                transform=from_dict(_KINDS[facts["kind"]], facts["transform"]),
                transform_table=_under("transform", arrays),
                rates=tuple(
                    _rate(k, step, share, kept, arrays)
                    for k, (step, share, kept) in enumerate(facts["rates"])
                ),
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


def _rate(
    k: int, step: float, share: float, kept: int, arrays: Mapping[str, NDArray[Any]]
) -> FittedRate:
    start = f"r{k}.coder."
    coders = sorted({n.removeprefix(start).split("/")[0] for n in arrays if n.startswith(start)})
    return FittedRate(
        index=k,
        step=step,
        step_share=share,
        kept=kept,
        gain=arrays[f"r{k}.gain"],
        offset=arrays[f"r{k}.offset"],
        quantizer_table=_under(f"r{k}.quantizer", arrays),
        coder_tables={coder: _under(f"{start}{coder}", arrays) for coder in coders},
    )
