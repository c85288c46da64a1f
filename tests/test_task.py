"""A task file says what it means, refuses what does not fit, and keeps its sets apart."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from narrows.errors import InputError, NarrowsError, TaskError
from narrows.metrics import METRICS
from narrows.preprocess import Preprocess, preset
from narrows.splits import Split, check_disjoint, divide
from narrows.task import Task, array_task, load_task


def save(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three tables of pictures, 8 + 4 + 4, four classes."""
    for start, stop, name in ((0, 8, "fit"), (8, 12, "choose"), (12, 16, "report")):
        rows = ["file,label"]
        for number in range(start, stop):
            save(tmp_path / "img" / f"{number}.png", number)
            rows.append(f"img/{number}.png,{number % 4}")
        (tmp_path / f"{name}.csv").write_text("\n".join(rows))
    return tmp_path


SIZE = '[preprocess]\npreset = "torchvision"\nsize = 16\n'
THREE = '[data]\nfit = "fit.csv"\nchoose = "choose.csv"\nreport = "report.csv"\n'


def load(folder: Path, text: str, **options: object) -> Task:
    (folder / "task.toml").write_text(text)
    return load_task(folder / "task.toml", **options)


def test_three_tables_give_three_sets_and_batches(pictures: Path) -> None:
    task = load(pictures, 'name = "four"\n' + THREE + SIZE)
    assert [len(split) for split in task.sets.values()] == [8, 4, 4]
    assert (task.name, task.kind, task.input_shape, task.chance) == (
        "four",
        "image",
        (3, 16, 16),
        0.25,
    )
    x, labels = task.inputs(task.fit, 6, 99)
    assert labels.tolist() == [2, 3]
    assert x.dtype == np.float32
    one = task.to_input(task.pixels(task.fit.example(7)))
    np.testing.assert_array_equal(x[1], one)
    assert one.shape == (3, 16, 16)


def test_fit_is_halved_when_choose_is_not_given(pictures: Path) -> None:
    text = '[data]\nfit = "fit.csv"\nreport = "report.csv"\n' + SIZE
    task, again = load(pictures, text), load(pictures, text)
    assert [len(split) for split in task.sets.values()] == [4, 4, 4]
    assert list(task.fit.sources) == list(again.fit.sources)
    assert "seed 0" in task.division
    other = load(pictures, text.replace("[data]", "[data]\nseed = 1"))
    assert list(other.fit.sources) != list(task.fit.sources)


@pytest.mark.parametrize("key", ["all", "fit"])
def test_one_set_is_divided_into_three(pictures: Path, key: str) -> None:
    task = load(pictures, f'[data]\n{key} = "fit.csv"\n' + SIZE)
    assert [len(split) for split in task.sets.values()] == [2, 2, 4]
    files = {path for split in task.sets.values() for path in split.sources}
    assert len(files) == 8


def test_class_folders_name_the_classes(tmp_path: Path) -> None:
    for number in range(12):
        save(tmp_path / "data" / ("rose" if number % 2 else "daisy") / f"{number}.png", number)
    task = load(tmp_path, '[data]\nall = "data"\n' + SIZE)
    assert task.labels == ("daisy", "rose")
    assert task.classes == 2
    for example in task.report:
        assert task.labels[example.label] == example.source.parent.name


def test_labels_by_name_in_a_table(pictures: Path) -> None:
    for name in ("fit", "choose", "report"):
        text = (pictures / f"{name}.csv").read_text()
        names = {",0": ",a", ",1": ",b", ",2": ",c", ",3": ",d"}
        for number, label in names.items():
            text = text.replace(number, label)
        (pictures / f"{name}.csv").write_text(text)
    (pictures / "names.txt").write_text("a\nb\nc\nd\n")
    for labels in ('labels = ["a", "b", "c", "d"]\n', 'labels = "names.txt"\n'):
        task = load(pictures, labels + THREE + SIZE)
        assert task.fit.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    with pytest.raises(TaskError, match="'d' is no number and no class name"):
        load(pictures, 'labels = ["a", "b", "c"]\n' + THREE + SIZE)


def test_root_moves_where_file_names_start(pictures: Path) -> None:
    (pictures / "lists").mkdir()
    for name in ("fit", "choose", "report"):
        (pictures / f"{name}.csv").rename(pictures / "lists" / f"{name}.csv")
    text = THREE.replace('= "', '= "lists/') + 'root = "."\n'
    assert len(load(pictures, text + SIZE).fit) == 8


