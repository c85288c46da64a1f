"""Layers of binary networks: an activation of one bit, and batch normalisation by shifts."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from narrows.train.shift_adamax import ap2


def signs(x: Tensor) -> Tensor:
    """+1 where x >= 0, else −1; on a processor several times as fast as a choice."""
    return x.sign().add_(0.5).sign_()


def drawn_signs(x: Tensor, chance: Tensor) -> Tensor:
    """+1 with a probability of clip((x + 1) / 2, 0, 1), else −1.

    Args:
        x: What is to be +1 or −1.
        chance: Uniform numbers from [0, 1), of the same shape.
    """
    certain = ((x + 1) / 2).clamp_(0, 1)
    return certain.sub_(chance).sign_().sub_(0.5).sign_()  # equal is −1


@final
class BinaryActivation(nn.Module):  # type: ignore[misc]
    """+1 where x >= 0, else −1; the gradient passes where |x| <= 1, both ends included.

    Args:
        stochastic: While training +1 with a probability of clip((x + 1) / 2, 0, 1), else −1.

    Example:
        >>> x = torch.tensor([-2.0, -1.0, 0.0, 0.5], requires_grad=True)
        >>> y = BinaryActivation()(x)
        >>> y.sum().backward()
        >>> y.tolist(), x.grad.tolist()
        ([-1.0, -1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0])

    Reference:
        Courbariaux, Hubara, Soudry, El-Yaniv, Bengio, "Binarized Neural Networks", 2016, arXiv
        1602.02830, sections 1.1 and 1.3.
    """

    def __init__(self, stochastic: bool = False) -> None:
        super().__init__()
        self.stochastic = stochastic

    def forward(self, x: Tensor) -> Tensor:
        """Signs of the same shape and type."""
        drawn = self.stochastic and self.training
        if not torch.is_grad_enabled() and not drawn:
            # What runtimes compute fastest once it is exported.
            return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)
        detached = x.detach()
        used = drawn_signs(detached, torch.rand_like(x)) if drawn else signs(detached)
        through: Tensor = _Gate.apply(x, used)
        return through

    def extra_repr(self) -> str:
        """Its setting."""
        return f"stochastic={self.stochastic}"


class _Gate(torch.autograd.Function):  # type: ignore[misc]
    """Signs forwards; backwards the gradient where |x| <= 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, used: Tensor) -> Tensor:
        """The signs."""
        ctx.save_for_backward(x.abs().le_(1))
        return used.view_as(used)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        """By x."""
        (inside,) = ctx.saved_tensors
        return g * inside, None


@final
class ShiftBatchNorm(nn.Module):  # type: ignore[misc]
    """Batch normalisation whose multiplications are shifts: by powers of two, AP2 of the factors.

        c = x − mean(x),  v = mean(c · AP2(c)),  r = (v + eps)^(−1/2)
        y = AP2(gamma) · c · AP2(r) + beta

    over all axes but the second. The running means are those of mean(x) and of r, unrounded. In
    the gradient roundings count as nothing, and factors are the rounded ones:

        dx = G · s · (g − mean(g) − a · s² · mean(a · g)),   G = AP2(gamma), s = AP2(r), a = AP2(c)
        dgamma = Σ AP2(c · s) · g,   dbeta = Σ g

    Args:
        num_features: Size of the second axis.
        eps: Added to the variance.
        momentum: Share of a batch in the running means; the authors' code takes 0.125.

    Example:
        >>> norm = ShiftBatchNorm(2)
        >>> y = norm(torch.tensor([[1.0, 0.0], [3.0, 8.0]]))
        >>> y.tolist()  # c = ±1 and ±4, r = 1 and 1 / 4
        [[-1.0, -1.0], [1.0, 1.0]]

    Reference:
        Courbariaux, Hubara, Soudry, El-Yaniv, Bengio, "Binarized Neural Networks", 2016, arXiv
        1602.02830, algorithm 2; gradient and running means as in the authors' Torch code.
    """

    running_mean: Tensor
    running_inverse_std: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.125) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_inverse_std", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised over the batch while training, by the running means else; in float32."""
        x = x if x.dtype == torch.float64 else x.float()
        if self.training:
            y, mean, inverse = _ShiftNorm.apply(x, self.weight, self.bias, self.eps)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_inverse_std.lerp_(inverse, self.momentum)
            return y
        # In float64, which is computed by operators that can be exported.
        rows = (row.detach().double() for row in (self.weight, self.running_inverse_std))
        factor = torch.stack([ap2(row) for row in rows]).prod(0).to(x.dtype)
        mean, factor, bias = (_along(row, x) for row in (self.running_mean, factor, self.bias))
        return (x - mean) * factor + bias

    def extra_repr(self) -> str:
        """Its settings."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class _ShiftNorm(torch.autograd.Function):  # type: ignore[misc]
    """The normalisation of a batch, with the gradient as the authors coded it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The batch normalised, its mean, and the inverse of its deviation."""
        axes = [axis for axis in range(x.ndim) if axis != 1]
        mean = x.mean(axes)
        centred = x - _along(mean, x)
        rounded = ap2(centred)
        inverse = ((centred * rounded).mean(axes) + eps).rsqrt()
        shift, scale = ap2(inverse), ap2(gamma)
        ctx.save_for_backward(rounded, shift, scale)
        ctx.mark_non_differentiable(mean, inverse)
        return centred * _along(scale * shift, x) + _along(beta, x), mean, inverse

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: Tensor, __: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """By x, gamma and beta."""
        rounded, shift, scale = ctx.saved_tensors
        axes = [axis for axis in range(g.ndim) if axis != 1]
        product = rounded * g
        spread = _along(shift.square() * product.mean(axes), g)
        dx = _along(scale * shift, g) * (g - _along(g.mean(axes), g) - rounded * spread)
        # AP2(c · s) = AP2(c) · s, because s is a power of two.
        return dx, shift * product.sum(axes), g.sum(axes), None


def _along(row: Tensor, like: Tensor) -> Tensor:
    """A row of numbers along the second axis."""
    return row.reshape(-1, *[1] * (like.ndim - 2))
