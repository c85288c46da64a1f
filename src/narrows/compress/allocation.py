"""Which of its choices each layer takes, so that all fit a budget and little is lost in sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from narrows.errors import ConfigError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One way to keep a layer.

    Args:
        size: It takes, e.g. in bits.
        loss: It costs; infinite where it is of no use, so that it is taken only if nothing else
            fits.
    """

    size: float
    loss: float


Choices = Sequence[Choice]


def greedy(layers: Sequence[Choices], budget: float) -> tuple[int, ...]:
    """Begin with the largest choices, and step down where a step loses least for what it saves.

    Args:
        layers: Choices of each, by ascending size.
        budget: Of all sizes together.

    Returns:
        The place of each layer's choice.

    Raises:
        ConfigError: Even the smallest choices together are above the budget.

    Example:
        >>> small, large = Choice(size=2, loss=1.0), Choice(size=4, loss=0.0)
        >>> greedy([(small, large), (Choice(size=2, loss=9.0), large)], budget=6)
        (0, 1)
    """
    _check(layers, budget)
    taken = [len(choices) - 1 for choices in layers]
    while _size(layers, taken) > budget:
        able = [number for number, place in enumerate(taken) if place > 0]
        taken[min(able, key=lambda number: _price(layers[number], taken[number]))] -= 1
    return _filled(layers, taken, budget)


def lagrangian(layers: Sequence[Choices], budget: float) -> tuple[int, ...]:
    """Each layer takes what minimises loss + λ · size, with one λ for all, the least that fits.

    So every choice lies on the lower convex hull of its layer, and no other allocation of that size
    or less loses less. What is left of the budget is then spent where it gains most.

    Args:
        layers: Choices of each, by ascending size.
        budget: Of all sizes together.

    Returns:
        The place of each layer's choice.

    Raises:
        ConfigError: Even the smallest choices together are above the budget.

    Reference:
        Shoham, Gersho, "Efficient Bit Allocation for an Arbitrary Set of Quantizers", IEEE
        Transactions on Acoustics, Speech and Signal Processing 36(9), 1988.
    """
    _check(layers, budget)
    # Where some layer's choice changes; the answer is the same between two of them.
    slopes = {
        (low.loss - high.loss) / (high.size - low.size)
        for choices in layers
        for place, low in enumerate(choices)
        for high in choices[place + 1 :]
        if high.size > low.size and low.loss > high.loss
    }
    for weight in (0.0, *sorted(slopes)):
        taken = [_best(choices, weight) for choices in layers]
        if _size(layers, taken) <= budget:
            return _filled(layers, taken, budget)
    return _filled(layers, [0] * len(layers), budget)


def _best(choices: Choices, weight: float) -> int:
    """Of equals the smallest; equal to what rounding leaves of the slope that made them so."""
    costs = [choice.loss + weight * choice.size for choice in choices]
    least = min(costs)
    return next(place for place, cost in enumerate(costs) if cost <= least + 1e-12 * abs(least))


def _filled(layers: Sequence[Choices], taken: list[int], budget: float) -> tuple[int, ...]:
    """Spend what is left, where it gains most for what it takes."""
    while True:
        room = budget - _size(layers, taken)
        gains = [
            ((now.loss - choices[place].loss) / (choices[place].size - now.size), number, place)
            for number, choices in enumerate(layers)
            for now in (choices[taken[number]],)
            for place in range(taken[number] + 1, len(choices))
            if choices[place].loss < now.loss and 0 < choices[place].size - now.size <= room
        ]
        if not gains:
            return tuple(taken)
        _, number, place = max(gains, key=lambda gain: gain[0])
        taken[number] = place


def _price(choices: Choices, place: int) -> float:
    """What the next smaller choice loses for each unit that it saves."""
    now, smaller = choices[place], choices[place - 1]
    return (smaller.loss - now.loss) / max(now.size - smaller.size, 1e-300)


def _size(layers: Sequence[Choices], taken: Sequence[int]) -> float:
    return sum(choices[place].size for choices, place in zip(layers, taken, strict=True))


def _check(layers: Sequence[Choices], budget: float) -> None:
    least = _size(layers, [0] * len(layers))
    if least > budget:
        msg = f"a budget of {budget:,.0f} is below the {least:,.0f} that the smallest choices take"
        raise ConfigError(msg)
