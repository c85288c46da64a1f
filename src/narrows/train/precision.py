"""Mixed precision, and layers that it would make wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

BATCH: Final = 8
WRONG: Final = 0.1  # right ones differ by 0.003


@contextmanager
def only_right_in_bf16(model: nn.Module, example: Tensor) -> Iterator[tuple[str, ...]]:
    """Meanwhile the convolutions whose bfloat16 answers are wrong on this processor take float32.

    Some shapes are: of oneDNN's kernels for AMX those with 8 or 12 input channels and a kernel 8
    wide gave answers that had nothing to do with the right ones, silently. Each convolution is
    asked in both precisions about random inputs of the shape that it meets.

    Args:
        model: On a processor; its answers to the example are asked for once.
        example: A batch of inputs.

    Yields:
        Names of the layers that take float32.
    """
    layers = {name: each for name, each in model.named_modules() if isinstance(each, _ConvNd)}
    shapes = _input_shapes(model, layers, example)
    wrong = [name for name, shape in shapes.items() if not _right_in_bf16(layers[name], shape)]
    try:
        for name in wrong:
            _take_float32_(layers[name])
        yield tuple(wrong)
    finally:
        for name in wrong:
            del layers[name].forward


def _input_shapes(
    model: nn.Module, layers: dict[str, nn.Module], example: Tensor
) -> dict[str, torch.Size]:
    """Shape of what each layer reads."""
    shapes: dict[str, torch.Size] = {}

    def note(name: str, inputs: tuple[Tensor, ...]) -> None:
        shapes[name] = inputs[0].shape

    handles = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: note(name, inputs))
        for name, layer in layers.items()
    ]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(example)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return shapes


def _right_in_bf16(layer: nn.Module, shape: torch.Size) -> bool:
    x = torch.randn(BATCH, *shape[1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(x).float()
    return bool((found - wanted).norm() <= WRONG * wanted.norm())


def _take_float32_(layer: nn.Module) -> None:
    forward = layer.forward

    def exact(x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return forward(x.float())

    layer.forward = exact
