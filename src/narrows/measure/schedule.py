"""How long, how often and by which rule something is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from narrows.errors import MeasureError

Rule = Literal["rounds", "paper"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long, how often and by which rule.

    Many short rounds tell more than few long ones: thirty rounds of five calls give a narrower
    interval than ten of fifteen, and a slow spell of the machine is less likely to be missed.

    Args:
        target: Go on until the half-width of every contender's interval is below this share of
            its median; None: stop after the least there is to do.
        rounds: At least so many rounds for each contender.
        round_s: A round of a contender lasts at least this long,
        min_calls: and has at least so many calls, one more before them that does not count.
        session_s: The rounds lie at random times in at least this long; 0: back to back, which
            is quick and agrees with itself more than with the truth.
        limit_s: Stop here, target or not.
        respawns: At least so often every contender goes on in a fresh process, if it has one.
        threads: Threads the contenders use; wall time over CPU time says nothing about several.
        seed: Of the order inside each round and of the pauses.
        rule: "rounds"; or "paper": consecutive calls until a t interval of their mean is within
            5 % of it, which only looks like an interval.
    """

    target: float | None = 0.02
    rounds: int = 30
    round_s: float = 0.01
    min_calls: int = 5
    session_s: float = 3.0
    limit_s: float = 60.0
    respawns: int = 3
    threads: int = 1
    seed: int = 0
    rule: Rule = "rounds"

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.min_calls < 1:
            msg = (
                f"cannot measure {self.rounds} rounds of {self.min_calls} calls:"
                " ask for at least one of each (six rounds for a 95 % interval)"
            )
            raise MeasureError(msg)
        if self.target is not None and not self.target > 0:
            msg = (
                f"cannot reach a half-width of {self.target}: give a share of the median above 0"
                " (0.02 is 2 %), or None to stop after the least number of rounds"
            )
            raise MeasureError(msg)
        if not (self.limit_s > 0 and self.session_s >= 0):
            msg = (
                f"cannot measure for {self.session_s} s at least and {self.limit_s} s at most:"
                " give a limit above 0"
            )
            raise MeasureError(msg)
        if self.rule not in ("rounds", "paper"):
            msg = f'no rule {self.rule!r}: choose "rounds" or "paper"'
            raise MeasureError(msg)
