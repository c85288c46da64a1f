"""Which units of a network can be removed, and which of them only together."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from narrows.compress.analysis import Analysis, Producer, run_on_labels
from narrows.compress.call_rules import label_rule
from narrows.compress.classes import FIXED
from narrows.compress.tracing import Example, as_inputs, trace
from narrows.errors import ModelError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class UnitGroup:
    """Units any of which can be removed, each from all the layers that are coupled in it.

    Args:
        name: Of the first layer that makes them; of recurrent layers with the direction's name,
            e.g. "rnn.l0_reverse", of attention with "heads".
        size: How many units there are.
        layers: Qualified names of the layers that make them, in forward order.
        kind: "channels", "recurrent" or "heads".
        rows: Of each layer (or direction of a recurrent layer): the unit each of its channels
            belongs to, -1 where the channel is fixed.
        needed: Sets of units of which one must stay, so that no layer is left with nothing.
    """

    name: str
    size: int
    layers: tuple[str, ...]
    kind: str
    rows: Mapping[str, tuple[int, ...]]
    needed: tuple[tuple[int, ...], ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """What the label analysis finds.

    Args:
        groups: In forward order.
        refused: Layer (or direction of a recurrent layer) to the reason why none of its units
            can be removed.
    """

    groups: tuple[UnitGroup, ...]
    refused: Mapping[str, str]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The units with what is needed to mask and to remove them.

    Args:
        analysis: The run on labels.
        units: The public part.
        members: Of each group: the class of each unit (n,).
    """

    analysis: Analysis
    units: Units
    members: Mapping[str, Tensor]


def find_units(model: nn.Module, example: Example) -> Units:
    """Find which units of a network stand and fall together.

    The network is traced and run on labels: each element of an activation carries the unit it
    belongs to. Additions make units one, rearrangements move labels, and each weight is told which
    unit each of its rows and columns belongs to.

    Args:
        model: Any network torch.fx can trace.
        example: An input, or a tuple of them, as the network takes it; small ones are faster.

    Raises:
        ModelError: If the network cannot be traced or run.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(32, 5))
        >>> units = find_units(net, torch.zeros(1, 3, 4, 4))
        >>> [(group.name, group.size) for group in units.groups], dict(units.refused)
        ([('0', 8)], {'2': 'the network answers with them'})
    """
    return find(model, example).units


def find(model: nn.Module, example: Example) -> Found:
    """`find_units` with what is needed to mask and to remove what is found."""
    module = trace(copy.deepcopy(model).eval(), whole=(_BatchNorm,))
    analysis = Analysis(module=module)
    try:
        run_on_labels(analysis, as_inputs(example), label_rule)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ModelError(
            f"units of {type(model).__name__} cannot be found: running it on the example failed "
            f"({error}); give an example input as the network takes it"
        ) from error
    return _grouped(analysis)


def _grouped(analysis: Analysis) -> Found:
    """Producers that share a class make one group."""
    refused = dict(analysis.unknown)
    together: list[tuple[list[Producer], Tensor]] = []
    for producer in analysis.producers.values():
        found = analysis.classes.of(producer.labels)
        free = found[found != FIXED]
        if not len(free):
            refused[producer.name] = analysis.classes.reason(producer.labels)
            continue
        producers, members = [producer], free
        for other in [each for each in together if bool(torch.isin(each[1], members).any())]:
            together.remove(other)
            producers = other[0] + producers
            members = torch.cat([other[1], members])
        together.append((producers, members))
    order = {name: place for place, name in enumerate(analysis.producers)}
    groups, classes = [], {}
    for producers, members in together:
        producers.sort(key=lambda producer: order[producer.name])
        ordered = _in_order(members)
        if len(ordered) == 1:
            reason = "all its units are coupled, so that only all could be removed"
            refused |= {producer.name: reason for producer in producers}
            continue
        group = _group(analysis, producers, ordered)
        groups.append(group)
        classes[group.name] = ordered
    groups.sort(key=lambda group: order[group.name])
    return Found(
        analysis=analysis, units=Units(groups=tuple(groups), refused=refused), members=classes
    )


def _in_order(members: Tensor) -> Tensor:
    """Classes in the order in which they first appear."""
    return torch.tensor(list(dict.fromkeys(members.tolist())))


def _group(analysis: Analysis, producers: list[Producer], members: Tensor) -> UnitGroup:
    kinds = {producer.kind for producer in producers}
    heads = [analysis.classes.of(labels) for labels in analysis.heads]
    attended = any(bool(torch.isin(each, members).any()) for each in heads)
    kind = "recurrent" if "recurrent" in kinds else "heads" if "heads" in kinds else "channels"
    rows = {
        producer.name: tuple(_units(analysis, producer.labels, members).tolist())
        for producer in producers
    }
    read = [_units(analysis, reader.labels, members) for reader in analysis.readers]
    sets = {tuple(sorted(set(units))) for units in rows.values()}
    sets |= {tuple(sorted(set(units.tolist()))) for units in read}
    return UnitGroup(
        name=producers[0].name,
        size=len(members),
        layers=tuple(dict.fromkeys(producer.layer for producer in producers)),
        kind="heads" if attended and kind == "channels" else kind,
        rows=rows,
        needed=tuple(sorted(each for each in sets if each[0] >= 0 and len(each) < len(members))),
    )


def _units(analysis: Analysis, labels: Tensor, members: Tensor) -> Tensor:
    """The unit of each label, -1 for those of no unit of the group."""
    found = analysis.classes.of(labels)
    known, order = members.sort()
    place = torch.searchsorted(known, found).clamp(max=len(known) - 1)
    return torch.where(known[place] == found, order[place], -1)
