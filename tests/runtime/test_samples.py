from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from narrows.errors import InputError
from narrows.runtime.assemble import write_bundle
from narrows.runtime.bundle import Bundle
from narrows.runtime.manifest import Manifest
from narrows.runtime.samples import Source, samples, sources
from narrows.testing.bundles import pictures


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[N, 6] x) => (float[N, 6] y) '
    model = onnx.parser.parse_model(text + "{ y = Relu(x) }")
    return write_bundle(tmp_path_factory.mktemp("arrays") / "b", name="relu", model=model).manifest


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_files_folders_and_lines_come_in_order(split_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "deep/er/c.png"):
        Image.fromarray(pictures(1)[0]).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    stream = io.BytesIO(f"{tmp_path}/b.png\n\n  {tmp_path}/a.JPG".encode())
    inputs = [str(tmp_path / "b.png"), str(tmp_path), "-"]
    found = list(sources(inputs, split_bundle.manifest, stream))
    names = [Path(source.name).name for source in found]
    assert names == ["b.png", "a.JPG", "b.png", "c.png", "b.png", "a.JPG"]
    for source in found:
        ((_, pixels),) = samples(source, split_bundle.manifest)
        assert pixels.shape == (8, 8, 3)


def test_a_stream_of_files_is_read_one_by_one(arrays: Manifest) -> None:
    values = np.arange(18, dtype=np.float32).reshape(3, 6)
    blobs = [npy(values[0]), npy(values[1:])]
    stream = io.BytesIO(b"".join(struct.pack("<I", len(blob)) + blob for blob in blobs))
    found = [
        pair
        for source in sources(["-"], arrays, stream, blobs=True)
        for pair in samples(source, arrays)
    ]
    assert [name for name, _ in found] == ["input 0", "input 1[0]", "input 1[1]"]
    np.testing.assert_array_equal(np.stack([array for _, array in found]), values)


@pytest.mark.parametrize("stream", [b"\1", struct.pack("<I", 5) + b"abcd", b"\xff\xff\xff\xff"])
def test_a_cut_stream_is_said(arrays: Manifest, stream: bytes) -> None:
    with pytest.raises(InputError, match="input 0"):
        list(sources(["-"], arrays, io.BytesIO(stream), blobs=True))


def test_a_folder_without_inputs_is_said(arrays: Manifest, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"\.npy"):
        list(sources([str(tmp_path)], arrays, io.BytesIO()))


def test_files_that_are_not_inputs_are_said(
    arrays: Manifest, split_bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("no picture, no array")
    for manifest in (arrays, split_bundle.manifest):
        for name in ("text", "missing"):
            with pytest.raises(InputError, match=name):
                list(samples(Source(name=name, content=tmp_path / name), manifest))


def test_fortran_order_and_other_types_are_read(arrays: Manifest) -> None:
    array = np.asfortranarray(np.arange(12).reshape(2, 6))
    found = [sample for _, sample in samples(Source(name="f", content=npy(array)), arrays)]
    np.testing.assert_array_equal(np.stack(found), array)


@pytest.mark.parametrize(
    "data",
    [
        npy(np.zeros(5, np.float32)),
        npy(np.zeros(6, np.float32))[:-1],
        npy(np.zeros(6, np.float32)) + b"x",
        npy(np.zeros(6, "S4")),
        npy(np.zeros(6, np.complex64)),
        npy(np.zeros(6, np.float32)).replace(b"(6,)", b"(9,)"),
        npy(np.zeros(6, np.float32)).replace(b"(6,), }" + b" " * 13, b"(1000000000000000,),}"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays: Manifest, data: bytes) -> None:
    with pytest.raises(InputError):
        list(samples(Source(name="x", content=data), arrays))


@given(st.binary(max_size=200), st.integers(0, 140))
def test_any_bytes_are_arrays_or_refused(data: bytes, keep: int) -> None:
    from narrows.plan.candidate import Route
    from narrows.runtime.manifest import Part, Tensor

    tensor = Tensor(name="x", shape=(6,), dtype="float32")
    manifest = Manifest(
        model="m",
        route=Route.LOCAL,
        input=tensor,
        outputs=(tensor,),
        preprocess=None,
        labels=None,
        split=None,
        image=None,
        deflate=False,
        max_frame_bytes=1000,
        onnxruntime="1",
        optimise=True,
        parts=(Part(file="model.onnx", sha256="0" * 64, size_bytes=1, values_bytes=1),),
    )
    good = npy(np.zeros(6, np.float32))
    try:
        for _, sample in samples(Source(name="x", content=good[:keep] + data), manifest):
            assert sample.shape == (6,)
    except InputError:
        pass


def test_a_file_that_python_2_wrote_is_read_without_a_warning(arrays: Manifest) -> None:
    values = np.zeros(arrays.input.shape, np.float32)
    file = io.BytesIO()
    np.save(file, values)
    digits = str(values.shape[0]).encode()
    old = file.getvalue().replace(b"(" + digits + b",", b"(" + digits + b"L,", 1)
    at = old.index(b"}") + 1
    ((_, found),) = samples(Source(name="old", content=old[:at] + old[at + 1 :]), arrays)
    assert found.shape == values.shape
