"""Units that pruning single weights has left without inputs or without readers, removed for real.

    unread   none of its outgoing weights is left: whatever it holds, nobody is told
    unfed    none of its incoming weights is left: it holds the same for every input

A unit that is not fed still holds what its bias, normalisation and activation make of zero. Where
that is zero the unit goes; where it is another constant, it goes into the bias of the layers that
read it if that is exact, and else the unit stays: a convolution that pads with zeros, for one, sees
no constant at the border.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from narrows.compress.masking import masked_copy
from narrows.compress.removal import remove_units
from narrows.compress.tracing import Example, as_inputs
from narrows.compress.unit_flow import Flow, Read, layer_of, reads_of
from narrows.compress.units import Found, UnitGroup, find
from narrows.compress.weight_maps import bake
from narrows.errors import ModelError

_DRAWS: Final = 3
_TOLERANCE: Final = 1e-9


def remove_dead_units(model: nn.Module, example: Example) -> nn.Module:
    """A smaller network that answers the same, without units that nothing feeds or nothing reads.

    It is checked in float64, on its own weights and random inputs: with biases folded and dead
    units masked the network answers what it answered before, to 1e-9. The smaller network is the
    masked one (see `remove_units`).

    Args:
        model: With zeros among its weights; weight maps in it are baked. It is not changed.
        example: An input, or a tuple of them, as the network takes it.

    Returns:
        A copy. Of every group of units at least one stays.

    Raises:
        ModelError: The network cannot be traced or run, or would answer otherwise.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> with torch.no_grad():
        ...     _ = net[0].weight[:2].zero_(), net[2].weight[:, 5].zero_()
        >>> remove_dead_units(net, torch.zeros(1, 4))[2].weight.shape
        torch.Size([3, 5])

    Reference:
        Yao et al., "DeepIoT", SenSys 2017, section 5.2: units of its baselines that have no inputs
        or no outputs left are removed.
    """
    plain = bake(model).cpu().eval()
    wide = bake(plain).double()
    found = find(plain, example)
    inputs = _inputs(as_inputs(example))
    reads, answers = reads_of(wide, found, inputs)
    flow = Flow(wide, found)
    dead = _dead(wide, found, flow, reads)
    if dead:
        gone = torch.cat([found.members[name][units] for name, units in dead.items()])
        constant = gone[torch.isin(gone, flow.live)]
        for read in reads:
            read.fold_(wide, constant)
            read.fold_(plain, constant)
        keep = {
            group.name: [unit for unit in range(group.size) if unit not in dead[group.name]]
            for group in found.units.groups
            if group.name in dead
        }
        _check(wide, found, keep, inputs, answers)
        plain = remove_units(plain, example, keep)
    return plain.train(model.training)


def _dead(model: nn.Module, found: Found, flow: Flow, reads: list[Read]) -> dict[str, list[int]]:
    """The units of each group that go, of groups that lose some."""
    live, fed = (set(classes.tolist()) for classes in (flow.live, flow.fed))
    made = {}
    for group in found.units.groups:
        still = _still(model, found, flow, group)
        units = [
            unit
            for unit, label in enumerate(found.members[group.name].tolist())
            if label not in live
            or (
                label not in fed
                and label in still
                and all(read.spares(model, label) for read in reads if label in read.classes)
            )
        ]
        for needed in ((*range(group.size),), *group.needed):
            if set(needed) <= set(units):
                units.remove(needed[0])
        if units:
            made[group.name] = units
    return made


def _still(model: nn.Module, found: Found, flow: Flow, group: UnitGroup) -> set[int]:
    """The classes of a group that no step moves: of recurrent units those whose state stays zero.

    They have no bias, and read nothing but the states of such units in the same layer.
    """
    layer = layer_of(model, group.layers[0])
    if group.kind != "recurrent" or not isinstance(layer, nn.RNNBase):
        return set(found.members[group.name].tolist())
    if len(group.layers) > 1:
        return set()
    analysis, loud = found.analysis, [torch.zeros(0, dtype=torch.int64)]
    own = [
        analysis.classes.of(made.labels)
        for made in analysis.producers.values()
        if made.layer == group.layers[0]
    ]
    for part, bias in layer.named_parameters():
        if part.startswith("bias"):
            labels = analysis.weights[f"{group.layers[0]}.{part}"][0]
            loud.append(analysis.classes.of(labels)[bias.detach() != 0])
    silent = torch.cat(own)
    silent = silent[~torch.isin(silent, torch.cat(loud))]
    return set(flow.still(silent).tolist())


def _inputs(example: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    """Random inputs of the example's shapes; of numbers that are none, the same ones shuffled."""
    generator = torch.Generator().manual_seed(0)

    def drawn(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            return torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        order = torch.randperm(tensor.numel(), generator=generator)
        return tensor.cpu().reshape(-1)[order].reshape(tensor.shape)

    return [tuple(drawn(tensor) for tensor in example) for _ in range(_DRAWS)]


def _check(
    model: nn.Module,
    found: Found,
    keep: dict[str, list[int]],
    inputs: list[tuple[Tensor, ...]],
    answers: list[object],
) -> None:
    masked = masked_copy(found, model).eval()
    masks = {}
    for name, units in keep.items():
        masks[name] = torch.zeros(len(found.members[name]), dtype=torch.float64)
        masks[name][units] = 1
    masked.set_masks(masks)
    try:
        with torch.no_grad():
            for given, answer in zip(inputs, answers, strict=True):
                torch.testing.assert_close(masked(*given), answer, rtol=_TOLERANCE, atol=_TOLERANCE)
    except AssertionError as error:
        reason = str(error).splitlines()[0]
        msg = (
            f"dead units of {', '.join(keep)} cannot be removed: the network answers otherwise "
            f"without them ({reason}); take the network as it is"
        )
        raise ModelError(msg) from error
