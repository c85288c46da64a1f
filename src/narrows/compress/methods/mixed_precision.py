"""Mixed precision: each layer's weights in as many bits as their loss is worth, under a budget."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar, Final, Literal, final

import torch
from torch import Tensor, nn

from narrows.coding.base import fit
from narrows.coding.quantizers import Affine, Codebook
from narrows.compress.allocation import Choice, greedy, lagrangian
from narrows.compress.base import Method, Tell, claim_folder, epoch_teller
from narrows.compress.kept_scores import KeptScores
from narrows.compress.weight_grids import Rounded, as_matrix, is_pruned, put_shared_
from narrows.compress.weight_layers import WeightLayer, hold_zeros_, weight_layers
from narrows.compress.weight_maps import bake, put_map_
from narrows.errors import ConfigError, ModelError
from narrows.train import TrainingTask, TrainSettings, train

LOSSES: Final = "losses.json"
_ALLOCATIONS: Final = {"greedy": greedy, "lagrangian": lagrangian}
_MOST_BITS: Final = {"affine": 8, "codebook": 16}
_FEWEST_BITS: Final = 2


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MixedPrecision(Method):
    """Give each layer the bits that lose least together, within a budget for all weights.

        min Σ_l ΔL_l(b_l)   where   Σ_l size_l(b_l) <= rate · weights

    ΔL_l(b) is what the loss on the choose set rises by when the weights of layer l alone are kept
    in b bits. It is measured once for every layer and number of bits, taken for zero where it is
    negative, and for no less than that of more bits: a rise in between is noise. Bits at which the
    loss is not finite are not taken. That rises add up is assumed. The result's weights are exactly
    levels of their grids, zeros zero.

    Args:
        rate: Bits a weight takes on average, scales and codebooks counted.
        bits: That a layer may have, ascending.
        quantizer: "affine": a scale and a zero point for each output; "codebook": k-means, 2^b
            centres a layer.
        allocation: "lagrangian" or "greedy" (`narrows.compress.allocation`).
        batches: Of the choose set that losses are measured on; None for all.
        finetune: A training of all that is learned, the weights on their levels: gradients go
            straight through affine rounding, and to the centres of codebooks. None trains nothing.
        skip: Layers that stay in floating point and are not counted.

    Example:
        >>> mixed = MixedPrecision(rate=4.0, bits=(2, 3, 4, 6, 8), quantizer="codebook")

    Reference:
        Shoham, Gersho, "Efficient Bit Allocation for an Arbitrary Set of Quantizers", 1988;
        measured losses of single layers: Dong, Yao, Gholami, Mahoney, Keutzer, "HAWQ", ICCV 2019,
        arXiv 1905.03696. Departs from the latter: losses are measured, not derived from a Hessian.
    """

    name: ClassVar[str] = "mixed_precision"
    rate: float
    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 8)
    quantizer: Literal["affine", "codebook"] = "affine"
    allocation: Literal["lagrangian", "greedy"] = "lagrangian"
    batches: int | None = 8
    finetune: TrainSettings | None = None
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be allocated.

        Raises:
            ConfigError: A value is out of its range.
        """
        if self.quantizer not in _MOST_BITS or self.allocation not in _ALLOCATIONS:
            msg = f"quantizer is {self.quantizer!r} and allocation {self.allocation!r}: expected "
            raise ConfigError(msg + "affine or codebook, and lagrangian or greedy")
        most, rising = _MOST_BITS[self.quantizer], list(self.bits) == sorted(set(self.bits))
        if not self.bits or not rising or not _FEWEST_BITS <= self.bits[0] <= self.bits[-1] <= most:
            msg = f"bits are {self.bits}: expected rising numbers from {_FEWEST_BITS} to {most}"
            raise ConfigError(msg)
        if not self.rate > 0 or (self.batches is not None and self.batches < 1):
            msg = f"rate is {self.rate} and batches {self.batches}: expected more than 0"
            raise ConfigError(msg)

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The network with every layer's weights on a grid of its own."""
        tell = progress or (lambda line: None)
        model = copy.deepcopy(task.model).cpu().eval()
        layers = weight_layers(model, self.skip)
        claim_folder(folder, self, task.model)
        tables = self._choices(task, model, layers, KeptScores(folder, LOSSES), tell)
        weights = sum(layer.value(model).numel() for layer in layers)
        taken = _ALLOCATIONS[self.allocation](tables, self.rate * weights)
        size = sum(choices[place].size for choices, place in zip(tables, taken, strict=True))
        given = {layer.name: self.bits[place] for layer, place in zip(layers, taken, strict=True)}
        self._check_losses(tables, taken, list(given))
        tell(
            f"mixed precision: {size / weights:.3f} bits a weight: "
            + ", ".join(f"{name} {bits}" for name, bits in given.items())
        )
        if self.finetune is not None:
            hold_zeros_(model)
        for layer in layers:
            self._put_(model, layer, given[layer.name])
        if self.finetune is None:
            return bake(model).eval()
        trained = train(
            replace(task, model=model),
            self.finetune,
            folder=None if folder is None else folder / "finetune",
            progress=epoch_teller(progress, "fine-tuning", self.finetune.epochs),
        )
        return bake(trained.model).eval()

    def _choices(
        self,
        task: TrainingTask,
        model: nn.Module,
        layers: Sequence[WeightLayer],
        kept: KeptScores,
        tell: Tell,
    ) -> list[list[Choice]]:
        """What each number of bits takes and loses, of each layer alone."""
        for layer in layers:
            as_matrix(layer.name, layer.value(model))  # refuses what is not finite
        whole = kept.score("whole", partial(self._loss, task, model))
        if not math.isfinite(whole):
            msg = f"the loss on the choose set is {whole} before a weight was rounded: look for "
            raise ModelError(msg + "values that are not finite in the network and in the data")
        tables = []
        for layer in layers:
            losses = []
            for bits in self.bits:
                alone = partial(self._loss_alone, task, model, layer, bits)
                loss = kept.score(f"{layer.name} {bits}", alone)
                losses.append(max(0.0, loss - whole) if math.isfinite(loss) else math.inf)
            for place in range(len(losses) - 1, 0, -1):
                losses[place - 1] = max(losses[place - 1], losses[place])
            sizes = [self._size(layer.value(model), bits) for bits in self.bits]
            made = zip(sizes, losses, strict=True)
            tables.append([Choice(size=size, loss=loss) for size, loss in made])
            rises = ", ".join(f"{b}: {loss:.4f}" for b, loss in zip(self.bits, losses, strict=True))
            tell(f"mixed precision: {layer.name}: loss by bits {rises}")
        return tables

    def _check_losses(
        self, tables: list[list[Choice]], taken: Sequence[int], names: list[str]
    ) -> None:
        """See that no layer has bits at which the loss is not finite."""
        for name, choices, place in zip(names, tables, taken, strict=True):
            if math.isinf(choices[-1].loss):
                msg = f"the loss is not finite with {self.bits[-1]} bits for {name!r}: skip it"
                raise ModelError(msg)
            if math.isinf(choices[place].loss):
                msg = f"rate {self.rate} leaves {self.bits[place]} bits for {name!r}, at which "
                raise ConfigError(msg + "the loss is not finite: take a higher rate, or skip it")

    def _loss_alone(
        self, task: TrainingTask, model: nn.Module, layer: WeightLayer, bits: int
    ) -> float:
        """With so many bits for the weights of one layer."""
        other = copy.deepcopy(model)
        self._put_(other, layer, bits)
        return self._loss(task, bake(other))

    def _loss(self, task: TrainingTask, model: nn.Module) -> float:
        """The mean over the batches that are measured on."""
        total, seen = 0.0, 0
        model.eval()
        with torch.no_grad():
            for x, y in islice(task.choose.batches(0), self.batches):
                total += float(task.loss(model, x, y).mean()) * len(x)
                seen += len(x)
        return total / max(seen, 1)

    def _put_(self, model: nn.Module, layer: WeightLayer, bits: int) -> None:
        """Let a layer use weights of so many bits, in place."""
        weight = layer.value(model)
        if self.quantizer == "codebook":
            # Of 2^b levels one is for the zeros of a pruned weight.
            put_shared_(model, layer, Codebook(levels=2**bits - is_pruned(weight)))
        else:
            affine = Affine(bits=bits, granularity="channel")
            table = fit(affine, [as_matrix(layer.name, weight)[None]])
            put_map_(model.get_submodule(layer.module), layer.weight, Rounded(affine, table))

    def _size(self, weight: Tensor, bits: int) -> float:
        rows, columns = len(weight), weight.numel() // len(weight)
        if self.quantizer == "codebook":
            return Codebook(levels=2**bits).weight_bits(rows, columns)
        return Affine(bits=bits, granularity="channel").weight_bits(rows, columns)
