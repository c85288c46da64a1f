"""Transforms: features to components that are cheaper to code. One line per member."""

from narrows.coding.base import Transform
from narrows.coding.transforms.identity import Identity

TRANSFORMS: dict[str, type[Transform]] = {
    Identity.name: Identity,
    # BlockedPca.name: BlockedPca,
}

__all__ = ["TRANSFORMS", "Identity"]
