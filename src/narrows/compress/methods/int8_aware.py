"""Training that knows of int8: the network learns with its values rounded as they will be."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, final

from torch import nn

from narrows.compress.base import Method, Tell, claim_folder, epoch_teller
from narrows.compress.int8_network import Int8Network
from narrows.compress.node_by_node import with_weights
from narrows.compress.tracing import trace
from narrows.compress.weight_layers import hold_zeros_, refuse_unknown
from narrows.compress.weight_maps import bake
from narrows.errors import ConfigError
from narrows.train import TrainingTask, TrainSettings, train


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Aware(Method):
    """Train with weights and activations rounded to 8 bits, so that little is lost in integers.

        W -> s · round(W / s),   s = max |W| / 127 of each output
        x -> affine, 256 levels over a range that moves with min x and max x

    Rounding passes gradients on as if it were not there, except those of activations beyond their
    range. The result is a plain network in float32, its weights on their levels: export it, and
    `narrows.graph.quantize_static` rounds to the same levels, at the same places. What has no
    integer kernel there (recurrent layers, transposed convolutions, other normalisations) stays in
    floating point here, too. Weights that are zero, where others are not, stay zero.

    Args:
        training: From a trained network on, at a small learning rate.
        range_share: Of the newest batch in an activation's range (0–1).
        frozen_norms: Whether statistics of batch normalisation stay what they are.
        skip: Layers (by name) that stay in floating point, as `exclude` of `quantize_static`.

    Example:
        >>> method = Int8Aware(training=TrainSettings(epochs=3, learning_rate=0.002))

    Reference:
        Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam, Kalenichenko, "Quantization and Training of
        Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, section 3.
        Departs from the paper: weights have a step for each output, which batch normalisation
        scales with them, so that it need not be folded in training; biases are not rounded;
        activations are rounded from the first step on, where the paper begins with them late.
    """

    name: ClassVar[str] = "int8_aware"
    training: TrainSettings
    range_share: float = 0.05
    frozen_norms: bool = True
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ConfigError: A value is out of its range.
        """
        if not 0 < self.range_share <= 1:
            msg = f"range_share is {self.range_share}: expected more than 0, up to 1"
            raise ConfigError(msg)

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The network that has learned to be rounded."""
        claim_folder(folder, self, task.model)
        trained = train(
            replace(task, model=self.network(task.model)),
            self.training,
            folder=None if folder is None else folder / "training",
            progress=epoch_teller(progress, "int8 aware", self.training.epochs),
        )
        return with_weights(task.model, bake(trained.model).traced)

    def network(self, model: nn.Module) -> Int8Network:
        """A network that rounds as this method trains it, its ranges not known yet.

        Args:
            model: Copied.

        Raises:
            ModelError: It cannot be traced, or there is nothing to round in it.
        """
        traced = trace(copy.deepcopy(model).cpu())
        refuse_unknown(self.skip, [name for name, _ in traced.named_modules() if name])
        hold_zeros_(traced)
        return Int8Network(
            traced, share=self.range_share, skip=self.skip, frozen_norms=self.frozen_norms
        )
