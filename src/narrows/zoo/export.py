"""A torch module to checked ONNX: symbolic batch, readable names, nothing of this machine in it."""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import onnx

from narrows.errors import MissingExtra, ModelError

if TYPE_CHECKING:
    from torch import nn

LARGEST_BYTES: Final = 2_000_000_000
_SCOPES: Final = "pkg.torch.onnx.name_scopes"


def export(module: nn.Module, input_shape: tuple[int, ...], *, name: str = "") -> onnx.ModelProto:
    """Export a module that takes one float input, with the batch left open.

    Batch normalisation and padding are folded into the convolutions before or after them. Tensors
    are named after the modules that give them. Weights with their channels last, as training
    leaves them, are laid out anew: the exporter would write every flattening as a gather.

    Args:
        module: The network; it is exported as in evaluation, and left in the mode it was in.
        input_shape: Shape of one input, without the batch.
        name: What messages call it.

    Returns:
        A model with input "input" and output "output" (or "output_0", "output_1", ...).

    Raises:
        MissingExtra: torch or onnxscript is not installed.
        ModelError: The exporter cannot follow the network.
    """
    try:
        import onnxscript  # noqa: F401
        import torch
    except ImportError:
        what = "exporting a PyTorch network"
        raise MissingExtra(what, "lab") from None

    training = module.training
    if not all(parameter.is_contiguous() for parameter in module.parameters()):
        module = copy.deepcopy(module).to(memory_format=torch.contiguous_format)
    sample = torch.zeros(2, *input_shape)
    batch = {0: torch.export.Dim("batch", min=1, max=65536)}
    try:
        with _silence(), torch.no_grad():
            program = torch.onnx.export(
                module.eval(),
                (sample,),
                dynamo=True,
                dynamic_shapes=(batch,),
                verbose=False,
            )
            proto = program.model_proto
    except Exception as error:
        # The exporter raises its own and torch's errors of many kinds; their last line tells most.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        msg = (
            f"cannot export {name or type(module).__name__} to ONNX for inputs {input_shape}: "
            f"{reason}; export it yourself and give the .onnx file"
        )
        raise ModelError(msg) from error
    finally:
        module.train(training)
    if proto.ByteSize() > LARGEST_BYTES:
        msg = f"{name or 'the model'} is over 2 GB as ONNX: take a smaller one"
        raise ModelError(msg)
    return tidy(proto)


def tidy(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Name tensors after modules and drop the exporter's notes (they hold source paths).

    Args:
        proto: As torch's exporter wrote it; it is changed and given back.
    """
    names = _module_names(proto.graph)
    outputs = [value.name for value in proto.graph.output]
    whole = ["output"] if len(outputs) == 1 else [f"output_{i}" for i in range(len(outputs))]
    names |= dict(zip(outputs, whole, strict=True))
    if len(proto.graph.input) == 1:
        names[proto.graph.input[0].name] = "input"
    for node in proto.graph.node:
        if node.output[0] in names:
            node.name = names[node.output[0]]
    _rename(proto.graph, names)
    del proto.metadata_props[:]
    _strip(proto.graph)
    for function in proto.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]
    return proto


def _module_names(graph: onnx.GraphProto) -> dict[str, str]:
    """Exported tensor name → module path, for every node that says where it comes from."""
    scopes = {node.output[0]: _scope(node) for node in graph.node}
    parents = {path.rpartition(".")[0] for path in scopes.values() if path}
    taken = {"input", "output"} | {tensor.name for tensor in graph.initializer}
    names: dict[str, str] = {}
    for node in graph.node:
        path = scopes[node.output[0]]
        if path is None:
            continue
        operator = node.op_type.lower()
        stem = f"{path}.{operator}" if path and path in parents else path or operator
        name, count = stem, 1
        while name in taken:
            count += 1
            name = f"{stem}_{count}"
        taken.add(name)
        names[node.output[0]] = name
    # Tensors that keep their exported name must not be shadowed by a new one.
    kept = {out for node in graph.node for out in node.output if out not in names}
    return {old: new for old, new in names.items() if new not in kept}


def _scope(node: onnx.NodeProto) -> str | None:
    """Path of the module whose code gave this node, "" for the network itself."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            path = ast.literal_eval(entry.value)
            return str(path[-2]) if len(path) > 1 else ""
    return None


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _rename(attribute.g, names)


def _strip(graph: onnx.GraphProto) -> None:
    del graph.metadata_props[:]
    things = (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for thing in things:
        del thing.metadata_props[:]
        thing.ClearField("doc_string")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _strip(attribute.g)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep torch's warnings, logs and progress lines off the user's terminal."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
