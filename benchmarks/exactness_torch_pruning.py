"""torch-pruning on one row of the exactness matrix: what it removes, and whether it is only that.

Judged is what a user of torch-pruning gets, in two ways: from its `BasePruner(pruning_ratio=0.25)`
with random importance, which cuts the same places from each group of a layer; and where channels
are chosen as a method of one's own would, a quarter of each of `get_all_groups()` at random. Both
are told which layers answer; the pruner, too, which have heads and how many. Each group says which
channels go from which layer. In a copy of the original those channels are masked where they are
read: at the inputs of convolutions, linear and recurrent layers and attention; layer and group
normalisation there are over the channels that stay, as torch-pruning leaves them. Both networks
then answer random inputs in float64. A draw is

* exact: they differ by 1e-9 of the largest answer at most;
* wrong: they differ by more, and nothing was said;
* refused: anything raised, or the smaller network does not run, or nothing was removed, or it took
  longer than the limit.

The row has the worst of its draws. What torch-pruning leaves whole without a word, while narrows
removes units from it, is listed, not counted.
"""

from __future__ import annotations

import copy
import math
import signal
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from narrows.compress.removal import randomise_
from narrows.compress.units import Units

try:
    import torch_pruning
except ImportError:
    torch_pruning = None

_SHARE = 0.25
_TOLERANCE = 1e-9
ANSWERS = "the network answers with them"
_MIXING = (nn.modules.conv._ConvNd, nn.Linear, nn.RNNBase)


def judged(
    model: nn.Module, example: Tensor, units: Units, draws: int, limit_s: int, *, chosen: bool
) -> dict[str, Any]:
    """The row: result, reason, and the layers that are left whole.

    Args:
        model: The network; it is not changed.
        example: An input.
        units: What narrows finds there.
        draws: How many times channels are drawn.
        limit_s: Processor time of one draw.
        chosen: Whether channels are chosen here, and not by its pruner.
    """
    if torch_pruning is None:
        return {"result": "not installed", "reason": "", "whole": []}
    row: dict[str, Any] = {"result": "exact", "reason": "", "whole": []}
    for seed in range(draws):
        if row["reason"].startswith("TimeoutError"):
            break
        signal.signal(signal.SIGPROF, _too_long)
        signal.setitimer(signal.ITIMER_PROF, limit_s)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                error, pruned = _difference(model, example, units, seed, chosen)
            result, reason = "exact", ""
            if not error <= _TOLERANCE:
                result, reason = "wrong", f"relative error {error:.1e}"
        except Exception as error:  # whatever it raises is its way of refusing
            text = " ".join(str(error).split())[:120]
            result, reason, pruned = "refused", f"{type(error).__name__}: {text}", None
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if row["result"] != "wrong" and result != "exact":
            row |= {"result": result, "reason": reason}
        if pruned is not None:
            layers = dict.fromkeys(name for group in units.groups for name in group.layers)
            row["whole"] = [name for name in layers if name not in pruned]
    return row


def _too_long(*_: object) -> None:
    raise TimeoutError("not done in the time given")


def _difference(
    model: nn.Module, example: Tensor, units: Units, seed: int, chosen: bool
) -> tuple[float, set[str]]:
    """The relative error, and the names of the layers that lost channels."""
    torch.manual_seed(seed)
    larger = copy.deepcopy(model).eval()
    randomise_(larger, torch.Generator().manual_seed(seed))
    smaller = copy.deepcopy(larger)
    left, pruned = _prune_(smaller, example, units, chosen)
    if not pruned:
        raise RuntimeError("nothing was removed")
    reference = _masked(larger.double(), left)
    inputs = torch.randn(2, *example.shape[1:], dtype=torch.float64)
    with torch.no_grad():
        expected, answered = reference(inputs), smaller.double().eval()(inputs)
    if expected.shape != answered.shape:
        raise RuntimeError(f"the answer has shape {tuple(answered.shape)}")
    return float((expected - answered).abs().max() / expected.abs().max()), pruned


