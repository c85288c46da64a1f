"""Transforms: features to components that are cheaper to code. One line per member."""

from narrows.coding.base import Transform
from narrows.coding.transforms.blocked_pca import BlockedPCA
from narrows.coding.transforms.identity import Identity

TRANSFORMS: dict[str, type[Transform]] = {
    Identity.name: Identity,
    BlockedPCA.name: BlockedPCA,
}

__all__ = ["TRANSFORMS", "BlockedPCA", "Identity"]
