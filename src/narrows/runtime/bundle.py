"""What is deployed: a folder that holds together, or an error that says what does not.

    bundle/
    ├── manifest.json          what the parts are and how they fit; hashes of all of them
    ├── head.onnx              input → symbols, check          (split route)
    ├── tail.onnx              symbols → the model's outputs   (split route)
    ├── tables.safetensors     the coder's integers            (split route)
    └── model.onnx             the whole model: device's local route, cloud's own

A packed model has head.narrows and model.narrows in place of the device's parts.

Device and cloud hold the same folder. Its id, the first four bytes of the manifest's hash, is in
every frame, so two sides with different bundles find out at the first one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import onnx
import safetensors.numpy

from narrows import config
from narrows.coding.base import Table
from narrows.errors import BundleError, ModelError, NarrowsError
from narrows.graph import checks
from narrows.graph.packed_model import unpack_model
from narrows.packed import SUFFIX, PackedFile
from narrows.runtime.frame import ID_BYTES
from narrows.runtime.manifest import HEAD, MODEL, PACKED, TABLES, TAIL, Manifest, Part, Tensor
from narrows.runtime.network import Network
from narrows.runtime.values import values_bytes

MANIFEST: Final = "manifest.json"
MAX_MANIFEST_BYTES: Final = 1 << 19
MAX_TABLES_BYTES: Final = 1 << 26

SYMBOLS: Final = "symbols"
CHECK: Final = "check"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle whose parts were all there, whole and as its manifest says.

    Args:
        path: Its folder.
        manifest: What it says of itself.
        id: First four bytes of the manifest's hash.
        table: The coder's table; empty where there is none.
    """

    path: Path
    manifest: Manifest
    id: bytes
    table: Table

    def head(self, *, threads: int = 1) -> Network:
        """Input to symbols and check.

        Raises:
            BundleError: The bundle has no head, or it does not fit the manifest.
        """
        outputs = (self._symbols, Tensor(name=CHECK, shape=(), dtype="float32"))
        return self._network(HEAD, self.manifest.input, outputs, threads)

    def tail(self, *, threads: int = 1) -> Network:
        """Symbols to the model's outputs.

        Raises:
            BundleError: The bundle has no tail, or it does not fit the manifest.
        """
        return self._network(TAIL, self._symbols, self.manifest.outputs, threads)

    def model(self, *, threads: int = 1) -> Network:
        """The whole model.

        Raises:
            BundleError: The bundle was written without it, or it does not fit the manifest.
        """
        return self._network(MODEL, self.manifest.input, self.manifest.outputs, threads)

    @property
    def _symbols(self) -> Tensor:
        place = self.manifest.split
        if place is None:
            msg = f"{self.path} has no head and tail: it is for {self.manifest.route.value}"
            raise BundleError(msg)
        return symbols_tensor(place.symbol_shape)

    def _network(
        self, file: str, input: Tensor, outputs: tuple[Tensor, ...], threads: int
    ) -> Network:
        names = (file, PACKED.get(file))
        part = next((part for part in self.manifest.parts if part.file in names), None)
        if part is None:
            msg = f"{self.path} has no {file}: deploy again with that part"
            raise BundleError(msg)
        try:
            proto = _proto(_part_bytes(self.path, part), str(self.path / part.file))
            needed = values_bytes(proto, input)
            if needed > part.values_bytes:
                msg = f"its values need {needed} bytes, the manifest says {part.values_bytes}"
                raise ModelError(msg)
            optimise = self.manifest.optimise
            return Network(proto, input=input, outputs=outputs, threads=threads, optimise=optimise)
        except BundleError:
            raise
        except (NarrowsError, UnicodeDecodeError) as error:  # names in a graph may be any bytes
            msg = f"{self.path / file} cannot be used: {error}"
            raise BundleError(msg) from None


def _proto(data: bytes, where: str) -> onnx.ModelProto:
    """The network of a part, packed or not."""
    if not where.endswith(SUFFIX):
        return checks.parse(data, where=where)
    file = PackedFile.open(data, name=where, most_bytes=checks.MAX_MODEL_BYTES)
    proto = unpack_model(file)
    checks.check(proto, where=where)
    return proto


def symbols_tensor(shape: tuple[int, ...]) -> Tensor:
    """What the head gives and the tail takes."""
    return Tensor(name=SYMBOLS, shape=shape, dtype="int32")


def read_bundle(path: str | Path) -> Bundle:
    """Read a bundle and check that every part is there, whole and unchanged.

    The networks themselves are loaded when they are asked for: a device needs no tail.

    Raises:
        BundleError: It is not a bundle, or not whole; the message names the part.
    """
    path = Path(path)
    file = path / MANIFEST
    if not file.is_file():
        msg = f"{path} is not a bundle: it has no {MANIFEST}; `narrows deploy` writes one"
        raise BundleError(msg)
    try:
        data = file.read_bytes() if file.stat().st_size <= MAX_MANIFEST_BYTES else None
        manifest = None if data is None else config.read_json(file, Manifest)
    except (OSError, NarrowsError) as error:
        msg = f"cannot use the bundle {path}: {error}"
        raise BundleError(msg) from None
    if data is None or manifest is None:
        msg = f"{file} is above {MAX_MANIFEST_BYTES} bytes: it is not a manifest"
        raise BundleError(msg)
    table: Table = {}
    for part in manifest.parts:
        if part.file == TABLES:
            table = _read_tables(_part_bytes(path, part), path / TABLES)
        else:
            _part_bytes(path, part, keep=False)
    return Bundle(path=path, manifest=manifest, id=_id(data), table=table)


def _id(manifest: bytes) -> bytes:
    return hashlib.sha256(manifest).digest()[:ID_BYTES]


def _part_bytes(folder: Path, part: Part, *, keep: bool = True) -> bytes:
    """A part's bytes, checked; nothing but the check where they are not kept."""
    file, digest, pieces, found = folder / part.file, hashlib.sha256(), [], 0
    try:
        size = file.stat().st_size
        if size == part.size_bytes and file.is_file():
            with file.open("rb") as source:
                while piece := source.read(1 << 20):
                    digest.update(piece)
                    found += len(piece)
                    if found > part.size_bytes:
                        break
                    if keep:
                        pieces.append(piece)
    except OSError as error:
        msg = f"cannot read {file}: {error.strerror}; the bundle is not whole, deploy it again"
        raise BundleError(msg) from None
    if found != part.size_bytes or digest.hexdigest() != part.sha256:
        msg = f"{file} ({size} bytes) is not what the manifest says: copy the bundle again"
        raise BundleError(msg)
    return b"".join(pieces)


def _read_tables(data: bytes, file: Path) -> Table:
    if len(data) > MAX_TABLES_BYTES:
        msg = f"{file} has {len(data)} bytes; tables have at most {MAX_TABLES_BYTES}"
        raise BundleError(msg)
    try:
        table: Table = safetensors.numpy.load(data)
    except Exception as error:  # its own class, and KeyError for types numpy lacks
        msg = f"{file} does not hold tables: {error}"
        raise BundleError(msg) from None
    for name, array in table.items():
        if array.dtype.kind not in "iu":
            msg = f"{file}: table {name!r} is {array.dtype}; tables hold integers only"
            raise BundleError(msg)
    return table
