from __future__ import annotations

import pytest

from narrows.runtime.policy import Link, Rules, answered, failed, goes_remote, waiting_s

RULES = Rules(deadline_s=0.1)


def test_pauses_double_up_to_the_longest() -> None:
    link, now_s, pauses = Link(), 100.0, []
    for _ in range(8):
        link = failed(link, RULES, now_s=now_s)
        pauses.append(link.retry_at_s - now_s)
        assert not goes_remote(link, now_s=link.retry_at_s - 1e-6)
        now_s = link.retry_at_s
        assert goes_remote(link, now_s=now_s)
    assert pauses == pytest.approx([0.25, 0.5, 1, 2, 4, 5, 5, 5])


def test_a_dead_server_is_asked_few_times_in_an_hour() -> None:
    link, asked = Link(), 0
    for tick in range(36_000):  # ten requests a second
        now_s = tick / 10
        if goes_remote(link, now_s=now_s):
            asked += 1
            link = failed(link, RULES, now_s=now_s)
    assert asked < 800


def test_a_quick_trial_brings_the_server_back_at_once() -> None:
    link = failed(failed(Link(), RULES, now_s=0.0), RULES, now_s=1.0)
    link = answered(link, RULES, now_s=2.0, remote_s=0.05)
    assert link == Link(remote_s=0.05)
    assert goes_remote(link, now_s=2.0)


@pytest.mark.parametrize(("remote_s", "back"), [(0.07, True), (0.09, False), (0.2, False)])
def test_coming_back_needs_more_than_staying(remote_s: float, back: bool) -> None:
    stays = answered(Link(remote_s=remote_s), RULES, now_s=0.0, remote_s=remote_s)
    assert (stays.failures == 0) == (remote_s <= 0.1)
    tried = answered(failed(Link(), RULES, now_s=0.0), RULES, now_s=1.0, remote_s=remote_s)
    assert (tried.failures == 0) == back


def test_one_slow_answer_among_quick_ones_is_not_a_reason_to_leave() -> None:
    link = Link(remote_s=0.03)
    link = answered(link, RULES, now_s=0.0, remote_s=0.2)
    assert link.failures == 0
    link = answered(link, RULES, now_s=0.0, remote_s=0.2)
    assert link.failures == 1


def test_without_a_deadline_slowness_never_counts() -> None:
    rules = Rules()
    link = answered(failed(Link(), rules, now_s=0.0), rules, now_s=1.0, remote_s=60.0)
    assert link.failures == 0


@pytest.mark.parametrize(
    ("deadline_s", "elapsed_s", "local_s", "expected_s"),
    [
        (0.1, 0.02, 0.03, 0.042),  # the local model can still make it
        (0.1, 0.02, None, 0.078),  # there is none
        (0.1, 0.02, 0.15, 0.078),  # it cannot make it anyway
        (0.1, 0.08, 0.03, 0.0),
        (None, 5.0, 0.03, 30.0),
    ],
)
def test_waiting_leaves_time_for_the_local_model(
    deadline_s: float | None, elapsed_s: float, local_s: float | None, expected_s: float
) -> None:
    found_s = waiting_s(deadline_s=deadline_s, elapsed_s=elapsed_s, local_s=local_s)
    assert found_s == pytest.approx(expected_s)
