"""Transforms: features to components that are cheaper to code. One line per member."""

from narrows.coding.base import Transform
from narrows.coding.transforms.blocked_pca import BlockedPCA
from narrows.coding.transforms.identity import Identity
from narrows.coding.transforms.separable_klt import SeparableKLT

TRANSFORMS: dict[str, type[Transform]] = {
    Identity.name: Identity,
    SeparableKLT.name: SeparableKLT,
    BlockedPCA.name: BlockedPCA,
}

__all__ = ["TRANSFORMS", "BlockedPCA", "Identity", "SeparableKLT"]
