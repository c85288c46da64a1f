"""The structure of a network as JSON, and a network from it.

    {"layers": {"conv1": {"type": "Conv2d", "settings": {...}}, ...},
     "tensors": {"scale": "parameter", ...},
     "calls": [["x", "placeholder", "x", [], {}],
               ["conv1", "call_module", "conv1", [{"node": "x"}], {}], ...]}

`tensors` are those that forward uses itself. A call is what torch.fx calls a node: name, operation,
target, arguments by place and by name. What JSON does not know is an object with one key:
{"node": name}, {"tuple": [...]}, {"slice": [...]}, {"dtype": name}, {"ellipsis": true}.
"""

from __future__ import annotations

import keyword
import re
from typing import Any, Final

import torch
from torch import fx, nn

from narrows.compress.tracing import trace
from narrows.errors import ModelError
from narrows.store.calls import FUNCTIONS, check_attribute, check_method, name_function
from narrows.store.derived import own_convolutions_, split_norms_
from narrows.store.layers import build_layer, describe_layer

Json = Any
_DTYPES: Final = {
    name: getattr(torch, name)
    for name in (
        *("float16", "bfloat16", "float32", "float64", "bool", "uint8", "int8", "int16"),
        *("int32", "int64"),
    )
}
_NAME: Final = re.compile(r"[\w-]+(\.[\w-]+)*", re.ASCII)
_WRONG: Final = (
    *(KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError, AssertionError),
    *(ArithmeticError, MemoryError, SyntaxError),  # torch and torch.fx, of what makes no sense
)
_OPERATIONS: Final = (
    "placeholder",
    "get_attr",
    "call_module",
    "call_function",
    "call_method",
    "output",
)


def describe(model: nn.Module) -> tuple[dict[str, Json], fx.GraphModule]:
    """The structure of a network, and the graph whose weights go with it.

    Raises:
        ModelError: The network cannot be traced, or holds what cannot be stored.
    """
    module = trace(model)
    split_norms_(module)
    own_convolutions_(module)
    layers: dict[str, Json] = {}
    tensors: dict[str, Json] = {}
    calls: list[Json] = []
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for node in module.graph.nodes:
        target: Any = node.target
        if node.op in ("call_module", "get_attr") and not _NAME.fullmatch(str(target)):
            msg = f"{str(target)!r} cannot be stored: letters, digits, _, - and dots make a name"
            raise ModelError(msg)
        if node.op == "call_module":
            name = str(target)
            described = describe_layer(name, module.get_submodule(name))
            settings = {k: _written(name, v) for k, v in described["settings"].items()}
            layers[name] = {"type": described["type"], "settings": settings}
        elif node.op == "call_function":
            target = name_function(node.name, target)
            if target == "getattr":
                check_attribute(node.name, node.args)
        elif node.op == "call_method":
            target = check_method(node.name, str(target))
        elif node.op == "get_attr":
            tensors[str(target)] = "parameter" if str(target) in parameters else "buffer"
        arguments = [_written(node.name, value) for value in node.args]
        named = {key: _written(node.name, value) for key, value in node.kwargs.items()}
        calls.append([node.name, node.op, str(target), arguments, named])
    return {"layers": layers, "tensors": tensors, "calls": calls}, module


def build(structure: Json, weights: dict[str, torch.Tensor]) -> fx.GraphModule:
    """The network of a structure, with its weights.

    Args:
        structure: As `describe` gives it.
        weights: Of its `state_dict`.

    Raises:
        ModelError: It is no structure, or the weights are of another network.
    """
    try:
        made = _built(structure, weights)
    except ModelError:
        raise
    except _WRONG as error:
        reason = " ".join(str(error).split())[:200]
        msg = f"this is no structure of a network, or not of these weights: {reason}"
        raise ModelError(msg) from error
    return made.eval()