def test_the_model_s_own_preprocessing_is_used_where_none_is_stated(pictures: Path) -> None:
    own = preset("efficientnet-lite", size=20)
    assert load(pictures, THREE, preprocess=own).preprocess == own
    changed = load(pictures, THREE + '[preprocess]\ninterpolation = "box"\n', preprocess=own)
    assert changed.preprocess == replace(own, interpolation="box")
    assert load(pictures, THREE + SIZE, preprocess=own).preprocess == preset("torchvision", size=16)


def test_preprocessing_stated_in_full(pictures: Path) -> None:
    text = '[preprocess]\nsize = [10, 12]\nmean = 0.5\nstd = [0.1, 0.2, 0.3]\nlayout = "hwc"\n'
    found = load(pictures, THREE + text).preprocess
    expected = Preprocess(
        size=(10, 12), scale=255.0, mean=(0.5,), std=(0.1, 0.2, 0.3), layout="hwc"
    )
    assert found == expected


def test_windows_from_an_array_file_with_a_metric_beside_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 50, 6)), rng.normal(size=(40, 2))
    np.savez(tmp_path / "all.npz", x=x, y=y)
    (tmp_path / "my_own_metric.py").write_text("def score(o, y):\n    return -abs(o - y).mean()\n")
    text = 'metric = "my_own_metric:score"\n[data]\nkind = "series"\nall = "all.npz"\n'
    before = list(sys.path)
    task = load(tmp_path, text + "[preprocess]\nscale = 2.0\n")
    assert sys.path == before
    assert (task.input_shape, task.chance) == ((50, 6), None)
    windows, targets = task.inputs(task.choose, 0, 3)
    np.testing.assert_allclose(windows * 2, task.choose.sources[:3], rtol=1e-6)
    assert task.metric(targets + 1, targets) == pytest.approx(-1)
    with pytest.raises(TaskError, match="no pixels"):
        task.pixels(task.fit.example(0))


def test_uint8_arrays_may_be_pictures(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x=pixels, y=np.arange(8))
    text = '[data]\nkind = "image"\nall = "d.npz"\n[preprocess]\nsize = 28\ncolour = "grey"\n'
    x, labels = load(tmp_path, text).inputs(load(tmp_path, text).fit, 0, 1)
    np.testing.assert_array_equal(x[0, 0], pixels[labels[0]] / np.float32(255))


