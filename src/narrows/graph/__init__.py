"""ONNX model → facts, cuts, head and tail. No torch."""

from narrows.graph.cost import NodeCost, node_costs, total_macs, unknown_operators
from narrows.graph.cuts import Cut, Cuts, Refused, find, find_cuts
from narrows.graph.load import Model, load
from narrows.graph.ort import run, session
from narrows.graph.probe import TensorInfo
from narrows.graph.split import Equality, Parts, check_equal, split

__all__ = [
    "Cut",
    "Cuts",
    "Equality",
    "Model",
    "NodeCost",
    "Parts",
    "Refused",
    "TensorInfo",
    "check_equal",
    "find",
    "find_cuts",
    "load",
    "node_costs",
    "run",
    "session",
    "split",
    "total_macs",
    "unknown_operators",
]