def _built(structure: Json, weights: dict[str, torch.Tensor]) -> fx.GraphModule:
    layers, calls = structure["layers"].items(), list(structure["calls"])
    root = nn.Module()
    # Without memory: what the layers hold comes from the weights, or there is a reason to refuse.
    with torch.device("meta"):
        for name, layer in layers:
            settings = {key: _read({}, value) for key, value in layer["settings"].items()}
            if settings.get("num_layers", 0) > len(weights):
                msg = f"{name!r} has more layers than there are weights"
                raise ModelError(msg)
            _put(root, name, build_layer(name, layer["type"], settings))
    for name, kind in structure["tensors"].items():
        value = weights[name]
        _put(root, name, nn.Parameter(value) if kind == "parameter" else value)
    graph = fx.Graph()
    nodes: dict[str, fx.Node] = {}
    for call in calls:
        nodes[call[0]] = _call(graph, nodes, *call)
    graph.lint()
    made = fx.GraphModule(root, graph)
    made.load_state_dict(weights, assign=True)
    return made


def _call(
    graph: fx.Graph,
    nodes: dict[str, fx.Node],
    name: str,
    operation: str,
    target: str,
    arguments: list[Json],
    named: dict[str, Json],
) -> fx.Node:
    if operation not in _OPERATIONS:
        msg = f"{name} is a {operation!r}: expected one of {', '.join(_OPERATIONS)}"
        raise ModelError(msg)
    # torch.fx writes source of these and runs it.
    for word in (name, *named, *((target,) if operation == "placeholder" else ())):
        if type(word) is not str or not word.isidentifier() or keyword.iskeyword(word):
            msg = f"{word!r} is no name of a call or of an argument"
            raise ModelError(msg)
    given = tuple(_read(nodes, value) for value in arguments)
    called: Any = target
    if operation == "call_method":
        check_method(name, target)
    elif operation == "call_function":
        if target not in FUNCTIONS:
            msg = f"{name} calls {target!r}, which is none of narrows' list of functions"
            raise ModelError(msg)
        called = FUNCTIONS[target]
        if target == "getattr":
            check_attribute(name, given)
    keywords = {key: _read(nodes, value) for key, value in named.items()}
    return graph.create_node(operation, called, given, keywords, name)


def _put(root: nn.Module, name: str, value: nn.Module | nn.Parameter | torch.Tensor) -> None:
    """A layer or a weight under its qualified name, the modules on the way made where needed."""
    if not _NAME.fullmatch(name):
        msg = f"{name!r} is no name of a layer or of a weight: letters, digits, _, - and dots are"
        raise ModelError(msg)
    *parents, last = name.split(".")
    owner = root
    for parent in parents:
        if parent not in owner._modules:
            owner.add_module(parent, nn.Module())
        found = owner._modules[parent]
        assert found is not None
        owner = found
    if isinstance(value, nn.Module):
        owner.add_module(last, value)
    elif isinstance(value, nn.Parameter):
        owner.register_parameter(last, value)
    else:
        owner.register_buffer(last, value)


def _written(where: str, value: Any) -> Json:
    """A value as JSON."""
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_written(where, item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_written(where, item) for item in value]}
    if isinstance(value, slice):
        return {"slice": [_written(where, part) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if value is ...:
        return {"ellipsis": True}
    msg = f"{where} has a {type(value).__name__} among its settings, which cannot be stored"
    raise ModelError(msg)


def _read(nodes: dict[str, fx.Node], value: Json) -> Any:
    """A value from JSON."""
    if isinstance(value, list):
        return [_read(nodes, item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inside),) = value.items()
    if kind == "node":
        return nodes[inside]
    if kind == "tuple":
        return tuple(_read(nodes, item) for item in inside)
    if kind == "slice":
        return slice(*(_read(nodes, item) for item in inside))
    if kind == "dtype":
        return _DTYPES[inside]
    if kind == "ellipsis":
        return ...
    msg = f"a value of kind {kind!r}: expected node, tuple, slice, dtype or ellipsis"
    raise ModelError(msg)
