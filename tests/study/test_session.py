"""Sessions: ratios are inside rounds, and who fails is left out while the others go on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from narrows.errors import MeasureError, MissingExtra
from narrows.measure.contender import CallTimes, Contender
from narrows.measure.schedule import Schedule
from narrows.measure.sensors import NoEnergy
from narrows.measure.workers import Greeting
from narrows.study.cells import Cell
from narrows.study.session import Session, run_session

GREETING = Greeting(import_s=0.1, load_s=0.2, first_s=0.3, base_bytes=1, peak_bytes=2)
NO_SENSOR = NoEnergy(reason="none here")


class Machine:
    """A machine whose speed drifts: each round finds it slower than the last."""

    def __init__(self) -> None:
        self.calls = 0

    def slowness(self) -> float:
        self.calls += 1
        return 1.0 + 0.002 * self.calls


class Drifting(Contender):
    """Takes a constant number of the machine's milliseconds, and may end after some calls."""

    own_process = True

    def __init__(self, name: str, machine: Machine, work: float, dies_after: int | None) -> None:
        self.name, self.threads = name, 1
        self._machine, self._work, self._dies_after = machine, work, dies_after
        self.closed = False

    greeting = GREETING
    precision = "f32"

    def call(self, *, min_calls: int, seconds: float) -> CallTimes:
        if self._dies_after is not None and self._machine.calls > self._dies_after:
            raise MeasureError(f"{self.name}: its worker process ended (signal 9)")
        taken = (1e-3 * self._work * self._machine.slowness(),) * min_calls
        return taken, taken

    def respawn(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def cell(variant: str, runtime: str = "onnxruntime") -> Cell:
    return Cell(network="net", variant=variant, runtime=runtime, threads=1)


def measured(contenders: dict[Cell, Callable[[], Any]]) -> Session:
    return run_session(
        contenders,
        schedule=Schedule(rounds=10, round_s=0, min_calls=2, session_s=0, respawns=1, target=None),
        sensor=NO_SENSOR,
        energy_s=1.0,
        progress=lambda what, done, total: None,
    )


def opener(machine: Machine, one: Cell, work: float, dies_after: int | None = None) -> Any:
    return partial(Drifting, str(one), machine, work, dies_after)


def test_ratios_are_to_the_original_on_the_same_runtime_with_their_intervals() -> None:
    machine = Machine()
    works = {
        cell("original"): 10.0,
        cell("int8"): 4.0,
        cell("weights"): 15.0,
        cell("original", "openvino"): 5.0,
        cell("int8", "openvino"): 5.0,
        cell("original", "torch"): 30.0,
    }
    found = measured({one: opener(machine, one, work) for one, work in works.items()})
    assert not found.failed
    ratios = {one: timed.ratio for one, timed in found.timed.items()}
    assert [one for one, ratio in ratios.items() if ratio is None] == [
        cell("original"),
        cell("original", "openvino"),
        cell("original", "torch"),
    ]
    for one, truth, verdict in (
        (cell("int8"), 0.4, "faster"),
        (cell("weights"), 1.5, "slower"),
        (cell("int8", "openvino"), 1.0, "not told apart"),
    ):
        ratio = ratios[one]
        assert ratio is not None
        assert ratio.verdict == verdict
        assert ratio.wall.low <= truth <= ratio.wall.high
        # The machine slowed down by a quarter meanwhile; inside rounds that cancels out.
        assert ratio.wall.high / ratio.wall.low < 1.06
        assert ratio.wall.low <= ratio.wall.value <= ratio.wall.high
    assert found.timed[cell("int8")].greeting == GREETING
    assert found.timed[cell("int8")].energy == NO_SENSOR


def test_what_does_not_open_fails_alone() -> None:
    machine = Machine()

    def missing() -> Any:
        raise MissingExtra("measuring in openvino", "openvino")

    def huge() -> Any:
        raise MemoryError

    found = measured(
        {
            cell("original"): opener(machine, cell("original"), 1.0),
            cell("original", "openvino"): missing,
            cell("int8"): huge,
        }
    )
    assert list(found.timed) == [cell("original")]
    assert "narrows[openvino]" in found.failed[cell("original", "openvino")]
    assert "too little memory" in found.failed[cell("int8")]


@pytest.mark.parametrize("dies_after", [0, 8, 30])
def test_who_ends_in_the_middle_is_left_out_and_the_others_are_measured(dies_after: int) -> None:
    machine = Machine()
    opened: list[Drifting] = []

    def open_(one: Cell, work: float, dies: int | None) -> Drifting:
        opened.append(Drifting(str(one), machine, work, dies))
        return opened[-1]

    found = measured(
        {
            cell("original"): partial(open_, cell("original"), 1.0, None),
            cell("int8"): partial(open_, cell("int8"), 1.0, dies_after),
            cell("weights"): partial(open_, cell("weights"), 3.0, None),
        }
    )
    assert set(found.timed) == {cell("original"), cell("weights")}
    assert "signal 9" in found.failed[cell("int8")]
    ratio = found.timed[cell("weights")].ratio
    assert ratio is not None
    assert ratio.wall.value == pytest.approx(3.0, rel=0.03)
    assert all(contender.closed for contender in opened)
