"""Removing units for real, and the proof that nothing else changed."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from narrows.compress.masking import masked_copy
from narrows.compress.rewrite import rewrite
from narrows.compress.slicing import Removal
from narrows.compress.tracing import Example, as_inputs
from narrows.compress.units import Found, find
from narrows.errors import ModelError

_TOLERANCE = 1e-9


def remove_units(
    model: nn.Module,
    example: Example,
    keep: Mapping[str, Sequence[int]],
    *,
    skip_refused: bool = False,
) -> nn.Module:
    """A smaller dense network without the units that are not kept.

    It is checked before it is given: with random weights and statistics, in float64, the smaller
    network answers what the larger one answers whose removed units are masked where they are read.

    Args:
        model: The network; it is not changed.
        example: An input, or a tuple of them.
        keep: Group to the units that stay, of `find_units(model, example).groups`; of groups that
            are not named all stay.
        skip_refused: Leave layers that cannot be made smaller as they are, where `keep` names
            some.

    Returns:
        A copy of the module with smaller layers; where sizes written into its forward had to
        change, its torch.fx graph. Absent units count as zeros in layer normalisation.

    Raises:
        ModelError: If a group is refused or not there, would lose all its units, or if the
            smaller network answers anything else than the masked larger one.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(32, 5))
        >>> smaller = remove_units(net, torch.zeros(1, 3, 4, 4), {"0": [0, 3, 5]})
        >>> smaller[2].weight.shape
        torch.Size([5, 12])
    """
    found = find(model, example)
    wanted = _checked(found, keep, skip_refused=skip_refused)
    removed = [found.members[name][~stays] for name, stays in wanted.items()]
    removal = Removal(found.analysis, torch.cat([torch.zeros(0, dtype=torch.int64), *removed]))
    inputs = as_inputs(example)
    try:
        smaller = rewrite(model, removal, inputs)
        error = _difference(model, found, removal, wanted, inputs)
    except (RuntimeError, TypeError, ValueError, IndexError) as cause:
        if isinstance(cause, ModelError):
            raise
        raise ModelError(
            f"units of {', '.join(wanted)} cannot be removed: the smaller network does not run "
            f"({cause}); leave out of `keep` the groups that this is about"
        ) from cause
    if not error <= _TOLERANCE:
        raise ModelError(
            f"units of {', '.join(wanted)} cannot be removed: the smaller network answers "
            f"otherwise than the masked one (relative error {error:.1e}, at most "
            f"{_TOLERANCE:.0e}); leave out of `keep` the groups that this is about"
        )
    return smaller


def _checked(
    found: Found, keep: Mapping[str, Sequence[int]], *, skip_refused: bool
) -> dict[str, Tensor]:
    """Whether each unit of each named group stays."""
    sizes = {group.name: group.size for group in found.units.groups}
    needed = {group.name: group.needed for group in found.units.groups}
    wanted = {}
    for name, units in keep.items():
        if name in found.units.refused:
            if skip_refused:
                continue
            raise ModelError(
                f"units of {name!r} cannot be removed: {found.units.refused[name]}; leave it out "
                "of `keep`, or pass skip_refused=True"
            )
        if name not in sizes:
            raise ModelError(f"no units {name!r} to remove; there are {', '.join(sizes) or 'none'}")
        if not len(units) or min(units) < 0 or max(units) >= sizes[name]:
            raise ModelError(
                f"keep[{name!r}] is {list(units)[:8]}; it should be at least one of 0 to "
                f"{sizes[name] - 1}"
            )
        empty = [each for each in needed[name] if not set(each) & set(units)]
        if empty:
            raise ModelError(
                f"keep[{name!r}] leaves a layer without units: at least one of "
                f"{list(empty[0])[:8]} has to stay (see `needed` of the group)"
            )
        wanted[name] = torch.zeros(sizes[name], dtype=torch.bool)
        wanted[name][list(units)] = True
    return wanted


def _difference(
    model: nn.Module,
    found: Found,
    removal: Removal,
    wanted: Mapping[str, Tensor],
    inputs: tuple[Tensor, ...],
) -> float:
    """The largest difference of smaller and masked network, relative to the largest answer."""
    generator = torch.Generator().manual_seed(0)
    larger = copy.deepcopy(model).to("cpu", torch.float64).eval()
    randomise_(larger, generator)
    example = tuple(_as_double(tensor.cpu()) for tensor in inputs)
    smaller = rewrite(larger, removal, example).eval()
    masked = masked_copy(found, larger).eval()
    masked.set_masks({name: stays.double() for name, stays in wanted.items()})
    with torch.no_grad():
        for drawn in _drawn(larger, example, generator):
            expected, answered = _tensors(masked(*drawn)), _tensors(smaller(*drawn))
    if [each.shape for each in expected] != [each.shape for each in answered]:
        return math.inf
    pairs = zip(expected, answered, strict=True)
    return max((_relative(large, small) for large, small in pairs), default=math.inf)


def _relative(large: Tensor, small: Tensor) -> float:
    scale = float(large.abs().max())
    error = float((large - small).abs().max())
    return error / scale if scale > 0 else math.inf


def _drawn(
    model: nn.Module, example: tuple[Tensor, ...], generator: torch.Generator
) -> list[tuple[Tensor, ...]]:
    """Random inputs, two samples where the network takes two."""
    for copies in (2, 1):
        drawn = tuple(_random_like(tensor, copies, generator) for tensor in example)
        try:
            model(*drawn)
        except RuntimeError:
            continue
        return [drawn]
    return [example]


def _random_like(tensor: Tensor, copies: int, generator: torch.Generator) -> Tensor:
    shape = (tensor.shape[0] * copies, *tensor.shape[1:])
    if tensor.is_floating_point():
        return torch.randn(shape, generator=generator, dtype=tensor.dtype)
    order = torch.randperm(tensor.numel(), generator=generator)
    shuffled = tensor.reshape(-1)[order].reshape(tensor.shape)
    return torch.cat([tensor, shuffled][:copies])


def randomise_(model: nn.Module, generator: torch.Generator) -> None:
    """Weights of a scale that lets values neither vanish nor explode, and no neutral ones."""
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        if parameter.ndim > 1:
            fan_in = parameter[0].numel()
            parameter.data.copy_(drawn / math.sqrt(fan_in))
        elif name.endswith("weight"):
            parameter.data.copy_(1 + 0.3 * drawn)
        else:
            parameter.data.copy_(0.3 * drawn)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator, dtype=buffer.dtype))
        elif name.endswith("running_var"):
            drawn = torch.rand(buffer.shape, generator=generator, dtype=buffer.dtype)
            buffer.copy_(0.5 + drawn)


def _as_double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _tensors(answer: Any) -> list[Tensor]:
    """All tensors of an answer."""
    if isinstance(answer, Tensor):
        return [answer]
    parts = answer.values() if isinstance(answer, Mapping) else answer
    if isinstance(parts, list | tuple) or isinstance(answer, Mapping):
        return [tensor for part in parts for tensor in _tensors(part)]
    return []
