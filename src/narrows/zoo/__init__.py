"""Networks by name: from here, timm, torchvision, a user's own code, to ONNX."""

from narrows.zoo.names import Source as Source
from narrows.zoo.names import parse as parse
from narrows.zoo.sources import cache_folder as cache_folder
from narrows.zoo.sources import preset as preset
from narrows.zoo.sources import resolve as resolve
from narrows.zoo.sources import resolve_for as resolve_for
