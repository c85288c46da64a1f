from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from server_process import serving

from narrows.cli import main
from narrows.errors import Unreachable
from narrows.runtime.assemble import write_bundle
from narrows.runtime.bundle import Bundle
from narrows.runtime.serving.client import Grpc
from narrows.testing.bundles import pictures


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model of arrays: the sum of six numbers, and nothing to choose from."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 6] x) => (float[N, 1] y) <int64[1] axis = {1}> { y = ReduceSum(x, axis) }"""
    path = tmp_path_factory.mktemp("sums") / "b"
    return write_bundle(path, name="sums", model=onnx.parser.parse_model(text))


def test_run_gives_whole_outputs_of_arrays(
    sums: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "a.npy", np.arange(12, dtype=np.float32).reshape(2, 6))
    arguments = ["run", str(sums.path), str(tmp_path), "--top", "0"]
    assert main([*arguments, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["outputs"] for line in lines] == [[[15.0]], [[51.0]]]
    assert [Path(line["input"]).name for line in lines] == ["a.npy[0]", "a.npy[1]"]
    assert main(arguments) == 0
    assert "a.npy[1]  51  local" in capsys.readouterr().out


def test_run_reads_a_stream_of_files(
    sums: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.BytesIO()
    np.save(file, np.ones(6, np.float32))
    blob = struct.pack("<I", len(file.getvalue())) + file.getvalue()

    class Input:
        buffer = io.BytesIO(blob * 3 + b"\1\0")

    monkeypatch.setattr("sys.stdin", Input)
    code = main(["run", str(sums.path), "-", "--stream", "files", "--top", "0"])
    found = capsys.readouterr()
    assert code == 1
    assert found.out.count("6  local") == 3
    assert "input 3 of the stream" in found.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "nowhere", "a.png"], 1, "nowhere is not a bundle"),
        (["serve", "nowhere"], 1, "nowhere is not a bundle"),
        (["run", "BUNDLE", "nowhere.npy"], 1, "cannot read nowhere.npy"),
        (["run", "BUNDLE", "a.npy", "--server", "cloud"], 2, "is not host:port"),
        (["run", "BUNDLE", "a.npy", "--deadline", "-1"], 2, "deadline"),
        (["run", "BUNDLE", "a.npy", "--no-local"], 2, "without --server"),
        (["run", "BUNDLE"], 2, "INPUTS"),
    ],
)
def test_wrong_calls_are_said_in_one_line(
    sums: Bundle,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    given = [str(sums.path) if word == "BUNDLE" else word for word in arguments]
    assert main(given) == code
    assert words.lower() in " ".join(capsys.readouterr().err.split()).lower()


def test_an_input_that_cannot_be_used_is_named_and_the_next_is_answered(
    sums: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "broken.npy", np.array([1, np.nan, 3, np.inf, 5, 6], np.float32))
    np.save(tmp_path / "two\nlines.npy", np.zeros((3, 3), np.float32))
    np.save(tmp_path / "whole.npy", np.ones(6, np.float32))
    assert main(["run", str(sums.path), str(tmp_path), "--top", "0"]) == 1
    found = capsys.readouterr()
    assert "whole.npy  6  local" in found.out
    broken, lines = found.err.splitlines()
    assert "broken.npy: 2 of the input's 6 values are NaN or infinite" in broken
    assert "two lines.npy holds (3, 3)" in lines


def test_a_broken_sample_does_not_hide_the_others_of_its_file(
    sums: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.ones((3, 6), np.float32)
    values[1, 0] = np.nan
    np.save(tmp_path / "a.npy", values)
    assert main(["run", str(sums.path), str(tmp_path / "a.npy"), "--top", "0"]) == 1
    found = capsys.readouterr()
    assert [line.split("  ")[0][-8:] for line in found.out.splitlines()] == ["a.npy[0]", "a.npy[2]"]
    assert "a.npy[1]: 1 of the input's 6 values" in found.err


@pytest.mark.parametrize(("answered", "told"), [(0, 0), (1, 2)])
def test_without_a_local_model_a_server_that_has_answered_may_fail_for_a_while(
    split_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answered: int,
    told: int,
) -> None:
    """One answer, one failure, one answer; but a server that never answered ends the run."""
    calls = iter([True] * answered + [False, True])
    send = Grpc.send

    def flaky(link: Grpc, frame: bytes, *, timeout_s: float) -> bytes:
        if not next(calls):
            msg = "nobody answers"
            raise Unreachable(msg)
        return send(link, frame, timeout_s=timeout_s)

    monkeypatch.setattr(Grpc, "send", flaky)
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    with serving(split_bundle) as (_, address):
        words = ["run", str(split_bundle.path), *[str(tmp_path / "a.png")] * 3]
        assert main([*words, "--server", address, "--no-local", "--deadline", "0"]) == 1
    found = capsys.readouterr()
    assert found.out.count("  split  ") == told
    assert found.err.count("nobody answers") == 1
