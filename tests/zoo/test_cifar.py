"""CIFAR-10 from JPEG files or torchvision's own form, divided once, described and checked."""

from __future__ import annotations

import io
import pickle
import runpy
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from narrows.errors import InputError
from narrows.task import load_task
from narrows.zoo import cifar
from narrows.zoo.cifar import CLASSES, cifar10


def jpeg(seed: int, side: int = 32) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def write(folder: Path, *, train: int = 6, test: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for start, (name, count) in enumerate((("train.zip", train), ("test.zip", test))):
        with zipfile.ZipFile(folder / name, "w") as archive:
            for label, title in enumerate(CLASSES):
                for number in range(count):
                    seed = 1000 * start + 10 * number + label
                    archive.writestr(f"{title}/{number:04}.jpg", jpeg(seed))
    return folder


def test_the_training_pictures_are_divided_and_the_test_pictures_report(tmp_path: Path) -> None:
    task = cifar10(write(tmp_path))
    assert [len(split) for split in task.sets.values()] == [54, 6, 20]
    assert task.name == "CIFAR-10 (JPEG)"
    assert task.division == (
        "the training pictures divided at random (seed 0): fit 90%, choose 10%; "
        "report: the test pictures"
    )
    assert (task.classes, task.chance, task.input_shape) == (10, 0.1, (3, 32, 32))
    expected = np.asarray(Image.open(io.BytesIO(jpeg(1000 + 3))))
    assert np.array_equal(task.report.sources[3], expected)
    assert task.report.labels.tolist() == [*range(10), *range(10)]  # classes take turns
    x, _ = task.inputs(task.report, 3, 4)
    mean, std = (np.asarray(v)[:, None, None] for v in (task.preprocess.mean, task.preprocess.std))
    assert np.allclose(x[0], (expected.transpose(2, 0, 1) / 255 - mean) / std, atol=1e-5)


def test_a_seed_divides_the_same_way(tmp_path: Path) -> None:
    write(tmp_path)
    first, again, other = (cifar10(tmp_path, seed=seed).choose.digest() for seed in (0, 0, 1))
    assert first == again != other


def test_torchvision_s_own_form_is_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10

    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    random = np.random.default_rng(0)
    lists = ([f"data_batch_{n}" for n in range(1, 6)], ["test_batch"])
    for name in (*lists[0], *lists[1]):
        rows = random.integers(0, 256, (10, 3072)).astype(np.uint8)
        (base / name).write_bytes(pickle.dumps({"data": rows, "labels": list(range(10))}))
    meta = pickle.dumps({"label_names": list(CLASSES)})
    (base / "batches.meta").write_bytes(meta)
    # torchvision checks the sums of the real files; these are not they.
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    task = cifar10(tmp_path)
    assert (task.name, len(task.fit), len(task.report)) == ("CIFAR-10", 45, 10)
    expected = rows.reshape(10, 3, 32, 32).transpose(0, 2, 3, 1)
    assert np.array_equal(task.report.sources, expected)


def test_a_damaged_copy_of_torchvision_s_form_is_told(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(InputError, match=r"cannot read CIFAR-10 in .*download it again"):
        cifar10(tmp_path)


def test_the_task_is_named_by_a_reference_and_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "cifar10_jpeg")
    monkeypatch.setenv("NARROWS_DATA", str(tmp_path))
    first = load_task("narrows.zoo.cifar:task")
    assert len(first.report) == 20
    assert load_task("narrows.zoo.cifar:task") is first  # decoded once
    monkeypatch.setenv("NARROWS_DATA", str(write(tmp_path / "other", test=3)))
    assert len(load_task("narrows.zoo.cifar:task").report) == 30
    monkeypatch.delenv("NARROWS_DATA")
    with pytest.raises(InputError, match="set NARROWS_DATA"):
        cifar.task()


def test_a_folder_without_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no CIFAR-10 in .*train\.zip and test\.zip"):
        cifar10(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cat/9999.jpg", b"no picture", r"cat/9999\.jpg is no picture"),
        ("cat/9999.jpg", jpeg(0)[:200], r"cat/9999\.jpg is no picture"),
        ("cat/9999.jpg", jpeg(0, side=16), "a picture of 16 × 16: expected 32 × 32"),
        ("lion/9999.jpg", jpeg(0), r"lion/9999\.jpg is in no class folder"),
    ],
)
def test_a_picture_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    write(tmp_path, train=1, test=1)
    with zipfile.ZipFile(tmp_path / "test.zip", "a") as archive:
        archive.writestr(name, content)
    with pytest.raises(InputError, match=message):
        cifar10(tmp_path)


def test_an_archive_that_is_none_is_told(tmp_path: Path) -> None:
    write(tmp_path, train=1, test=1)
    (tmp_path / "test.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match=r"cannot read .*test\.zip"):
        cifar10(tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "no CIFAR-10 in "), (b"PK\x03\x04 and no more", "cannot read ")],
    ids=["no folder", "no archive"],
)
def test_training_on_what_is_no_cifar_ends_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    told: str,
) -> None:
    pytest.importorskip("torch")
    data = tmp_path / "data"
    if content is not None:
        (write(data, train=1, test=1) / "train.zip").write_bytes(content)
    program = Path(__file__).parents[2] / "benchmarks" / "train_families.py"
    monkeypatch.setattr(sys, "argv", [str(program), str(data), str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(program), run_name="__main__")
    assert ended.value.code == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(told)
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert not (tmp_path / "out").exists()
