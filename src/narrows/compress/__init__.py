"""Smaller networks: methods that prune, replace or distil, from a task to a network."""

from narrows.compress.base import Chain as Chain
from narrows.compress.base import Method as Method
from narrows.compress.break_even import BreakEven as BreakEven
from narrows.compress.break_even import measure_break_even as measure_break_even
from narrows.compress.layer_table import LayerRow as LayerRow
from narrows.compress.layer_table import LayerTable as LayerTable
from narrows.compress.layer_table import layer_table as layer_table
from narrows.compress.masking import MaskedModel as MaskedModel
from narrows.compress.masking import masked as masked
from narrows.compress.methods.deepiot import DeepIoT as DeepIoT
from narrows.compress.methods.distillation import Distillation as Distillation
from narrows.compress.methods.magnitude import MagnitudePruning as MagnitudePruning
from narrows.compress.methods.sparsesep import SparseSep as SparseSep
from narrows.compress.methods.surgery import DynamicNetworkSurgery as DynamicNetworkSurgery
from narrows.compress.methods.surgery import SurgerySettings as SurgerySettings
from narrows.compress.methods.units import UnitPruning as UnitPruning
from narrows.compress.removal import remove_units as remove_units
from narrows.compress.sparse_formats import WeightSize as WeightSize
from narrows.compress.sparse_formats import choose_format as choose_format
from narrows.compress.sparse_formats import weight_size as weight_size
from narrows.compress.units import UnitGroup as UnitGroup
from narrows.compress.units import Units as Units
from narrows.compress.units import find_units as find_units
from narrows.compress.weight_layers import weight_layers as weight_layers
from narrows.compress.weight_maps import bake as bake
