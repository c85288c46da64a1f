"""A packed file: weights as symbols and tables, entropy coded, in one file that loads anywhere."""

from narrows.packed.container import SUFFIX as SUFFIX
from narrows.packed.file import PackedFile as PackedFile
from narrows.packed.file import pack as pack
from narrows.packed.file import unpack as unpack
from narrows.packed.grid import Grid as Grid