def test_a_factory_gives_its_own_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_task_factory.py").write_text(
        "import numpy as np\n"
        "from narrows.task import array_task\n"
        "def make():\n"
        "    return array_task('mine', np.eye(12), np.arange(12) % 3)\n"
        "def wrong():\n"
        "    return 3\n"
        "def fails():\n"
        "    import no_such_module_at_all\n"
        "number = 3\n"
    )
    assert load_task("own_task_factory:make").name == "mine"
    with pytest.raises(TaskError, match="gave a int"):
        load_task("own_task_factory:wrong")
    with pytest.raises(NarrowsError, match=r"failed with ModuleNotF.*own_task_factory\.py, line 8"):
        load_task("own_task_factory:fails")
    with pytest.raises(NarrowsError, match="is a int: expected a function"):
        load_task("own_task_factory:number")
    with pytest.raises(NarrowsError, match="has no 'nothing'"):
        load_task("own_task_factory:nothing")
    with pytest.raises(NarrowsError, match="cannot import 'no_module_here'"):
        load_task("no_module_here:make")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "not TOML"),
        ("metric = 'top1'\n", r"no \[data\]"),
        ("nmae = 'x'\n" + THREE + SIZE, "unknown key 'nmae'"),
        (THREE.replace("choose =", "chose =") + SIZE, "unknown key 'chose'"),
        (THREE + SIZE + "sise = 3\n", "unknown key 'sise'"),
        (THREE, "nothing says how to prepare"),
        (THREE + '[preprocess]\npreset = "resnet"\n', "no preprocessing preset 'resnet'"),
        (THREE + "[preprocess]\nsize = 16\nstd = 0.0\n", "std"),
        (THREE + '[preprocess]\nsize = "big"\n', "size"),
        (THREE + '[preprocess]\nsize = 16\nmean = "x"\n', "mean"),
        ('metric = "top9"\n' + THREE + SIZE, "no metric 'top9'.*top5"),
        ('metric = "math:pi"\n' + THREE + SIZE, "expected a function"),
        ('labels = ["a", "b"]\n' + THREE + SIZE, "label 3, expected 2 class names"),
        ('labels = "none.txt"\n' + THREE + SIZE, "no labels file"),
        ("labels = 3\n" + THREE + SIZE, "labels is a int"),
        ('[data]\nfit = "fit.csv"\nchoose = "choose.csv"\n' + SIZE, "states fit, choose"),
        ("[data]\n" + SIZE, "states no set"),
        ('[data]\nall = "gone.csv"\n' + SIZE, "no data at"),
        ('[data]\nall = "task.toml"\n' + SIZE, "cannot read data from task.toml"),
        (THREE + 'kind = "video"\n' + SIZE, "'video'"),
        (THREE + 'kind = "array"\n' + SIZE, "unknown key 'preset'"),
        (THREE + "seed = 'x'\n" + SIZE, "seed"),
        (THREE + "overlap = 'maybe'\n" + SIZE, "overlap"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(pictures: Path, text: str, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        load(pictures, text)


def test_tables_that_do_not_fit_are_refused(pictures: Path) -> None:
    good = (pictures / "fit.csv").read_text()
    for content, words in (
        (good + "\nimg/99.png,1", "1 of 9 files that are not there"),
        (good + "\nimg/0.png", "row 9: expected file,label"),
        (good + "\nimg/8.png,-1", "label -1"),
        ("file,label\n", "no samples"),
        ("", "no samples"),
        ("file,label\nimg/0.png,cat\n", "'cat' is no number"),
    ):
        (pictures / "fit.csv").write_text(content)
        with pytest.raises(TaskError, match=words):
            load(pictures, THREE + SIZE)


def test_a_shared_picture_is_found_by_content_under_another_name(pictures: Path) -> None:
    copy = pictures / "img" / "copy.png"
    copy.write_bytes((pictures / "img" / "3.png").read_bytes())
    with (pictures / "report.csv").open("a") as file:
        file.write("\nimg/copy.png,3")
    with pytest.raises(TaskError, match=r"'fit' and 'report' share a sample.*copy\.png"):
        load(pictures, THREE + SIZE)
    allowed = load(pictures, THREE + 'overlap = "allow"\n' + SIZE)
    assert len(allowed.report) == 5


def test_shared_arrays_are_found() -> None:
    x = np.arange(12.0).reshape(4, 3)
    sets = {
        "fit": Split(sources=x, labels=np.arange(4)),
        "report": Split(sources=x[3:] + 0.0, labels=np.arange(1)),
    }
    with pytest.raises(TaskError, match="number 3 and number 0"):
        check_disjoint(sets)


def test_a_file_that_is_no_picture_is_named_when_read(pictures: Path) -> None:
    (pictures / "img" / "0.png").write_text("not a picture")
    task = load(pictures, THREE + SIZE)
    with pytest.raises(InputError, match=r"0\.png is not a picture"):
        task.inputs(task.fit, 0, 1)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((3, 2))}, "lacks array 'y'"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(2, int)}, "one label per sample"),
        ({"x": np.array(["a"]), "y": np.zeros(1, int)}, "expected numbers"),
        ({"x": np.zeros((2, 2)), "y": np.zeros(2, int)}, "too few to divide"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0, int)}, "no samples"),
        ({"x": np.array([{}]), "y": np.zeros(1, int)}, "cannot read arrays"),
    ],
)
def test_array_files_that_do_not_fit_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], words: str
) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(TaskError, match=words):
        load(tmp_path, '[data]\nkind = "array"\nall = "d.npz"\n')


def test_a_damaged_array_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(TaskError, match="cannot read arrays"):
        load(tmp_path, '[data]\nkind = "array"\nall = "d.npz"\n')


def test_a_file_of_another_kind_is_not_called_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_text("x,y")
    with pytest.raises(TaskError, match=r"numpy\.savez did not write it"):
        load(tmp_path, '[data]\nkind = "array"\nall = "d.npz"\n')


def test_values_that_are_not_finite_are_said_with_their_place() -> None:
    x = np.random.default_rng(0).normal(size=(8, 3))
    task = array_task("holes", x.copy(), np.arange(8))
    x[5:, 1] = np.nan
    with pytest.raises(TaskError, match=r"x\[5\] has values that are NaN"):
        array_task("holes", x, np.arange(8))
    with pytest.raises(TaskError, match=r"y\[6\] has values that are NaN"):
        array_task("holes", x[:5].repeat(2, axis=0), np.r_[np.zeros(6), np.inf, np.zeros(3)])
    made = replace(task, fit=Split(sources=x[6:], labels=np.arange(2)))
    with pytest.raises(InputError, match="not finite"):
        made.inputs(made.fit, 0, 2)


