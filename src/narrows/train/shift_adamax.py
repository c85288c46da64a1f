"""AdaMax whose multiplications are shifts, as binary networks are trained with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from torch import Tensor


def ap2(x: Tensor) -> Tensor:
    """The power of two next to each value, with its sign; 0 for 0, NaN for NaN.

    AP2(x) = sign(x) · 2^round(log2 |x|): a multiplication by it is a shift.

    Example:
        >>> ap2(torch.tensor([0.0, 3.0, -0.3, 1.0])).tolist()
        [0.0, 4.0, -0.25, 1.0]

    Reference:
        Courbariaux, Hubara, Soudry, El-Yaniv, Bengio, "Binarized Neural Networks", 2016, arXiv
        1602.02830, section 1.4.
    """
    if x.dtype == torch.float32:
        # Up to the next exponent from sqrt(2) on, of which 0x3504F4 is the fraction; exact, and
        # several times as fast as logarithms.
        bits: Tensor = x.contiguous().view(torch.int32) + (0x800000 - 0x3504F4)
        rounded: Tensor = bits.bitwise_and_(~0x7FFFFF).view(torch.float32)
        return rounded.add_(x.clamp(-1, 1), alpha=0)  # 0 · NaN is NaN
    return torch.sign(x) * torch.exp2(torch.round(torch.log2(x.abs())))


@final
class ShiftAdaMax(torch.optim.Optimizer):  # type: ignore[misc]
    """Shift-based AdaMax.

        m <- b1 · m + (1 - b1) · g
        v <- max(b2 · v, |g|)
        w <- w - AP2(lr / (1 - b1^t)) · m / v',   v' = AP2(v) + eps,   v <- v'

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate; the authors' code takes 2^-6, the paper 2^-10.
        betas: b1 and b2.
        eps: Added to v, which it keeps from 0.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = ShiftAdaMax([w], lr=2**-6)
        >>> (3 * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 4)  # m = 0.3, step AP2(2^-6 / 0.1) = 2^-3, v = AP2(3) = 4
        0.9906

    Reference:
        Courbariaux, Hubara, Soudry, El-Yaniv, Bengio, "Binarized Neural Networks", 2016, arXiv
        1602.02830, algorithm 4, and the authors' Torch code, which keeps the rounded v.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2**-6,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 2**-27,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step for every parameter with a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for weight in group["params"]:
                    if weight.grad is not None:
                        self._move_(weight, group)
        return loss

    def _move_(self, weight: Tensor, group: dict[str, Any]) -> None:
        b1, b2 = group["betas"]
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())
            state["m"] = torch.zeros_like(weight)
            state["v"] = torch.zeros_like(weight)
        state["step"] += 1
        m, v, gradient = state["m"], state["v"], weight.grad
        m.mul_(b1).add_(gradient, alpha=1 - b1)
        v.copy_(ap2(torch.maximum(b2 * v, gradient.abs())) + group["eps"])
        rate = torch.tensor(group["lr"] / (1 - b1 ** float(state["step"])))
        weight.addcdiv_(m, v, value=-float(ap2(rate)))
