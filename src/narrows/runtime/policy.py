"""Which way a request goes: a pure function of what was seen, with hysteresis.

    remote ──a failure, or the smoothed time passes `leave` × deadline──► local
    remote ◄──a trial, due at `retry_at_s`, within `back` × deadline──── local

Each failed trial doubles the pause before the next, up to `pause_max_s`, so a dead server costs
one request in many its waiting time, and a server that is back is found within `pause_max_s`. Time
is an argument: nothing here reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, final

MARGIN: Final = 0.02
"""Share of the deadline kept for what is not measured: waking up, handing over."""

PATIENCE_S: Final = 30.0
"""How long a request without a deadline waits."""

LOCAL_RESERVE: Final = 1.2
"""Times the local model's usual time that is kept for it."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When to leave the server and when to come back.

    Args:
        deadline_s: What a request may take; None for no deadline.
        leave: Share of the deadline the smoothed remote time must pass to leave.
        back: Share of the deadline a trial must stay under to come back; less than `leave`.
        pause_s: Wait before the first trial.
        pause_max_s: Longest wait between trials.
        smoothing: Weight of the newest time in the smoothed one.
    """

    deadline_s: float | None = None
    leave: float = 1.0
    back: float = 0.8
    pause_s: float = 0.25
    pause_max_s: float = 5.0
    smoothing: float = 0.3


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What is known of the way to the server.

    Args:
        failures: Failures and slow trials in a row; above 0 means answered locally meanwhile.
        retry_at_s: When the next trial is due.
        remote_s: Smoothed time of a remote answer; None before the first.
    """

    failures: int = 0
    retry_at_s: float = float("-inf")
    remote_s: float | None = None


def goes_remote(link: Link, *, now_s: float) -> bool:
    """Whether the next request is sent: the link is good, or a trial is due.

    Example:
        >>> rules = Rules(deadline_s=0.1)
        >>> down = failed(Link(), rules, now_s=10.0)
        >>> goes_remote(down, now_s=10.1), goes_remote(down, now_s=10.3)
        (False, True)
        >>> goes_remote(answered(down, rules, now_s=10.3, remote_s=0.05), now_s=10.3)
        True
    """
    return link.failures == 0 or now_s >= link.retry_at_s


def failed(link: Link, rules: Rules, *, now_s: float) -> Link:
    """The link after a request that got no answer."""
    pause_s = min(rules.pause_s * 2.0 ** min(link.failures, 60), rules.pause_max_s)
    return replace(link, failures=link.failures + 1, retry_at_s=now_s + pause_s)


def answered(link: Link, rules: Rules, *, now_s: float, remote_s: float) -> Link:
    """The link after an answer that took `remote_s` from input to answer."""
    if link.failures:
        if rules.deadline_s is not None and remote_s > rules.back * rules.deadline_s:
            return failed(replace(link, remote_s=remote_s), rules, now_s=now_s)
        return Link(remote_s=remote_s)
    before_s = remote_s if link.remote_s is None else link.remote_s
    smoothed_s = before_s + rules.smoothing * (remote_s - before_s)
    now = replace(link, remote_s=smoothed_s)
    if rules.deadline_s is not None and smoothed_s > rules.leave * rules.deadline_s:
        return failed(now, rules, now_s=now_s)
    return now


def waiting_s(*, deadline_s: float | None, elapsed_s: float, local_s: float | None) -> float:
    """How long to wait for the server so that the local model can still meet the deadline.

    Args:
        deadline_s: What the request may take; None waits `PATIENCE_S`.
        elapsed_s: What it has taken already.
        local_s: What the local model takes; None where there is none.

    Returns:
        Seconds, 0 if sending is of no use. A local model too slow for the deadline leaves the
        server all the time there is.
    """
    if deadline_s is None:
        return PATIENCE_S
    left_s = (1 - MARGIN) * deadline_s - elapsed_s
    if local_s is not None and local_s < deadline_s:
        left_s -= LOCAL_RESERVE * local_s
    return max(0.0, left_s)
