"""Layers that a library derives from torch.nn's, as layers of torch.nn."""

from __future__ import annotations

from torch import fx, nn


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
