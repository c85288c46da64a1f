"""DeepIoT's compressor: a recurrent network from the weights of a layer to what should stay of it.

    layer l:  W(l) ──► W_c W W_i ─┐                        (units of one group, in forward order)
                                  + ──► LSTM cell ──► W_o h ──► sigmoid ──► p(l), one for each unit
    layer l-1: h ──► W_h h ───────┘

It is trained by policy gradient: masks are drawn from p, and made less likely the more the loss of
the masked network, the critic, is above its moving average.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

_DECAY = 0.9


@final
class Compressor(nn.Module):  # type: ignore[misc]
    """Keep probabilities of all units, from the weights that make them.

    Its weights are not learned by the network's optimiser, but by `learn_`: RMSProp (decay 0.9,
    epsilon 1e-10 under the root), whose state is kept in buffers.

    Args:
        matrices: Group to (units, features), in forward order.
        width: d_c, of the LSTM cell.
        seed: Of the first weights: a truncated normal of variance 2 / (fan in + fan out).

    Reference:
        Yao et al., "DeepIoT", SenSys 2017, section 4.2, equation 3; the width and the optimiser are
        those of the authors' code.
    """

    baseline: Tensor
    variance: Tensor
    steps: Tensor

    def __init__(self, matrices: Mapping[str, Tensor], *, width: int = 64, seed: int = 0) -> None:
        super().__init__()
        self.groups = tuple(matrices)
        self.width = width
        generator = torch.Generator().manual_seed(seed)
        self.hidden = _first(4 * width, width, generator)
        for number, matrix in enumerate(matrices.values()):
            units, features = matrix.shape
            self.register_parameter(f"left_{number}", _first(4, features, generator))
            self.register_parameter(f"right_{number}", _first(units, width, generator))
            self.register_parameter(f"out_{number}", _first(units, width, generator))
        for name, parameter in list(self.named_parameters()):
            self.register_buffer(f"square_{name}", torch.zeros_like(parameter))
        for name in ("baseline", "variance"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, matrices: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Keep probability of each unit, by group: (units,).

        Args:
            matrices: As those it was made for; they are data, no gradient reaches them.
        """
        state = cell = self.hidden.new_zeros(self.width)
        made = {}
        for number, name in enumerate(self.groups):
            left, right, out = (
                getattr(self, f"{part}_{number}") for part in ("left", "right", "out")
            )
            read = left @ matrices[name].detach().T @ right
            gates = read + (self.hidden @ state).reshape(4, self.width)
            enter, forget, answer = gates[:3].sigmoid()
            cell = forget * cell + enter * gates[3].tanh()
            state = answer * cell.tanh()
            made[name] = (out @ state).sigmoid()
        return made

    def learn_(self, likelihood: Tensor, loss: Tensor, rate: float) -> None:
        """One step of policy gradient: equation 9.

        Args:
            likelihood: (batch,), log of how likely each sample's masks were, with a gradient.
            loss: (batch,), of the critic under those masks.
            rate: Learning rate.
        """
        loss = loss.detach().float()
        mean, variance = loss.mean(), loss.var(correction=0)
        first = int(self.steps) == 0
        self.baseline.copy_(mean if first else _DECAY * self.baseline + (1 - _DECAY) * mean)
        self.variance.copy_(variance if first else _DECAY * self.variance + (1 - _DECAY) * variance)
        self.steps += 1
        advantage = (loss - self.baseline) / self.variance.sqrt().clamp(min=1)
        names, parameters = zip(*self.named_parameters(), strict=True)
        gradients = torch.autograd.grad((likelihood * advantage).mean(), parameters)
        with torch.no_grad():
            for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
                square = getattr(self, f"square_{name}")
                square.mul_(_DECAY).addcmul_(gradient, gradient, value=1 - _DECAY)
                parameter.addcdiv_(gradient, (square + 1e-10).sqrt(), value=-rate)


def suppressed(probability: Tensor, threshold: float, factor: float) -> Tensor:
    """What units are drawn with: p, and factor · p where p is not above the threshold.

    Soft deletion (equation 10): a suppressed unit keeps its gradient, and comes back when its p
    rises above the threshold.

    Example:
        >>> suppressed(torch.tensor([0.2, 0.5, 0.8]), 0.5, 0.5)
        tensor([0.1000, 0.2500, 0.8000])
    """
    return torch.where(probability <= threshold, probability * factor, probability)


def draw(probability: Tensor, samples: int) -> Tensor:
    """Masks (samples, units) of zeros and ones, without a gradient."""
    shape = (samples, len(probability))
    return torch.bernoulli(probability.detach().expand(shape))


def log_likelihood(masks: Tensor, probability: Tensor) -> Tensor:
    """Log of how likely each sample's masks were: (samples,).

    Args:
        masks: (samples, units), zeros and ones.
        probability: (units,), that they were drawn with.
    """
    each = torch.where(masks > 0, probability, 1 - probability)
    return each.clamp(min=1e-12).log().sum(-1)


def _first(rows: int, columns: int, generator: torch.Generator) -> nn.Parameter:
    """A truncated normal of variance 2 / (fan in + fan out), learned by no optimiser but `learn_`.

    It is cut at two standard deviations.
    """
    values = torch.empty(rows, columns)
    deviation = math.sqrt(2 / (rows + columns))
    nn.init.trunc_normal_(
        values, std=deviation, a=-2 * deviation, b=2 * deviation, generator=generator
    )
    return nn.Parameter(values)
