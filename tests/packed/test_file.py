"""Packed files: exact, readable one tensor at a time, refused when they are not whole."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from narrows.coding import CODERS, fit
from narrows.coding.arrays import DTYPES
from narrows.coding.quantizers import Affine, Codebook, Product, Residual, Scaled, Sign, Uniform
from narrows.errors import CodecError, CorruptData, InputError
from narrows.packed import Grid, PackedFile, pack, unpack
from narrows.packed.container import write_container
from narrows.packed.preset import PRESET, deflated, inflated

FROZEN = Path(__file__).parent / "frozen"


def scaled_grid(rows: int, columns: int, seed: int = 0) -> tuple[np.ndarray, Grid]:
    random = np.random.default_rng(seed)
    table = {
        "step": np.asarray(0.01, np.float32),
        "rows": random.integers(-9, 9, rows).astype(np.int8),
        "columns": random.integers(-9, 9, columns).astype(np.int8),
    }
    grid = Grid(quantizer=Scaled(step=0.01), table=table)
    return grid.values(np.rint(random.laplace(size=(rows, columns)) * 3).astype(np.int32)), grid


def example() -> tuple[dict[str, np.ndarray], dict[str, Grid]]:
    weight, grid = scaled_grid(12, 30)
    bias = np.linspace(-1, 1, 12, dtype=np.float32)
    quantizer = Affine(bits=4, granularity="channel")
    fitter = quantizer.fitter((12, 30))
    fitter.add(weight[None])
    affine = Grid(quantizer=quantizer, table=fitter.table())
    other = affine.values(quantizer.quantize(weight[None], affine.table)[0])
    integers = np.arange(-50, 50, dtype=np.int8).reshape(4, 25)
    tensors = {"fc.weight": weight, "fc.bias": bias, "affine": other, "integers": integers}
    grids = {"fc.weight": grid, "affine": affine}
    for quantizer in (Product(levels=5, length=3), Residual(levels=4, stages=2), Sign()):
        vectors = Grid(quantizer=quantizer, table=fit(quantizer, [weight[None]]))
        tensors[quantizer.name] = vectors.values(quantizer.quantize(weight[None], vectors.table)[0])
        if quantizer.name != "residual":  # sums of centres are not always found again
            grids[quantizer.name] = vectors
    return tensors, grids


@pytest.mark.parametrize("coder", sorted(CODERS))
def test_every_tensor_comes_back_exactly_with_its_grid(coder: str) -> None:
    tensors, grids = example()
    data = pack(tensors, grids=grids, coder=CODERS[coder]())
    found = unpack(data)
    assert list(found) == list(tensors)
    for name, values in tensors.items():
        assert found[name].dtype == values.dtype
        assert np.array_equal(found[name], values)
    file = PackedFile.open(data)
    assert file.grid("fc.bias") is None
    read = file.grid("fc.weight")
    assert read is not None
    assert read.quantizer == grids["fc.weight"].quantizer
    assert np.array_equal(read.table["rows"], grids["fc.weight"].table["rows"])


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.sampled_from(DTYPES).flatmap(
            lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, max_side=6))
        ),
        max_size=4,
    )
)
@settings(max_examples=60, deadline=None)
def test_arrays_of_every_type_come_back(tensors: dict[str, np.ndarray]) -> None:
    found = unpack(pack(tensors))
    assert list(found) == list(tensors)
    for name, values in tensors.items():
        assert found[name].dtype == values.dtype
        assert np.array_equal(found[name], values, equal_nan=values.dtype.kind == "f")


def test_a_grid_takes_few_bits_and_every_byte_is_counted() -> None:
    weight, grid = scaled_grid(300, 400)
    data = pack({"w": weight}, grids={"w": grid})
    assert len(data) < 0.14 * weight.nbytes
    file = PackedFile.open(data)
    parts = sum(part.size_bytes + 4 for part in file.container.parts)
    assert file.container.header_bytes + parts == len(data)


def test_one_tensor_is_read_though_another_is_damaged(tmp_path: Path) -> None:
    tensors, grids = example()
    data = bytearray(pack(tensors, grids=grids))
    place = PackedFile.open(bytes(data)).container.parts[0]
    data[place.start + 5] ^= 1
    path = tmp_path / "net.narrows"
    path.write_bytes(data)
    file = PackedFile.open(path)
    assert np.array_equal(file.tensor("affine"), tensors["affine"])
    with pytest.raises(CorruptData, match=r"part 0 is damaged.*copy it again"):
        file.tensor("fc.weight")
    with pytest.raises(InputError, match="no tensor 'fc'"):
        file.tensor("fc")


def test_a_tensor_off_its_grid_is_refused() -> None:
    weight, grid = scaled_grid(4, 5)
    with pytest.raises(
        CodecError, match=r"'w' cannot be packed.*does not lie on its 'scaled' grid"
    ):
        pack({"w": weight + np.float32(1e-3)}, grids={"w": grid})
    with pytest.raises(CodecError, match="complex64"):
        pack({"w": np.zeros(3, np.complex64)})
    with pytest.raises(CodecError, match="grids for v, which are no tensors"):
        pack({"w": weight}, grids={"v": grid})
    with pytest.raises(CodecError, match="more than 8 axes"):
        pack({"w": np.zeros((1,) * 9, np.float32)})
    with pytest.raises(CodecError, match=r"a header of 9\d+ bytes"):
        pack({"x" * 9_000_000: weight})


def rewritten(data: bytes, **changes: object) -> bytes:
    """With another header and its checksum."""
    _, _, size, _ = struct.unpack("<7sBII", data[:16])
    header = json.loads(inflated(data[16 : 16 + size], 1 << 20)) | changes
    packed = deflated(json.dumps(header).encode())
    return (
        struct.pack("<7sBII", b"narrows", 2, len(packed), zlib.crc32(packed))
        + packed
        + data[16 + size :]
    )


def one_tensor(
    shape: tuple[int, ...],
    arrays: list[tuple[str, np.ndarray]],
    coder: str | None = None,
    quantizer: object = None,
) -> bytes:
    """A file of one tensor of raw arrays, whatever they are, with good checksums."""
    codings = ["raw" if key != "symbols" else coder for key, _ in arrays]
    entry = {
        "name": "w",
        "dtype": "float32",
        "shape": list(shape),
        "quantizer": quantizer,
        "coder": coder,
        "arrays": [
            [key, array.dtype.name, list(array.shape), coding, array.nbytes]
            for (key, array), coding in zip(arrays, codings, strict=True)
        ],
    }
    part = b"".join(array.tobytes() for _, array in arrays)
    return write_container({"kind": "tensors", "tensors": [entry]}, [part])


FLOATS, ONES = np.zeros(4, np.float32), np.ones(4, np.uint8)
INFINITE = one_tensor(
    (2,),
    [
        ("quantizer.scale", np.array(3e38, np.float32)),
        ("quantizer.zero_point", np.array(0, np.int32)),
        ("coder.low", np.array([100], np.int32)),
        ("coder.width", np.array([0], np.uint8)),
        ("symbols", np.zeros((1, 2), np.int32)),
    ],
    "raw",
    {"name": "affine", "bits": 8, "granularity": "tensor"},
)
SYMBOLS = ("symbols", np.zeros(0, np.int32))


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("do not fit its mask", one_tensor((4,), [("mask", ONES), ("values", FLOATS[:3])])),
        ("do not fit its mask", one_tensor((4,), [("mask", ONES * 2), ("values", FLOATS)])),
        ("neither values", one_tensor((4,), [("other", ONES), ("values", FLOATS)])),
        ("two arrays 'mask'", one_tensor((4,), [("mask", ONES)] * 2 + [("values", FLOATS)])),
        ("not its symbols", one_tensor((4,), [("symbols", ONES)], "raw")),
        ("symbols of shape", one_tensor((0,), [SYMBOLS], "adaptive")),
        ("not finite", INFINITE),
        ("", one_tensor((0,), [SYMBOLS], "ans")),
        ("", one_tensor((4,), [("coder.counts", ONES), SYMBOLS], "huffman")),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(reason: str, data: bytes) -> None:
    with pytest.raises(CorruptData, match=rf"tensor 'w' of the packed file is damaged.*{reason}"):
        unpack(data)


def test_a_table_of_another_shape_takes_no_memory() -> None:
    zero = np.zeros((), np.int32)
    pieces = np.zeros((9, 4, 2), np.float32)
    for quantizer, table in (
        (Codebook(levels=4), {"centres": np.zeros((1, 1 << 13), np.float32), "zero": zero}),
        (Codebook(levels=4), {"centres": np.zeros(5, np.int8), "zero": zero}),
        (Product(levels=4, length=2), {"centres": pieces, "components": np.array(4)}),
        (Product(levels=4, length=3), {"centres": pieces, "components": np.array(18)}),
        (Residual(levels=4, stages=9), {"centres": pieces}),
    ):
        with pytest.raises(CodecError, match=r"does not make \(18, 5\) of symbols \(9, 5\)"):
            Grid(quantizer=quantizer, table=table).check_fits((9, 5), (18, 5))


def test_files_that_are_not_whole_are_refused() -> None:
    tensors, grids = example()
    data = pack(tensors, grids=grids)
    header = PackedFile.open(data).container.header
    entries = list(header["tensors"])
    swapped = [entries[1], entries[0], *entries[2:]]
    twice = [entries[0], entries[0], *entries[2:]]
    bad = {
        "does not begin": b"PK\3\4" + data,
        "version 9": data[:7] + b"\x09" + data[8:],
        "header's checksum": data[:20] + bytes([data[20] ^ 1]) + data[21:],
        "bytes expected": data[:-1],
        r"bytes expected, \d+ found": data[: PackedFile.open(data).container.header_bytes + 9],
        "found": data + b"\0",
        "cut short": data[:18],
        "two of its tensors": rewritten(data, tensors=twice),
        "of kind 'zip'": rewritten(data, kind="zip"),
        "names no parts": rewritten(data, parts="many"),
        "do not fill": rewritten(data, tensors=swapped),
        "does not say": rewritten(data, tensors=[{"name": "w"}]),
    }
    for reason, content in bad.items():
        with pytest.raises(CorruptData, match=reason):
            unpack(content)


def test_a_file_of_another_size_than_allowed_is_not_decoded() -> None:
    data = pack({"w": np.zeros((1000, 1000), np.int8)})
    assert len(data) < 300
    with pytest.raises(CorruptData, match="decodes to 4000000 bytes, allowed are 1000000"):
        PackedFile.open(data, most_bytes=10**6)


def test_what_is_not_there_or_no_packed_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        PackedFile.open(tmp_path / "none.narrows")
    (tmp_path / "text.narrows").write_text("hello")
    with pytest.raises(CorruptData, match=r"text.narrows is no packed file"):
        PackedFile.open(tmp_path / "text.narrows")


def frozen_tensors() -> tuple[dict[str, np.ndarray], dict[str, Grid]]:
    """Tensors by integer arithmetic alone."""
    symbols = (np.arange(60) ** 2 % 11 - 5).astype(np.int32).reshape(5, 12)
    table = {
        "step": np.asarray(0.125, np.float32),
        "rows": np.arange(-2, 3).astype(np.int8),
        "columns": (np.arange(12) % 3 * 8).astype(np.int8),
    }
    scaled = Grid(quantizer=Scaled(step=0.125), table=table)
    quantizer = Uniform(step=0.5)
    uniform = Grid(quantizer=quantizer, table=quantizer.fitter((5,)).table())
    bias = uniform.values(np.array([0, 3, -4, 9, 1], np.int32))
    tensors = {"weight": scaled.values(symbols), "bias": bias, "ids": np.arange(40)}
    return tensors, {"weight": scaled, "bias": uniform}


def second_tensors() -> tuple[dict[str, np.ndarray], dict[str, Grid]]:
    """What version 2 has besides, seen from the values: a codebook, multiples, zeros left out."""
    tensors, grids = frozen_tensors()
    place = np.arange(240).reshape(12, 20)
    tensors["codebook"] = np.array([0, -1.5, 0.3, 2], np.float32)[place**2 % 7 % 4]
    tensors["multiples"] = np.float32(0.37) * (place**2 % 13 - 6).astype(np.float32)
    tensors["fixed point"] = ((place * 97 % 4001 - 2000) / 256).astype(np.float32)
    tensors["sparse"] = np.where(place % 9, 0, np.sqrt(place)).astype(np.float32)
    return tensors, grids


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("coder", sorted(CODERS))
def test_frozen_files_are_read(coder: str, version: int) -> None:
    tensors, _ = frozen_tensors() if version == 1 else second_tensors()
    found = unpack(FROZEN / str(version) / f"{coder}.narrows")
    assert list(found) == list(tensors)
    for name, values in tensors.items():
        assert found[name].tobytes() == values.tobytes()


@pytest.mark.parametrize("coder", sorted(CODERS))
def test_what_is_written_is_frozen(coder: str) -> None:
    tensors, grids = second_tensors()
    frozen = (FROZEN / "2" / f"{coder}.narrows").read_bytes()
    # Deflated streams may differ between versions of zlib: headers are compared as JSON.
    made, kept = (PackedFile.open(data) for data in (pack_with(coder), frozen))
    assert made.container.header == kept.container.header
    assert all(made.part(name) == kept.part(name) for name in made.names)
    assert len(grids) < len(tensors)


def pack_with(coder: str) -> bytes:
    tensors, grids = second_tensors()
    return pack(tensors, grids=grids, coder=CODERS[coder]())


def test_the_preset_dictionary_never_changes() -> None:
    assert (len(PRESET), zlib.crc32(PRESET)) == (3506, 4225430250)
    assert inflated(deflated(b"weights" * 9), 63) == b"weights" * 9
    assert inflated(zlib.compress(b"as version 1"), 12) == b"as version 1"
    for stream, most in ((deflated(b"long"), 3), (deflated(b"cut")[:-1], 9), (b"none", 9)):
        with pytest.raises(ValueError, match=r"stream|header|incorrect"):
            inflated(stream, most)


if __name__ == "__main__":  # writes those that are not there yet
    for name in CODERS:
        path = FROZEN / "2" / f"{name}.narrows"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(pack_with(name))
