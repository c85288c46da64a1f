"""The study's file: what it may say, what it means, and how mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from narrows.errors import ConfigError, InputError
from narrows.study.settings import StudySettings, schedule_of
from narrows.study.study_file import read_settings

NETWORK = '[[network]]\nname = "a"\nmodel = "a.onnx"\n'


def read(tmp_path: Path, text: str, **places: str) -> StudySettings:
    path = tmp_path / "study.toml"
    path.write_text(text)
    return read_settings(path, places=places)


def test_the_least_file_measures_the_original_on_onnx_runtime(tmp_path: Path) -> None:
    found = read(tmp_path, f"[study]\n{NETWORK}")
    assert (found.threads, found.runtimes) == ((1,), ("onnxruntime",))
    (network,) = found.networks
    assert [variant.name for variant in network.variants] == ["original"]
    assert network.model == str(tmp_path / "a.onnx")


def test_variants_are_methods_or_files_and_the_original_is_always_one(tmp_path: Path) -> None:
    text = f"""[study]
variants = ["int8", "weights"]
{NETWORK}
[[network.variant]]
name = "pruned"
model = "pruned.onnx"
[[network.variant]]
name = "again"
method = "int8"
"""
    (network,) = read(tmp_path, text).networks
    found = [(one.name, one.methods, one.model) for one in network.variants]
    assert found == [
        ("original", (), None),
        ("int8", ("int8",), None),
        ("weights", ("weights",), None),
        ("pruned", (), str(tmp_path / "pruned.onnx")),
        ("again", ("int8",), None),
    ]


def test_what_compress_makes_is_a_variant_of_every_network_that_has_a_task(tmp_path: Path) -> None:
    text = f"""[study]
variants = ["int8"]
[[study.variant]]
name = "pruned + retrained"
method = "units:shares=[0.5],retrain.epochs=3"
[[study.variant]]
name = "pruned, int8"
method = ["units:shares=[0.5],retrain.epochs=3", "int8"]
{NETWORK}
task = "task.toml"
flip = true
train_batch = 32
[[network.variant]]
name = "student"
model = "student.narrows"
[[network]]
name = "b"
model = "zoo:lenet5?pretrained=0"
task = "a:task"
"""
    first, second = read(tmp_path, text).networks
    names = ["original", "int8", "pruned + retrained", "pruned, int8"]
    assert [one.name for one in first.variants] == [*names, "student"]
    assert [one.name for one in second.variants] == names
    both = first.variants[3]
    assert both.training_lines == ("units:shares=[0.5],retrain.epochs=3",)
    assert both.exported_methods == ("int8",)
    assert first.variants[4].model == str(tmp_path / "student.narrows")
    assert (first.flip, first.train_batch, second.flip, second.train_batch) == (True, 32, False, 64)


def test_a_network_may_say_otherwise_than_the_study(tmp_path: Path) -> None:
    text = (
        '[study]\nvariants = ["int8"]\ncalibration = 5\n[[network]]\nname = "a"\nmodel = "timm:x"\n'
        'variants = ["weights"]\n[[network]]\nname = "b"\nmodel = "timm:x"\ncalibration = 9\n'
        "limit_s = 7\nrespawns = 0"
    )
    found = read(tmp_path, text)
    first, second = found.networks
    assert [one.name for one in first.variants] == ["original", "weights"]
    assert [one.name for one in second.variants] == ["original", "int8"]
    assert (first.calibration, second.calibration) == (5, 9)
    usual, own = (schedule_of(found, network, 2) for network in (first, second))
    assert (usual.limit_s, usual.respawns) == (found.limit_s, found.respawns)
    assert (own.limit_s, own.respawns, own.threads) == (7.0, 0, 2)


def test_places_are_filled_in_from_options_and_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_NETS", "/env")
    text = '[study]\n[[network]]\nname = "a"\nmodel = "${STUDY_NETS}/${WHICH}.onnx"\n'
    (network,) = read(tmp_path, text, WHICH="b").networks
    assert network.model == "/env/b.onnx"
    (network,) = read(tmp_path, text, WHICH="b", STUDY_NETS="/own").networks
    assert network.model == "/own/b.onnx"
    with pytest.raises(ConfigError, match=r"nothing says what \$\{WHICH\} is: give --set WHICH="):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"[study]\nthread = [1]\n{NETWORK}", "unknown key 'thread': did you mean 'threads'?"),
        (f"[study]\n{NETWORK}modle = 'x'\n", "unknown key 'modle': did you mean 'model'?"),
        (f"[studdy]\n{NETWORK}", "the file: unknown key 'studdy': did you mean 'study'?"),
        (
            f"[study]\nvariants = ['int']\n{NETWORK}",
            "did you mean 'int8'? known are original, int8",
        ),
        (
            f"[study]\n{NETWORK}[[network.variant]]\nname='p'\nmethod='prune'\n",
            "unknown method of variant 'p' 'prune': known are int8, weights",
        ),
        (f"[study]\nruntimes = ['openvin']\n{NETWORK}", "did you mean 'openvino'?"),
        (f"[study]\nbaseline = 'tf'\n{NETWORK}", "unknown baseline 'tf': known are torch"),
        (f"[study]\nthreads = []\n{NETWORK}", "threads is empty: state at least one"),
        (f"[study]\nthreads = [1, 1]\n{NETWORK}", "threads name 1 twice"),
        (f"[study]\nthreads = [0]\n{NETWORK}", "are at least 1"),
        (f"[study]\nrounds = 'ten'\n{NETWORK}", "rounds: expected a whole number, found 'ten'"),
        (f"[study]\n{NETWORK}{NETWORK}", "networks name 'a' twice"),
        ("[study]\n", "no [[network]]: state name and model"),
        ("[study]\n[network]\nname = 'a'\n", "[network] is one table: write [[network]]"),
        ("[study]\n[[network]]\nname = 'a'\n", "[[network]] a: model is missing"),
        ("[[network]]\nname='a'\nmodel='b'\n", "no [study] section"),
        (f"[study]\n{NETWORK}[[network.variant]]\nname='p'\n", "either method or model"),
        (
            f"[study]\n{NETWORK}[[network.variant]]\nname='p'\nmethod='units:retrain.epochs=1'\n",
            "missing key 'shares'",
        ),
        (
            f"[study]\n{NETWORK}[[network.variant]]\nname='p'\nmethod='prune:share=1'\n",
            "no method 'prune': choose from deepiot, units",
        ),
        (
            f"[study]\n{NETWORK}[[network.variant]]\nname='p'\n"
            "method=['int8', 'units:shares=[0.5],retrain.epochs=1']\n",
            "and lines such as units:shares=[0.5],... before them",
        ),
        (
            f"[study]\n{NETWORK}[[network.variant]]\nname='p'\n"
            "method='units:shares=[0.5],retrain.epochs=1'\n",
            "has no task that its variant 'p' could be trained on",
        ),
        (f"[study]\n{NETWORK}[[network.variant]]\nname='p'\nmethod=3\n", "a list of texts"),
        (f"[study]\n[study.variant]\nname='p'\n{NETWORK}", "in double brackets"),
        (f"[study]\n{NETWORK}[[network.variant]]\nname='original'\nmodel='x.onnx'\n", "itself"),
        ("study", "is not TOML"),
    ],
)
def test_what_cannot_be_is_told_by_place_and_nearest_name(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert told in str(caught.value)
    assert "study.toml" in str(caught.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give the TOML file of a study"):
        read_settings(tmp_path / "none.toml")
