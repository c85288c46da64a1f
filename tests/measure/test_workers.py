from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from narrows.errors import MeasureError, MissingExtra
from narrows.measure.backends import feeds
from narrows.measure.backends.base import Input
from narrows.measure.graph_builder import Builder
from narrows.measure.workers import WorkerContender, open_contender

SPIN = """
import time
from narrows.measure.worker import serve

def spin():
    until = time.perf_counter() + 0.002
    while time.perf_counter() < until:
        pass
"""


def python(code: str) -> Sequence[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def serving(call: str, before: str = "") -> Sequence[str]:
    return python(f"{before}\nfrom narrows.measure.worker import serve\nserve({call})")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph = Builder(shape=(3, 8, 8), rng=np.random.default_rng(0))
    weight = graph.weight(4, 3, 3, 3)
    value = graph.op("Relu", graph.op("Conv", "x", weight, kernel_shape=[3, 3], pads=[1] * 4))
    path = tmp_path_factory.mktemp("nets") / "net.onnx"
    onnx.save(graph.model(value), path)
    return path


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie that this very process should have buried has not."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return True
    return state == "Z" and int(parent) != os.getpid()


def test_at_least_so_many_calls_and_so_many_seconds() -> None:
    with WorkerContender("spin", [*python(SPIN + "\nserve(spin)")]) as contender:
        wall_s, cpu_s = contender.call(min_calls=7, seconds=0.0)
        assert len(wall_s) == len(cpu_s) == 7
        assert min(wall_s) >= 0.002
        assert sum(cpu_s) > 0
        wall_s, _ = contender.call(min_calls=1, seconds=0.1)
        assert sum(wall_s) + 0.002 >= 0.1
        assert len(wall_s) > 1


def test_the_child_stays_and_a_respawn_is_another() -> None:
    with WorkerContender("child", serving("lambda: None")) as contender:
        first = contender.pid
        contender.call(min_calls=1, seconds=0)
        assert contender.pid == first
        contender.respawn()
        assert contender.pid != first
        assert gone(first)
        last = contender.pid
    assert gone(last)
    contender.close()
    with pytest.raises(MeasureError, match="closed"):
        contender.call(min_calls=1, seconds=0)


def test_what_libraries_print_does_not_disturb() -> None:
    noise = """
    import os, sys
    def noisy():
        print("a library's notes")
        os.write(1, b'{"wall_ns": [1], "cpu_ns": [1]}\\n')
        sys.stdout.flush()
    """
    with WorkerContender("noisy", serving("noisy", textwrap.dedent(noise))) as contender:
        # more than a pipe holds, so that a child whose errors nobody reads would hang
        wall_s, _ = contender.call(min_calls=5000, seconds=0)
    assert len(wall_s) == 5000


def test_an_error_in_a_call_is_told() -> None:
    failing = (
        "count = [0]\ndef run():\n  count[0] += 1\n  if count[0] > 3: raise OSError('no disk')"
    )
    contender = WorkerContender("net", serving("run", failing))
    with pytest.raises(MeasureError, match="net: OSError: no disk"):
        contender.call(min_calls=5, seconds=0)


def test_a_child_that_dies_says_its_last_line() -> None:
    dying = "import os, sys\ndef run():\n  os.write(2, b'first\\nout of luck\\n'); os._exit(3)"
    with pytest.raises(MeasureError, match=r"exit code 3: out of luck"):
        WorkerContender("net", serving("run", dying))
    killed = "import os, signal\ncalls = []\ndef run():\n  calls.append(1)\n"
    killed += "  if len(calls) > 1: os.kill(os.getpid(), signal.SIGKILL)"
    contender = WorkerContender("net", serving("run", killed))
    with pytest.raises(MeasureError, match="signal 9"):
        contender.call(min_calls=1, seconds=0)


def test_a_child_that_never_answers_is_ended() -> None:
    slow = "import time\ncalls = []\ndef run():\n  calls.append(1)\n"
    slow += "  len(calls) > 1 and time.sleep(99)"
    contender = WorkerContender("net", serving("run", slow), limit_s=4.0)
    pid = contender.pid
    with pytest.raises(MeasureError, match="did not answer within"):
        contender.call(min_calls=1, seconds=0)
    assert gone(pid)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ([sys.executable, "-c", "print('hello')"], "no JSON"),
        ([sys.executable, "-c", "print('[1]')"], "answered"),
        ([sys.executable, "-c", "import nothing_like_it"], "nothing_like_it"),
        (["/nowhere/at/all"], "cannot be started"),
    ],
)
def test_other_programs_are_refused(command: Sequence[str], told: str) -> None:
    with pytest.raises(MeasureError, match=told):
        WorkerContender("other", command)


