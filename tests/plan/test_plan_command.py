"""narrows plan and narrows deploy as a user types them."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from plan_nets import inputs_of, network, pictures

from narrows.cli import main
from narrows.cli.plan import variant_names
from narrows.graph.ort import run, session
from narrows.plan.candidate import Route
from narrows.plan.store import PlanFolder
from narrows.runtime.bundle import read_bundle
from narrows.runtime.edge import EdgeClient
from narrows.runtime.payload import Payloads

TASK = """
name = "stripes"
[data]
kind = "array"
all = "stripes.npz"
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a task and a finished plan."""
    folder = tmp_path_factory.mktemp("desk")
    pixels, labels = pictures(160)
    np.savez(folder / "stripes.npz", x=inputs_of(pixels), y=labels)
    (folder / "task.toml").write_text(TASK)
    onnx.save(network(), folder / "net.onnx")
    assert main([*plan_words(folder), "-o", str(folder / "plan")]) == 0
    return folder


def plan_words(folder: Path) -> list[str]:
    words = ["plan", str(folder / "net.onnx"), "--task", str(folder / "task.toml")]
    return [*words, "--cuts", "2,4", "--rates", "3", "--max-drop", "0.1", "--device", "x86-core"]


def test_the_plan_is_printed_with_its_choice(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*plan_words(desk), "-o", str(tmp_path / "plan")]) == 0
    shown = capsys.readouterr().out
    assert re.search("^ (net-int8/)?local ", shown, re.MULTILINE)  # of the two the faster, or both
    assert "fitted on 40, chosen on 40, reported on 80 examples" in shown
    assert "narrows deploy" in shown


def test_json_is_the_record(desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*plan_words(desk), "-o", str(tmp_path / "plan"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["chosen"] in {candidate["id"] for candidate in record["candidates"]}
    assert record["metric"] == "top1"


def test_nothing_fits_is_exit_code_1_and_the_plan_is_there(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*plan_words(desk), "-o", str(tmp_path / "plan"), "--deadline", "0.0000001"]
    assert main(words) == 1
    found = capsys.readouterr()
    assert found.err.count("nearest is net") == 1
    assert "nearest" not in found.out
    assert "narrows deploy" not in found.out
    assert PlanFolder(path=tmp_path / "plan").read().chosen is None
    assert main(["deploy", str(tmp_path / "plan"), "-o", str(tmp_path / "b")]) == 1
    assert "--candidate" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "words", [["--objective", "beauty"], ["--rates", "0"], ["--pictures"]], ids=str
)
def test_wrong_usage_is_exit_code_2(desk: Path, tmp_path: Path, words: list[str]) -> None:
    assert main([*plan_words(desk), "-o", str(tmp_path / "plan"), *words]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--codec", "zip"], "no codec 'zip'"),
        (["--link", "pigeon"], "no link profile 'pigeon'"),
        (["--cuts", "77"], "no cut 77"),
        (["--task", "nowhere.toml"], "no task file nowhere.toml"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_1(
    desk: Path,
    tmp_path: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*plan_words(desk), "-o", str(tmp_path / "plan"), *words]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "plan" / "plan.json").exists()


def test_a_deployed_split_answers_as_it_was_evaluated(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Head, coder, tail of the bundle against the whole model, at the finest rate."""
    words = ["deploy", str(desk / "plan"), "--candidate", "net/cut4/pca2-ans/r0"]
    candidates = {c.id for c in PlanFolder(path=desk / "plan").read().candidates}
    if words[-1] not in candidates:
        words[-1] = "net/cut4/pca1-ans/r0"
    assert main([*words, "-o", str(tmp_path / "bundle")]) == 0
    assert "answers as the plan evaluated it" in capsys.readouterr().out
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.manifest.route is Route.SPLIT
    pixels, _ = pictures(24, seed=5)
    inputs = inputs_of(pixels)
    (exact,) = run(session(network()), {"x": inputs})
    head, tail, payloads = bundle.head(), bundle.tail(), Payloads(bundle)
    agreeing = 0
    for sample, expected in zip(inputs, exact, strict=True):
        symbols, check = head.one(sample)
        assert np.isfinite(check)
        (outputs,) = tail.one(payloads.unpack(payloads.pack(symbols)))
        agreeing += int(outputs.argmax() == expected.argmax())
    assert agreeing >= 22


@pytest.mark.parametrize(
    ("row", "route"),
    [
        ("net/local", Route.LOCAL),
        ("net/values", Route.RAW),
        ("net/values-deflate", Route.RAW),
    ],
)
def test_every_route_can_be_deployed(desk: Path, tmp_path: Path, row: str, route: Route) -> None:
    words = ["deploy", str(desk / "plan"), "--candidate", row, "-o", str(tmp_path / "bundle")]
    assert main(words) == 0
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.manifest.route is route
    assert bundle.manifest.deflate == row.endswith("deflate")
    pixels, _ = pictures(1)
    answer = EdgeClient(bundle, None, deadline_s=None).answer(inputs_of(pixels)[0])
    assert answer.route is Route.LOCAL


def test_the_huffman_row_is_deployed_with_its_own_tables(desk: Path, tmp_path: Path) -> None:
    record = PlanFolder(path=desk / "plan").read()
    row = next(c for c in record.candidates if c.codec and "huffman" in c.codec.name)
    words = ["deploy", str(desk / "plan"), "--candidate", row.id, "-o", str(tmp_path / "bundle")]
    assert main(words) == 0
    place = read_bundle(tmp_path / "bundle").manifest.split
    assert place is not None
    assert place.coder == "huffman"
    assert place.cut == row.cut


def test_an_unknown_row_names_some_that_there_are(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["deploy", str(desk / "plan"), "--candidate", "net/cut9", "-o", str(tmp_path / "b")]
    assert main(words) == 1
    assert "net/local" in capsys.readouterr().err


def test_a_bundle_that_is_there_is_only_replaced_if_asked(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["deploy", str(desk / "plan"), "-o", str(tmp_path / "bundle"), "--json"]
    assert main(words) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(words) == 1
    assert main([*words, "--replace"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["id"] == first["id"]


def test_a_folder_without_a_plan_says_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deploy", str(tmp_path), "-o", str(tmp_path / "b")]) == 1
    assert "narrows plan" in capsys.readouterr().err


def test_the_file_of_a_plan_stands_for_its_folder(desk: Path, tmp_path: Path) -> None:
    assert main(["deploy", str(desk / "plan" / "plan.json"), "-o", str(tmp_path / "b")]) == 0


def test_variants_are_told_apart() -> None:
    assert variant_names(["timm:a", "torchvision:a", "zoo:b?size=96"]) == ["a", "a-2", "b-96"]
