"""MNIST's four files, packed or not, divided once, described and checked."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from narrows.errors import InputError
from narrows.train import training_task
from narrows.zoo.lenet import lenet5
from narrows.zoo.mnist import mnist, task


def idx(values: np.ndarray) -> bytes:
    head = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.astype(np.uint8).tobytes()


def write(folder: Path, *, packed: bool = True, train: int = 120, test: int = 20) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    kept = np.zeros(0)
    for name, count in (("train", train), ("t10k", test)):
        kept = random.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        for what, values in (("images-idx3", kept), ("labels-idx1", np.arange(count) % 10)):
            content = idx(values)
            path = folder / f"{name}-{what}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return kept


@pytest.mark.parametrize("inside", ["", "MNIST/raw", "FashionMNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_the_four_files_are_found_and_divided(tmp_path: Path, inside: str, packed: bool) -> None:
    test = write(tmp_path / inside, packed=packed)
    name = "FashionMNIST" if "Fashion" in inside else "MNIST"
    found = mnist(tmp_path, name=name)
    assert [len(split) for split in found.sets.values()] == [110, 10, 20]
    assert (found.name, found.classes, found.input_shape) == (name, 10, (1, 28, 28))
    x, y = found.inputs(found.report, 0, 20)
    made = found.preprocess
    expected = (test[:, None] / 255 - made.mean[0]) / made.std[0]
    assert np.allclose(x, expected, atol=1e-5)
    assert y.tolist() == [n % 10 for n in range(20)]


def test_it_can_be_trained_on(tmp_path: Path) -> None:
    write(tmp_path)
    made = training_task(mnist(tmp_path), lenet5(), batch_size=10)
    x, y = next(made.choose.batches(0))
    given, labels = made.task.inputs(made.task.choose, 0, 10)
    assert np.allclose(x, given, atol=1e-6)
    assert np.array_equal(y, labels)


def test_the_folder_may_be_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "mnist")
    monkeypatch.setenv("NARROWS_DATA", str(tmp_path))
    assert task().name == "MNIST"
    monkeypatch.delenv("NARROWS_DATA")
    with pytest.raises(InputError, match="set NARROWS_DATA"):
        task()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no train-images"):
        mnist(tmp_path)
    with pytest.raises(InputError, match="no data set"):
        mnist(tmp_path, name="EMNIST")
    write(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for content in (whole[:100], b"", gzip.compress(b"\0\0\x08"), b"not packed at all"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="another copy"):
            mnist(tmp_path)
    path.write_bytes(gzip.compress(idx(np.zeros((120, 28, 28)))[:-1]))
    with pytest.raises(InputError, match="no whole IDX"):
        mnist(tmp_path)
    path.write_bytes(gzip.compress(idx(np.zeros((119, 28, 28)))))
    with pytest.raises(InputError, match="expected"):
        mnist(tmp_path)
