from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from narrows.coding import ImageCodec
from narrows.errors import BundleError, ModelError, StorageError
from narrows.preprocess import Preprocess
from narrows.runtime import folder as folders
from narrows.runtime.assemble import SplitParts, write_bundle
from narrows.runtime.bundle import MAX_MANIFEST_BYTES, Bundle, read_bundle
from narrows.runtime.cloud import CloudService
from narrows.testing.bundles import LABELS, split_parts, tiny_bundle, whole_model


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def put(folder: Path, name: str, data: bytes) -> None:
    """Replace a part and its hash, as somebody with bad intentions would."""
    (folder / name).write_bytes(data)

    def change(manifest: dict[str, Any]) -> None:
        part = next(part for part in manifest["parts"] if part["file"] == name)
        part["sha256"], part["size_bytes"] = hashlib.sha256(data).hexdigest(), len(data)

    rewrite(folder, change)


@pytest.fixture
def spoilt(split_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(split_bundle.path, tmp_path / "spoilt"))


def test_a_bundle_reads_back_as_written(split_bundle: Bundle) -> None:
    again = read_bundle(split_bundle.path)
    assert again.manifest == split_bundle.manifest
    assert again.id == split_bundle.id
    digest = hashlib.sha256((again.path / "manifest.json").read_bytes()).digest()
    assert again.id == digest[:4]
    assert again.manifest.split is not None
    assert again.manifest.split.symbol_shape == (4, 4, 4)
    assert again.manifest.labels == LABELS
    assert set(again.table) == set(split_parts(coder="huffman").table)


def test_the_same_content_has_the_same_id(split_bundle: Bundle, tmp_path: Path) -> None:
    assert tiny_bundle(tmp_path / "again", coder="huffman").id == split_bundle.id
    assert tiny_bundle(tmp_path / "other", coder="huffman", seed=1).id != split_bundle.id


@pytest.mark.parametrize("name", ["head.onnx", "tail.onnx", "model.onnx", "tables.safetensors"])
def test_a_changed_short_or_missing_part_is_named(spoilt: Path, name: str) -> None:
    data = (spoilt / name).read_bytes()
    for changed in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1], data + b"\0", b""):
        (spoilt / name).write_bytes(changed)
        with pytest.raises(BundleError, match=name):
            read_bundle(spoilt)
    (spoilt / name).unlink()
    with pytest.raises(BundleError, match=f"{name}.*deploy it again"):
        read_bundle(spoilt)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 2),
        (("route",), "image"),
        (("input", "shape"), [3, 1 << 40, 8]),
        (("input", "shape"), [3, -8, 8]),
        (("input", "dtype"), "object"),
        (("input", "batch_axis"), 9),
        (("split", "symbol_shape"), [1 << 20, 1 << 20]),
        (("split", "symbol_shape"), []),
        (("split", "cut"), -1),
        (("split",), None),
        (("max_frame_bytes",), 1 << 40),
        (("max_frame_bytes",), "9"),
        (("labels",), ["too", "few"]),
        (("outputs",), []),
        (("model",), ""),
        (("image",), {"format": "jpeg", "quality": 50, "scale": 1.0}),
        (("parts", 0, "file"), "../../etc/passwd"),
        (("parts", 0, "size_bytes"), 1 << 40),
        (("parts", 0, "values_bytes"), 1 << 40),
        (("parts", 0, "sha256"), "abc"),
        (("parts",), []),
        (("preprocess", "size"), [9, 9]),
        (("unknown",), 1),
    ],
)
def test_a_manifest_with_a_hostile_value_is_refused(
    spoilt: Path, path: tuple[str | int, ...], value: object
) -> None:
    def change(manifest: Any) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    rewrite(spoilt, change)
    with pytest.raises(BundleError):
        read_bundle(spoilt)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"null", b"[" * 100_000, b"\xff\xfe"])
def test_a_manifest_that_is_none_is_refused(spoilt: Path, text: bytes) -> None:
    (spoilt / "manifest.json").write_bytes(text)
    with pytest.raises(BundleError):
        read_bundle(spoilt)


def test_a_manifest_too_long_is_not_read(spoilt: Path) -> None:
    (spoilt / "manifest.json").write_bytes(b" " * (MAX_MANIFEST_BYTES + 1))
    with pytest.raises(BundleError, match="above"):
        read_bundle(spoilt)


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")


