"""Binary networks run as bits: packed weights, XNOR and popcount, thresholds; no torch.

    bytes ──bit planes──► sums ──threshold──► signs ──XNOR, popcount──► sums ──► ... ──► scores

`narrows.compress.binary_network` makes one of a network that `BinaryNet` has trained; it is kept in
one file and run by NumPy alone or by kernels that numba compiles (extra `binary`).
"""

from narrows.binary.file import load_binary as load_binary
from narrows.binary.file import save_binary as save_binary
from narrows.binary.layers import ALWAYS as ALWAYS
from narrows.binary.layers import NEVER as NEVER
from narrows.binary.layers import FromBytes as FromBytes
from narrows.binary.layers import FromSigns as FromSigns
from narrows.binary.layers import Layer as Layer
from narrows.binary.layers import Scores as Scores
from narrows.binary.layers import Signs as Signs
from narrows.binary.layers import Window as Window
from narrows.binary.network import BinaryNetwork as BinaryNetwork
from narrows.binary.network import ReadyNetwork as ReadyNetwork
from narrows.binary.packing import pack_signs as pack_signs
from narrows.binary.packing import unpack_signs as unpack_signs
