"""Layers that a library derives from torch.nn's, as layers that can be stored."""

from __future__ import annotations

from typing import final

from torch import Tensor, fx, nn
from torch.nn import functional


@final
class SameConv2d(nn.Conv2d):  # type: ignore[misc]
    """A convolution that pads its input, as TensorFlow does, to ceil(size / stride) places.

    What is padded depends on the input, and is one more at the end than at the beginning where it
    is odd.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, ceil(height / stride), ceil(width / stride))."""
        pads: list[int] = []
        for axis in (1, 0):
            size, stride = x.shape[2 + axis], self.stride[axis]
            reach = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
            missing = max((-(-size // stride) - 1) * stride + reach - size, 0)
            pads += [missing // 2, missing - missing // 2]
        return super().forward(functional.pad(x, pads))


def own_convolutions_(module: fx.GraphModule) -> None:
    """Put `SameConv2d` in the place of timm's convolutions that pad as it does, in place.

    Args:
        module: A traced network; the network it was traced from is left alone.
    """
    for name, layer in list(module.named_modules()):
        if type(layer).__name__ == "Conv2dSame" and isinstance(layer, nn.Conv2d):
            made = SameConv2d(
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size,
                layer.stride,
                dilation=layer.dilation,
                groups=layer.groups,
                bias=layer.bias is not None,
            )
            made.weight, made.bias = layer.weight, layer.bias
            module.set_submodule(name, made.train(layer.training))


def split_norms_(module: fx.GraphModule) -> None:
    """Take batch normalisations of timm that end in an activation apart, in place.

    The activation becomes a call of its own; all names and weights stay.

    Args:
        module: A traced network; the network it was traced from is left alone.
    """
    for node in list(module.graph.nodes):
        layer = module.get_submodule(node.target) if node.op == "call_module" else None
        if type(layer).__name__ != "BatchNormAct2d" or not isinstance(layer, nn.BatchNorm2d):
            continue
        norm, users, last = _norm(layer), list(node.users), node
        for name in ("drop", "act"):
            part = layer.get_submodule(name)
            if isinstance(part, nn.Identity):
                continue
            norm.add_module(name, part)
            with module.graph.inserting_after(last):
                last = module.graph.create_node("call_module", f"{node.target}.{name}", (last,))
        for user in users:
            user.replace_input_with(node, last)
        module.set_submodule(node.target, norm)


def _norm(layer: nn.BatchNorm2d) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(
        layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
    )
    made.weight, made.bias = layer.weight, layer.bias
    for name, value in layer.named_buffers(recurse=False):
        made.register_buffer(name, value)
    return made.train(layer.training)