def giant(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([1 << 20, 1 << 20, 1 << 10])


def giant_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 1 << 40


def blown_up(model: onnx.ModelProto) -> None:
    """A terabyte of zeros, added to the scores."""
    model.graph.initializer.append(onnx.helper.make_tensor("big", 7, [2], [1 << 30, 250]))
    node = onnx.helper.make_node
    model.graph.node.extend(
        [
            node("ConstantOfShape", ["big"], ["zeros"]),
            node("ReduceMax", ["zeros"], ["none"], keepdims=0),
            node("Add", ["scores", "none"], ["sum"]),
        ]
    )
    model.graph.output[0].name = "sum"


def endless(model: onnx.ModelProto) -> None:
    """A Range as long as the input's brightness says."""
    node = onnx.helper.make_node
    for name, value in (("zero", 0.0), ("one", 1e-9)):
        model.graph.initializer.append(onnx.helper.make_tensor(name, 1, [], [value]))
    model.graph.node.extend(
        [
            node("ReduceMax", ["scores"], ["limit"], keepdims=0),
            node("Range", ["zero", "limit", "one"], ["range"]),
            node("ReduceMax", ["range"], ["none"], keepdims=0),
        ]
    )


@pytest.mark.parametrize("attack", [external, giant, giant_input, blown_up, endless])
@pytest.mark.parametrize("name", ["tail.onnx", "model.onnx"])
def test_hostile_graphs_are_refused_before_anything_is_allocated(
    spoilt: Path, name: str, attack: Callable[[onnx.ModelProto], None]
) -> None:
    model = onnx.load(spoilt / name)
    attack(model)
    put(spoilt, name, model.SerializeToString())
    bundle = read_bundle(spoilt)
    with pytest.raises(BundleError, match=name):
        CloudService(bundle)


def test_a_graph_that_needs_more_than_it_declares_is_refused(spoilt: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        part = next(part for part in manifest["parts"] if part["file"] == "model.onnx")
        part["values_bytes"] -= 1

    rewrite(spoilt, change)
    with pytest.raises(BundleError, match="values need"):
        read_bundle(spoilt).model()


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0{}", bytes(100)])
def test_tables_that_are_none_are_refused(spoilt: Path, data: bytes) -> None:
    put(spoilt, "tables.safetensors", data or b"\0")
    with pytest.raises(BundleError):
        CloudService(read_bundle(spoilt))


def test_a_folder_that_is_no_bundle_says_so(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError, match=r"not a bundle.*manifest\.json"):
            read_bundle(path)


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(BundleError, match="something else is there"):
        tiny_bundle(tmp_path / "notes")
    first = tiny_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match="a bundle already is there"):
        tiny_bundle(tmp_path / "b", seed=1)
    assert read_bundle(tmp_path / "b").id == first.id
    model = whole_model(seed=1)
    second = write_bundle(tmp_path / "b", name="tiny", model=model, replace=True)
    assert read_bundle(tmp_path / "b").id == second.id != first.id
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "notes"]
    assert not (tmp_path / "b" / "head.onnx").exists()


@pytest.mark.parametrize("calls_that_work", [0, 1, 3, 4])
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls_that_work: int
) -> None:
    real, calls = folders.write_atomic, []

    def full(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) > calls_that_work:
            raise StorageError(errno.ENOSPC, f"cannot write {path}: the disk is full")
        real(path, data)

    monkeypatch.setattr(folders, "write_atomic", full)
    monkeypatch.setattr("narrows.config.write_atomic", full)
    with pytest.raises(StorageError, match="disk is full"):
        tiny_bundle(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_parts_that_do_not_fit_are_not_written(tmp_path: Path) -> None:
    parts = split_parts()
    swapped = SplitParts(
        head=parts.tail, tail=parts.head, coder="raw", table=parts.table, cut=2, tensor="feature"
    )
    other = split_parts(side=16)
    for split in (swapped, other):
        with pytest.raises((BundleError, ModelError)):
            write_bundle(tmp_path / "b", name="tiny", model=whole_model(), split=split)
    with pytest.raises(BundleError, match="9 labels for a model with 10 outputs"):
        write_bundle(tmp_path / "b", name="tiny", model=whole_model(), labels=LABELS[1:])
    with pytest.raises(BundleError, match="several routes"):
        write_bundle(tmp_path / "b", name="tiny", model=whole_model(), raw=True, split=parts)
    codec, wrong = ImageCodec(format="jpeg", quality=50), Preprocess(size=(9, 9))
    with pytest.raises(BundleError, match="pictures"):
        write_bundle(tmp_path / "b", name="tiny", model=whole_model(), image=codec)
    with pytest.raises(BundleError, match="preprocessing gives"):
        write_bundle(tmp_path / "b", name="tiny", model=whole_model(), preprocess=wrong)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_coder_names_the_known_ones(spoilt: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["split"]["coder"] = "zstd"

    rewrite(spoilt, change)
    with pytest.raises(BundleError, match=r"'zstd'.*raw"):
        CloudService(read_bundle(spoilt))


def test_a_batch_axis_that_is_not_the_first_is_kept(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[5, N, 2] x) => (float[N, 2] y) <int64[1] axis = {0}> {
        s = ReduceSum<keepdims=0>(x, axis) y = Relu(s) }"""
    bundle = write_bundle(tmp_path / "b", name="sum", model=onnx.parser.parse_model(text))
    assert bundle.manifest.input.shape == (5, 2)
    assert bundle.manifest.input.batch_axis == 1
    samples = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
    found = CloudService(bundle).infer(samples)[0]
    np.testing.assert_allclose(found, samples.sum(1).clip(0), rtol=1e-6)