def test_ctrl_c_leaves_no_process(network: Path) -> None:
    code = f"""
    from pathlib import Path
    from narrows.measure.workers import open_contender
    with open_contender(Path({str(network)!r})) as contender:
        print(contender.pid, flush=True)
        contender.call(min_calls=1, seconds=60)
    """
    parent = subprocess.Popen(
        python(code),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # Ctrl-C is ignored by whatever a script started in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGINT)
        parent.wait(20)
    assert parent.returncode != 0
    assert gone(child)


def test_a_killed_parent_leaves_no_process() -> None:
    code = """
    import sys
    from narrows.measure.workers import WorkerContender
    code = "from narrows.measure.worker import serve; serve(lambda: None)"
    contender = WorkerContender("x", [sys.executable, "-c", code])
    print(contender.pid, flush=True)
    input()
    """
    parent = subprocess.Popen(
        python(code), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait(20)
    for _ in range(200):
        if gone(child):
            break
        time.sleep(0.05)
    assert gone(child)


def test_a_model_is_opened_with_its_batch_or_shape(network: Path) -> None:
    for options in ({}, {"batch": 2}, {"shape": (3, 3, 8, 8)}):
        with open_contender(network, **options) as contender:
            assert contender.name == "net.onnx"
            assert len(contender.call(min_calls=2, seconds=0)[0]) == 2
            assert contender.precision == "f32"
            greeting = contender.greeting
            assert greeting.base_bytes is not None
            assert greeting.peak_bytes is not None
            assert greeting.peak_bytes >= greeting.base_bytes > 1e6
            assert min(greeting.import_s, greeting.load_s, greeting.first_s) > 0


def test_what_cannot_be_opened_is_told(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MeasureError, match="no runtime 'tensorrt': choose from onnxruntime"):
        open_contender(network, backend="tensorrt")
    with pytest.raises(MeasureError, match=r"no model file .*missing\.onnx"):
        open_contender(tmp_path / "missing.onnx")
    with pytest.raises(MeasureError, match=r"litert does not read net\.onnx"):
        open_contender(network, backend="litert")
    with pytest.raises(MeasureError, match="shape asked for is 1,3,9,9"):
        open_contender(network, shape=(1, 3, 9, 9))
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r"narrows\[openvino\]"):
        open_contender(network, backend="openvino")


X = Input(name="x", shape=(None, 3), dtype="float32")


def test_inputs_come_from_files(tmp_path: Path, network: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 3)))
    found = feeds.read_feeds(tmp_path / "x.npy", [X])
    assert found["x"].dtype == np.float32
    assert found["x"].tolist() == [[1.0] * 3] * 2
    np.savez(tmp_path / "two.npz", x=np.zeros((1, 3)), y=np.ones((4,)))
    y = Input(name="y", shape=(4,), dtype="int64")
    assert set(feeds.read_feeds(tmp_path / "two.npz", [X, y])) == {"x", "y"}
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path / "wide.npy", np.ones((2, 4)))
    np.save(tmp_path / "nan.npy", [[1.0, np.nan, np.inf]])
    for inputs, path, told in (
        ([X], "text.npy", "no .npy"),
        ([X], "gone.npy", "cannot be read"),
        ([X], "wide.npy", "2,4"),
        ([X], "nan.npy", "2 of 3 values"),
        ([X, Input(name="z", shape=(1,), dtype="int64")], "two.npz", "lack z"),
    ):
        with pytest.raises(MeasureError, match=told):
            feeds.read_feeds(tmp_path / path, inputs)
    np.save(tmp_path / "image.npy", np.ones((1, 3, 8, 8)))
    with open_contender(network, inputs=tmp_path / "image.npy") as contender:
        assert len(contender.call(min_calls=1, seconds=0)[0]) == 1


def test_random_inputs_are_the_same_every_time_and_fill_their_type() -> None:
    kinds = {"float32": 3.0, "float64": 3.0, "uint8": 200.0, "int8": 100.0, "int64": 1.0, "bool": 1}
    for dtype, least in kinds.items():
        given = [Input(name="x", shape=(None, 4000), dtype=dtype)]
        one, other = feeds.random_feeds(given), feeds.random_feeds(given)
        assert one["x"].dtype == np.dtype(dtype)
        assert np.array_equal(one["x"], other["x"])
        assert one["x"].max() >= least


def test_a_shape_that_is_not_known_is_asked_for() -> None:
    wide = Input(name="x", shape=(None, 3, None, None), dtype="float32")
    with pytest.raises(MeasureError, match=r"\?,3,\?,\?.*--shape"):
        feeds.random_feeds([wide])
    assert feeds.random_feeds([wide], shape=(2, 3, 5, 5))["x"].shape == (2, 3, 5, 5)
    fixed = Input(name="x", shape=(1, 3), dtype="float32")
    with pytest.raises(MeasureError, match="fixed shape 1,3, batch 2"):
        feeds.random_feeds([fixed], batch=2)
    with pytest.raises(MeasureError, match="disagree"):
        feeds.random_feeds([X], shape=(2, 3), batch=3)
    with pytest.raises(MeasureError, match="too large"):
        feeds.random_feeds([X], batch=1 << 40)
    with pytest.raises(MeasureError, match="not numbers"):
        feeds.random_feeds([Input(name="x", shape=(1,), dtype="string")])