def test_a_model_that_cannot_be_asked_is_refused(pictures: Path) -> None:
    task = load(pictures, THREE + SIZE)
    task.check_model((3, 16, 16), 4)
    task.check_model((3, 16, 16), 1000)
    with pytest.raises(TaskError, match="labels up to 3, the model has 3 outputs"):
        task.check_model((3, 16, 16), 3)
    with pytest.raises(TaskError, match=r"\(3, 16, 16\), the model takes \(16, 16, 3\)"):
        task.check_model((16, 16, 3), 4)
    named = load(pictures, 'labels = ["a", "b", "c", "d"]\n' + THREE + SIZE)
    with pytest.raises(TaskError, match="4 class names"):
        named.check_model((3, 16, 16), 1000)


def test_top1_needs_class_numbers() -> None:
    with pytest.raises(TaskError, match=r"float32.*rmse"):
        array_task("targets", np.eye(8), np.linspace(0, 1, 8))


def test_every_sample_of_a_division_is_in_one_part() -> None:
    whole = Split(sources=np.arange(101), labels=np.arange(101))
    parts = divide(whole, {"a": 0.2, "b": 0.3, "c": 0.5}, seed=3)
    assert [len(part) for part in parts.values()] == [20, 30, 51]
    everything = np.concatenate([part.sources for part in parts.values()])
    assert sorted(everything) == list(range(101))
    for part in parts.values():
        np.testing.assert_array_equal(part.sources, part.labels)


def test_metrics_equal_scikit_learn_s() -> None:
    from sklearn import metrics

    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(300, 7)), rng.integers(0, 6, 300)
    answered = outputs.argmax(1)
    expected = {
        "top1": metrics.accuracy_score(labels, answered),
        "top5": metrics.top_k_accuracy_score(labels, outputs, k=5, labels=range(7)),
        "f1-macro": metrics.f1_score(labels, answered, average="macro"),
    }
    for name, value in expected.items():
        assert METRICS[name](outputs, labels) == pytest.approx(value)
    targets = rng.normal(size=(300, 7))
    rmse = metrics.root_mean_squared_error(targets.ravel(), outputs.ravel())
    assert METRICS["rmse"](outputs, targets) == pytest.approx(-rmse)
    one = METRICS["rmse"](outputs[:, :1], targets[:, 0])
    assert one == pytest.approx(-metrics.root_mean_squared_error(targets[:, 0], outputs[:, 0]))


def test_a_metric_that_fails_says_with_what() -> None:
    with pytest.raises(TaskError, match=r"metric 'rmse' failed on outputs \(2, 3\)"):
        METRICS["rmse"](np.zeros((2, 3)), np.zeros(2))


def test_a_digest_is_of_content_labels_and_order_and_not_of_paths(tmp_path: Path) -> None:
    files = [save(tmp_path / "a" / f"{number}.png", number) for number in range(3)]
    moved = [save(tmp_path / "b" / f"other-{number}.png", number) for number in range(3)]
    labels = np.array([0, 1, 2])
    first = Split(sources=files, labels=labels).digest()
    assert Split(sources=moved, labels=labels).digest() == first
    assert Split(sources=files, labels=labels[::-1]).digest() != first
    assert Split(sources=files[::-1], labels=labels).digest() != first
    save(files[1], 99)
    assert Split(sources=files, labels=labels).digest() != first


def test_a_digest_tells_arrays_apart_by_type_and_shape() -> None:
    zeros = np.zeros((2, 4, 3), np.float32)
    labels = np.arange(2)
    alike = [zeros, zeros.reshape(2, 3, 4), zeros.view(np.int32)]
    assert len({Split(sources=x, labels=labels).digest() for x in alike}) == 3
    same = Split(sources=np.asfortranarray(zeros), labels=labels).digest()
    assert same == Split(sources=zeros, labels=labels).digest()


def test_a_picture_that_is_gone_is_named(tmp_path: Path) -> None:
    kept, gone = save(tmp_path / "kept.png", 1), tmp_path / "gone.png"
    sets = {"fit": [kept], "choose": [gone]}
    splits = {n: Split(sources=s, labels=np.zeros(1, np.int64)) for n, s in sets.items()}
    with pytest.raises(TaskError, match=r"cannot read the sample .*gone\.png: No such file"):
        check_disjoint(splits)
    with pytest.raises(TaskError, match=r"gone\.png"):
        splits["choose"].digest()