def _prune_(
    model: nn.Module, example: Tensor, units: Units, chosen: bool
) -> tuple[dict[tuple[str, bool], list[int]], set[str]]:
    """Let torch-pruning remove a quarter of all channels, and write down which.

    Returns:
        For each layer and side (whether of its inputs): the channels that stay; and the names of
        the layers that lost outputs.
    """
    layers = dict(model.named_modules())
    answering = [name for name, reason in units.refused.items() if reason == ANSWERS]
    answering = [name if name in layers else name.rpartition(".")[0] for name in answering]
    ignored = [layers[name] for name in answering if name]
    if chosen:
        graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example)
        groups = _chosen(graph, ignored)
    else:
        graph, groups = _drawn(model, example, ignored)
    names = {module: name for name, module in layers.items()}
    left: dict[tuple[str, bool], list[int]] = {}
    pruned = set()
    for group in groups:
        for dependency, indices in group:
            layer, function = dependency.target.module, dependency.handler
            if not isinstance(layer, nn.Module) or layer not in names:
                continue
            reads = graph.is_in_channel_pruning_fn(function)
            size = graph.get_in_channels(layer) if reads else graph.get_out_channels(layer)
            if size is None:
                continue
            stay = left.get((names[layer], reads), list(range(size)))
            gone = {stay[index] for index in indices}
            left[names[layer], reads] = [place for place in stay if place not in gone]
            if graph.is_out_channel_pruning_fn(function):
                pruned.add(names[layer])
        group.prune()
    return left, pruned


def _chosen(graph: Any, ignored: list[nn.Module]) -> Iterator[Any]:
    """Groups with a quarter of their channels, any of them."""
    for whole in graph.get_all_groups(ignored_layers=ignored, root_module_types=_MIXING):
        root, indices = whole[0]
        count = math.ceil(_SHARE * len(indices))
        some = torch.randperm(len(indices))[:count].tolist()
        group = graph.get_pruning_group(root.target.module, root.handler, some)
        if graph.check_pruning_group(group):
            yield group


def _drawn(model: Any, example: Tensor, ignored: list[nn.Module]) -> tuple[Any, Iterator[Any]]:
    """The dependency graph and the groups of its own pruner."""
    heads = {
        module: module.num_heads
        for module in model.modules()
        if isinstance(module, nn.MultiheadAttention)
    }
    for owner in model.modules():  # attention written out, with 4 heads in the patterns
        if isinstance(getattr(owner, "qkv", None), nn.Linear):
            heads[owner.qkv] = getattr(owner, "num_heads", 4)
    pruner = torch_pruning.pruner.BasePruner(
        model,
        example,
        importance=torch_pruning.importance.RandomImportance(),
        pruning_ratio=_SHARE,
        ignored_layers=ignored,
        in_channel_groups={},
        out_channel_groups={},
        num_heads=heads,
    )
    return pruner.DG, pruner.step(interactive=True)


def _masked(model: nn.Module, left: Mapping[tuple[str, bool], list[int]]) -> nn.Module:
    """The original with the removed channels masked where they are read."""
    for (name, reads), stay in left.items():
        layer = model.get_submodule(name)
        if isinstance(layer, nn.LayerNorm | nn.GroupNorm):
            layer.register_forward_hook(_normalised(stay))
        elif isinstance(layer, nn.MultiheadAttention):
            _mask_attention_(layer, stay)
        elif reads and isinstance(layer, _MIXING):
            axis = 1 if isinstance(layer, nn.modules.conv._ConvNd) else -1
            layer.register_forward_pre_hook(_reading(stay, axis))
    return model


def _reading(stay: list[int], axis: int) -> Any:
    def hook(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        shape = [1] * given[0].ndim
        shape[axis] = -1
        mask = torch.zeros(given[0].shape[axis], dtype=given[0].dtype)
        mask[stay] = 1
        return (given[0] * mask.reshape(shape), *given[1:])

    return hook


def _normalised(stay: list[int]) -> Any:
    """Normalisation over the channels that stay; the others are zero."""

    def hook(layer: Any, given: tuple[Tensor, ...], _: Tensor) -> Tensor:
        last = isinstance(layer, nn.LayerNorm) and type(layer).__name__ != "LayerNorm2d"
        values = given[0].movedim(-1, 1) if last else given[0]
        groups = getattr(layer, "num_groups", 1)
        size = values.shape[1] // groups
        made = torch.zeros_like(values)
        along = (1, -1) + (1,) * (values.ndim - 2)
        for group in range(groups):
            places = [place for place in stay if place // size == group]
            part = values[:, places]
            axes = (1,) if isinstance(layer, nn.LayerNorm) else tuple(range(1, part.ndim))
            centred = part - part.mean(axes, keepdim=True)
            scaled = centred / (centred.square().mean(axes, keepdim=True) + layer.eps).sqrt()
            made[:, places] = scaled * layer.weight[places].reshape(along) + layer.bias[
                places
            ].reshape(along)
        return made.movedim(1, -1) if last else made

    return hook


def _mask_attention_(layer: nn.MultiheadAttention, stay: list[int]) -> None:
    """Without the inputs and the places within heads that go."""
    mask = torch.zeros(layer.embed_dim, dtype=torch.float64)
    mask[stay] = 1
    with torch.no_grad():
        layer.in_proj_weight *= mask.repeat(3)[:, None] * mask[None]
        layer.in_proj_bias *= mask.repeat(3)
