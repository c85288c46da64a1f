"""The report of a study: what is read, summed up, drawn and written down."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from invented_studies import NAMES, TIME_RATIOS, write_study

from narrows.cli import main
from narrows.errors import InputError
from narrows.report.study_colours import operator_colours, operator_shares, variant_colours
from narrows.report.study_page import write_study_page
from narrows.report.study_page_data import study_page_data
from narrows.report.study_scene import read_study
from narrows.report.study_tables import tables_text
from narrows.study.claims import answer

FEW = NAMES[:2] + NAMES[14:16]
EVIL = "</script><script>alert(1)</script>|`*a*`"


def test_claims_sum_up_ratios_by_geometric_mean_and_name_the_networks(tmp_path: Path) -> None:
    scene = read_study(write_study(tmp_path / "s"))
    for claim in scene.claims:
        ratio = TIME_RATIOS[claim.variant, claim.runtime]
        truth = [ratio * (1 + 0.25 * np.sin(index)) for index in range(len(NAMES))]
        assert claim.networks == len(NAMES)
        assert claim.time.value == pytest.approx(float(np.exp(np.mean(np.log(truth)))))
        assert (claim.time.low, claim.time.high) == pytest.approx((min(truth), max(truth)))
        size = {"int8": 0.27, "weights": 0.26}[claim.variant]
        assert claim.size.value == pytest.approx(size, rel=1e-3)
        slower = [name for name, value in zip(NAMES, truth, strict=True) if value * 0.97 > 1]
        assert list(claim.slower) == list(claim.smaller_and_slower) == slower
        assert len(claim.faster) + len(claim.slower) + len(claim.undecided) == len(NAMES)


def test_the_answer_says_for_which_variants_the_claim_holds(tmp_path: Path) -> None:
    scene = read_study(write_study(tmp_path / "s", threads=(1,)))
    summary, whole, partly, faster = answer(scene.claims)
    assert "Of 4 combinations" in summary
    assert "1 were smaller and slower on every network, 1 on some, and 2 faster" in summary
    assert whole.startswith("Smaller and slower on every network: weights on ONNX Runtime")
    assert partly.startswith(
        "Smaller and slower on some: weights on OpenVINO (1 thread: -74 % size"
    )
    assert faster.startswith("Faster on every network: int8 on ONNX Runtime (1 thread: -73 % size")
    assert "int8 on OpenVINO" in faster
    untold = [replace(claim, faster=(), undecided=claim.faster) for claim in scene.claims]
    assert "0 faster on every one" in answer(untold)[0]
    assert answer(untold)[-1].startswith("Slower on none, but not faster on all")
    assert answer(())[0].startswith("No variant was measured")


def test_shares_of_operators_sum_to_one_and_have_colours_of_their_own(tmp_path: Path) -> None:
    shares = operator_shares(read_study(write_study(tmp_path / "s", names=FEW)))
    assert set(shares) == {
        (name, variant, "onnxruntime")
        for name in FEW
        for variant in ("original", "int8", "weights")
    }
    for found in shares.values():
        assert sum(found.values()) == pytest.approx(1.0)
    colours = operator_colours(list(next(iter(shares.values()))))
    assert len(set(colours.values())) == len(colours)
    tints = variant_colours(["original", "int8", "weights", "pruned", "binary"])
    assert len(set(tints.values())) == 5


def test_tables_hold_every_network_and_its_numbers(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "s", names=FEW, failing=FEW[:1], energy=True)
    text = tables_text(read_study(folder))
    for title in ("Size", "Time of one inference, 1 thread", "Accuracy", "Energy of one inference"):
        assert f"\n## {title}\n" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    tables = [part for part in text.split("\n\n") if part.startswith("|")]
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    for name in FEW[1:]:
        assert sum(line.startswith(f"| {name} ") for line in rows) >= 3
    assert "* MobileNet v1 1.0, 14 cells: timm has no network 'none'" in text
    assert "× 1.94 (1.88 to 2.01)" in text
    assert re.search(
        r"\| EfficientNet-Lite0 \| int8 \| ONNX Runtime \| 1000 \| \d\d\.\d % \(", text
    )
    silent = tables_text(read_study(write_study(tmp_path / "t", names=FEW[:1])))
    assert "Not measured: no sensor here." in silent
    assert "## Accuracy" not in silent


def test_the_last_record_of_a_cell_counts_and_missing_ones_are_told(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "s", names=FEW)
    lines = (folder / "records.jsonl").read_bytes().splitlines(keepends=True)
    slow = json.loads(lines[0])
    slow["latency"]["samples"] = [1.0] * 30
    kept = [lines[0], *lines[5:], json.dumps(slow).encode() + b"\n"]
    (folder / "records.jsonl").write_bytes(b"".join(kept))
    scene = read_study(folder)
    assert scene.missing == 4
    first = scene.get(FEW[0], "original", "onnxruntime", 1)
    assert first is not None
    assert first.latency.median == 1.0


def test_there_is_no_report_of_nothing(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "s", names=FEW, failing=FEW)
    with pytest.raises(InputError, match="no measured cell"):
        read_study(folder)
    with pytest.raises(InputError, match="cannot read"):
        read_study(tmp_path / "none")


def test_the_page_holds_its_data_and_asks_for_nothing(tmp_path: Path) -> None:
    scene = read_study(write_study(tmp_path / "s", names=(EVIL, *FEW), title=EVIL))
    page = write_study_page(scene, tmp_path / "page").read_text()
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page.partition("<script>")[0])
    assert page.count("<script>alert(1)") == 0
    block = page.partition('<script type="application/json" id="data">')[2].partition("</script>")[
        0
    ]
    data = json.loads(block)
    assert data == json.loads(json.dumps(study_page_data(scene)))
    assert len(data["rows"]) == 5 * 14
    assert data["networks"][0] == EVIL


@pytest.mark.parametrize("dark", [False, True])
def test_narrows_report_reads_a_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dark: bool
) -> None:
    folder = write_study(tmp_path / "s", names=FEW, threads=(1,), energy=dark)
    command = ["report", str(folder), "-o", str(tmp_path / "out"), "--json"]
    assert main([*command, *(["--dark"] if dark else [])]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["page"] == str(tmp_path / "out" / "index.html")
    names = {Path(path).name for path in told["figures"]}
    assert names == {
        f"{name}.{kind}"
        for kind in ("png", "svg")
        for name in (
            "study1-before-after-1-thread",
            "study2-ratios-1-thread",
            "study3-accuracy-against-time-1-thread",
            "study4-accuracy",
            "study5-operators-onnxruntime",
        )
    }
    for path in told["figures"]:
        assert Path(path).stat().st_size > 5000
    if dark:
        svg = (tmp_path / "out" / "study1-before-after-1-thread.svg").read_text()
        assert "#182029" in svg


def test_a_study_is_not_mixed_with_other_folders(tmp_path: Path) -> None:
    folder = str(write_study(tmp_path / "s", names=FEW[:1], threads=(1,)))
    assert main(["report", folder, folder, "-o", str(tmp_path / "out")]) == 2
