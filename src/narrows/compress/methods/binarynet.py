"""Binarized neural networks: weights and activations of one bit, trained through both."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from narrows.compress.base import Method, Tell, claim_folder, epoch_teller
from narrows.compress.binary_layers import BinaryActivation, ShiftBatchNorm
from narrows.compress.binary_order import Block, binary_blocks
from narrows.compress.binary_weights import (
    Init,
    LossName,
    check_settings,
    choose_loss,
    clip_steps_,
    put_binary_,
)
from narrows.compress.weight_layers import refuse_not_finite, weight_layers
from narrows.compress.weight_maps import bake
from narrows.errors import ModelError
from narrows.train import TrainingTask, TrainSettings, train


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryNet(Method):
    """Train a network whose weights and activations are +1 and −1.

        w_b = sign(w),   a_b = sign(x),   sign(0) = +1
        dC/dw = dC/dw_b,   dC/dx = dC/da_b where |x| <= 1, else 0
        w <- clip(w + s · (w' − w), −1, 1)                      as `BinaryConnect`

    The network is a chain of linear layers or convolutions, each with a maximum or not, with batch
    normalisation and with an activation, in this order; the last one ends with its normalisation.
    Any activation (ReLU, Hardtanh, ...) is replaced by the binary one. The first layer reads real
    inputs. Biases before a normalisation, which takes them out, go. Convolutions are padded with
    zeros, as ever: the kernels that run the result count only what lies in the picture, so that
    they answer the same.

    A weight that an earlier method pruned stays zero. The result then has three values, which
    torch and ONNX run; `binary_network` refuses it, because XNOR knows two.

    Args:
        training: The one training it takes. The papers take Adam with a learning rate that falls
            exponentially, or shift-based AdaMax (`optimizer="shift_adamax"`) with shift
            normalisation, and no weight decay.
        activations: "deterministic", or "stochastic", which draws signs while it trains.
        norm: "batch" leaves the normalisation as it is; "shift" multiplies by powers of two in
            those of all binary layers but the one that the network ends with (`ShiftBatchNorm`,
            with the eps and momentum of each one).
        init: "uniform" draws the weights from [−1, 1], by the seed of `training`; "given" begins
            with the network's own, clipped.
        loss: Of the labels: "squared_hinge" as in the paper, or the task's own ("task"). Where the
            task is `taught`, the teacher's answers are learned beside either.
        scale_steps: Whether steps are made longer by s.
        skip: Names of layers that stay real (`weight_layers` says them); an activation becomes
            binary where a binary layer reads it.

    Example:
        >>> settings = TrainSettings(
        ...     epochs=100, optimizer="shift_adamax", learning_rate=2**-6, weight_decay=0.0,
        ...     schedule="exponential", final_rate=2**-16, warmup=0.0,
        ... )
        >>> binary = BinaryNet(training=settings, norm="shift")

    Reference:
        Courbariaux, Hubara, Soudry, El-Yaniv, Bengio, "Binarized Neural Networks: Training Deep
        Neural Networks with Weights and Activations Constrained to +1 or −1", 2016, arXiv
        1602.02830, sections 1 and 2, and the authors' code. Departs from the paper: the learning
        rate of the shift-based training falls a little in every step instead of halving, that of
        normalisation is not scaled (the Torch code scales it on MNIST), only binary weights are
        clipped (on CIFAR-10 it clips all parameters), and what was pruned stays zero.
    """

    name: ClassVar[str] = "binarynet"
    training: TrainSettings
    activations: Literal["deterministic", "stochastic"] = "deterministic"
    norm: Literal["batch", "shift"] = "batch"
    init: Init = "uniform"
    loss: LossName = "squared_hinge"
    scale_steps: bool = True
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ConfigError: A value is out of its range.
        """
        check_settings(
            activations=(self.activations, ("deterministic", "stochastic")),
            norm=(self.norm, ("batch", "shift")),
            init=(self.init, ("uniform", "given")),
            loss=(self.loss, ("squared_hinge", "task")),
        )

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The network with binary weights and activations."""
        model = copy.deepcopy(task.model)
        layers = weight_layers(model, self.skip)
        refuse_not_finite(model)
        blocks = binary_blocks(model, self.skip)
        claim_folder(folder, self, task.model)
        self._rebuild_(model, blocks)
        chosen = {block.weight for block in blocks}
        put_binary_(
            model,
            [layer for layer in layers if layer.name in chosen],
            bound=1.0,
            stochastic=False,
            init=self.init,
            seed=self.training.seed,
        )
        trained = train(
            replace(task, model=model, loss=choose_loss(self.loss, task.loss)),
            self.training,
            folder=None if folder is None else folder / "training",
            progress=epoch_teller(progress, "BinaryNet", self.training.epochs),
            prepare=partial(clip_steps_, scaled=self.scale_steps),
        )
        return bake(trained.model).eval()

    def _rebuild_(self, model: nn.Module, blocks: Sequence[Block]) -> None:
        """No biases, binary activations, normalisation by shifts; in place."""
        for block in blocks:
            _drop_bias_(model.get_submodule(block.weight), model.get_submodule(block.norm))
            if block.reads is not None:
                made = BinaryActivation(self.activations == "stochastic")
                model.set_submodule(block.reads, made.train(model.training))
        hidden = [block for block in blocks if not block.ends]
        for block in hidden if self.norm == "shift" else ():
            norm = _shift_norm(block.norm, model.get_submodule(block.norm))
            model.set_submodule(block.norm, norm)


def _drop_bias_(layer: nn.Module, norm: nn.Module) -> None:
    """Take a bias into the mean that the normalisation subtracts."""
    if layer.bias is not None:
        with torch.no_grad():
            norm.running_mean.sub_(layer.bias)
        layer.register_parameter("bias", None)


def _shift_norm(name: str, norm: nn.Module) -> ShiftBatchNorm:
    """Normalisation by shifts that begins where another one stands."""
    if isinstance(norm, ShiftBatchNorm):
        return norm
    assert isinstance(norm, _BatchNorm)
    if norm.momentum is None or not norm.affine:
        msg = f"layer {name!r} has no momentum or no factors: shift normalisation needs both"
        raise ModelError(msg)
    made = ShiftBatchNorm(norm.num_features, norm.eps, norm.momentum)
    with torch.no_grad():
        made.weight.copy_(norm.weight)
        made.bias.copy_(norm.bias)
        made.running_mean.copy_(norm.running_mean)
        made.running_inverse_std.copy_((norm.running_var + norm.eps).rsqrt())
    made.train(norm.training)
    return made
