"""Codebooks: a layer's weights share a few values, or are put together from a few vectors."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Final, Literal, final

from torch import Tensor, nn

from narrows.coding.quantizers import Codebook, Product, Residual
from narrows.coding.quantizers.kmeans import Start
from narrows.compress.base import Method, Tell, claim_folder, epoch_teller
from narrows.compress.weight_grids import is_pruned, put_shared_
from narrows.compress.weight_layers import hold_zeros_, refuse_unknown, weight_layers
from narrows.compress.weight_maps import bake
from narrows.errors import CodecError, ConfigError
from narrows.train import TrainingTask, TrainSettings, train

WeightQuantizer = Codebook | Product | Residual
_KINDS: Final = ("kmeans", "product", "residual")
_SAMPLES: Final = ("rows", "columns", "longer")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CodebookSharing(Method):
    """Give each layer a codebook, use its centres for the weights, and train the centres.

        W = C[A]       A settled by k-means, then   C_j <- C_j - η · Σ_{A = j} dL/dW

    The matrix of a layer has its outputs as rows and everything else as columns. "kmeans" is one
    k-means over all its numbers; "product" cuts the columns into pieces and each piece of a row has
    a centre; "residual" makes each row a sum of centres. Layers share nothing. Weights that are
    zero, where others are not, stay zero, unless `keep_zeros` is false: of "kmeans" they are no
    members. The result's weights are exactly values of the codebooks.

    Args:
        kind: "kmeans", "product" or "residual".
        levels: Centres of a codebook: of a layer, of a piece, or of a stage.
        layers: Levels of single layers by name (`weight_layers` says them).
        start: Where "kmeans" begins: "linear", "density" or "random".
        reserve_zero: Whether zero is one of a pruned layer's levels of "kmeans", so that indices
            that are kept densely can say it; else all are for the weights that are left.
        keep_zeros: Whether zeros are what an earlier method pruned. Of a network that was not
            pruned, a few weights may be zero by chance: to tell which they are takes bits.
        length: Columns of a piece of "product".
        stages: Of "residual".
        samples: What "product" and "residual" make of centres: the matrix's "rows", its "columns",
            or the "longer" side of each layer, for which the codebooks are smallest.
        finetune: How the centres are trained, with all that is not shared; None leaves them. The
            gradient of a centre is a sum over its members, which wants a learning rate of a
            hundredth or less of what weights are trained with.
        skip: Layers that are left as they are; they are trained on.
        seed: Of k-means.

    Example:
        >>> shared = CodebookSharing(levels=32, layers={"conv1": 256, "conv2": 256})

    Reference:
        Han, Mao, Dally, "Deep Compression", ICLR 2016, arXiv 1510.00149, section 3: "kmeans" and
        the training of centres. Gong, Liu, Yang, Bourdev, "Compressing Deep Convolutional Networks
        using Vector Quantization", 2014, arXiv 1412.6115, section 3: all three, of dense layers,
        not trained. Departs from the papers: centres of vectors are trained too.
    """

    name: ClassVar[str] = "codebooks"
    kind: Literal["kmeans", "product", "residual"] = "kmeans"
    levels: int = 32
    layers: Mapping[str, int] = field(default_factory=dict)
    start: Start = "linear"
    reserve_zero: bool = False
    keep_zeros: bool = True
    length: int = 2
    stages: int = 2
    samples: Literal["rows", "columns", "longer"] = "rows"
    finetune: TrainSettings | None = None
    skip: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no codebook.

        Raises:
            ConfigError: A value is out of its range.
        """
        for name, known in (("kind", _KINDS), ("samples", _SAMPLES)):
            if getattr(self, name) not in known:
                msg = f"{name} is {getattr(self, name)!r}: expected one of {', '.join(known)}"
                raise ConfigError(msg)
        for levels in (self.levels, *self.layers.values()):
            try:
                self._quantizer(levels, pruned=True)
            except CodecError as error:
                raise ConfigError(str(error)) from None

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The network whose weights are those of the codebooks."""
        model = copy.deepcopy(task.model)
        layers = weight_layers(model, self.skip)
        quantizers = self.quantizers(model)
        claim_folder(folder, self, task.model)
        bits = self.weight_bits(model)
        if self.finetune is not None:
            hold_zeros_(model)
        for layer in layers:
            weight = layer.value(model)
            put_shared_(
                model,
                layer,
                quantizers[layer.name],
                across=self._across(weight),
                keep_zeros=self.keep_zeros,
            )
            if progress is not None:
                away = float((layer.value(model) - weight).norm() / weight.norm().clamp(min=1e-30))
                share = f"{bits[layer.name] / weight.numel():.2f} bits a weight"
                progress(f"codebooks: {layer.name}: {share}, off by {away:.1%}")
        if self.finetune is None:
            return bake(model).eval()
        trained = train(
            replace(task, model=model),
            self.finetune,
            folder=None if folder is None else folder / "finetune",
            progress=epoch_teller(progress, "training of centres", self.finetune.epochs),
        )
        return bake(trained.model).eval()

    def quantizers(self, model: nn.Module) -> dict[str, WeightQuantizer]:
        """The quantizer of each layer, by name.

        Args:
            model: The network, before codebooks are made for it.

        Raises:
            ModelError: A layer that is named is not there.
        """
        layers = weight_layers(model, self.skip)
        refuse_unknown(tuple(self.layers), [layer.name for layer in layers])
        return {
            layer.name: self._quantizer(
                self.layers.get(layer.name, self.levels), pruned=self._pruned(layer.value(model))
            )
            for layer in layers
        }

    def weight_bits(self, model: nn.Module) -> dict[str, float]:
        """Bits of each layer's symbols and codebooks, by name.

        Where zeros are no level they have no symbols: which weights are zero is told otherwise, by
        the indices of a sparse format, which are not counted here.

        Args:
            model: The network, before codebooks are made for it.
        """
        found = {}
        quantizers = self.quantizers(model)
        for layer in weight_layers(model, self.skip):
            weight, quantizer = layer.value(model), quantizers[layer.name]
            rows, columns = len(weight), weight.numel() // len(weight)
            if self.kind == "kmeans" and self._pruned(weight):
                kept = int(weight.count_nonzero())
                found[layer.name] = quantizer.weight_bits(1, kept)
                if self.reserve_zero:
                    levels = self.layers.get(layer.name, self.levels)
                    found[layer.name] = rows * columns * math.log2(levels) + 32 * (levels - 1)
            elif self._across(weight):
                found[layer.name] = quantizer.weight_bits(columns, rows)
            else:
                found[layer.name] = quantizer.weight_bits(rows, columns)
        return found

    def _across(self, weight: Tensor) -> bool:
        """Whether the matrix is transposed, so that its columns are the samples."""
        rows = len(weight)
        return self.samples == "columns" or (
            self.samples == "longer" and rows < weight.numel() // rows
        )

    def _pruned(self, weight: Tensor) -> bool:
        return self.keep_zeros and is_pruned(weight)

    def _quantizer(self, levels: int, *, pruned: bool) -> WeightQuantizer:
        if self.kind == "product":
            return Product(levels=levels, length=self.length, seed=self.seed)
        if self.kind == "residual":
            return Residual(levels=levels, stages=self.stages, seed=self.seed)
        kept = levels - (self.reserve_zero and pruned)
        return Codebook(levels=kept, start=self.start, seed=self.seed)
