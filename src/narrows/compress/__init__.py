"""Smaller networks: methods that prune, replace or distil, from a task to a network."""

from narrows.compress.base import Chain as Chain
from narrows.compress.base import Method as Method
from narrows.compress.layer_table import LayerRow as LayerRow
from narrows.compress.layer_table import LayerTable as LayerTable
from narrows.compress.layer_table import layer_table as layer_table
from narrows.compress.methods.magnitude import MagnitudePruning as MagnitudePruning
from narrows.compress.methods.surgery import DynamicNetworkSurgery as DynamicNetworkSurgery
from narrows.compress.methods.surgery import SurgerySettings as SurgerySettings
from narrows.compress.weight_layers import weight_layers as weight_layers
from narrows.compress.weight_maps import bake as bake
