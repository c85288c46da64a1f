"""What `zoo:NAME` names: EfficientNet-Lite with its weights, reduced families, papers' networks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from narrows.errors import InputError, ModelError
from narrows.zoo.efficientnet_lite import LITES, Lite
from narrows.zoo.families import FAMILIES, Family
from narrows.zoo.papers import PAPERS

if TYPE_CHECKING:
    from torch import nn

    from narrows.zoo.names import Source

MEMBERS: Final[Mapping[str, Lite | Family]] = MappingProxyType({**LITES, **FAMILIES, **PAPERS})


def member(source: Source) -> Lite | Family:
    """The member of a name, once its options fit it.

    Raises:
        ModelError: There is none.
        InputError: It does not take one of the options.
    """
    if source.name not in MEMBERS:
        msg = f"no network {source.name!r} in the zoo: it has {', '.join(MEMBERS)}"
        raise ModelError(msg)
    found = MEMBERS[source.name]
    if isinstance(found, Lite):
        for option in ("weights", "width", "classes"):
            if (value := getattr(source, option)) is not None:
                msg = f"zoo:{source.name} has weights of its own: leave out {option}={value}"
                raise InputError(msg)
    elif source.size is not None and source.size != found.input_shape[-1]:
        shape = " × ".join(map(str, found.input_shape))
        msg = f"zoo:{source.name} takes inputs of {shape}, asked was size={source.size}"
        raise InputError(msg)
    return found


def build_member(source: Source, *, untrained: bool) -> tuple[nn.Module, tuple[int, ...]]:
    """A member's network in evaluation mode, and the shape of one input.

    Args:
        source: Its name with options.
        untrained: Take random weights where none are stated and the member has none.

    Raises:
        ModelError: There is no such member, or it has no weights and random ones were not asked
            for.
        MissingExtra: It needs packages that are not installed.
    """
    found = member(source)
    if isinstance(found, Lite):
        size = source.size or found.size
        return found.build(), (3, size, size)
    if source.weights is None and source.pretrained and not untrained:
        msg = (
            f"zoo:{found.name} comes without weights: give ?weights=FILE.safetensors of a "
            "training, or ?pretrained=0 for random ones; `narrows compress --train` trains it first"
        )
        raise ModelError(msg)
    weights = found.weights(source.weights) if source.weights is not None else None
    made = found.build(
        weights=weights, seed=source.seed, width=source.width, classes=source.classes
    )
    return made.eval(), found.input_shape
