"""What a user calls a model, read into a value.

flowers.onnx, flowers.narrows       a file, and a packed one of `narrows pack`
smaller/model.narrows               a packed network, as `narrows compress` left it
zoo:efficientnet_lite0?size=192     a network of this package with its weights
zoo:cifar_vgg16?weights=FILE        a reduced family, or a paper's network, with weights that
`narrows.train` left; a folder stands for the file
NAME.safetensors in it
zoo:lenet5?pretrained=0             the same with random weights; ?width and ?classes change it
timm:resnet50?pretrained=0          timm's networks, with random weights if asked
torchvision:mobilenet_v2            torchvision's
package.module:factory              a function without arguments that gives an nn.Module, an
onnx.ModelProto, or the path of an ONNX file
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast, final, get_args
from urllib.parse import parse_qsl

from narrows.errors import InputError
from narrows.references import is_model_file, is_reference
from narrows.zoo.efficientnet_lite import Lite
from narrows.zoo.members import MEMBERS

Library = Literal["file", "zoo", "timm", "torchvision", "factory"]
_OPTIONS: Final = ("size", "pretrained", "seed", "weights", "width", "classes")
_ZOO_OPTIONS: Final = ("weights", "width", "classes")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model as named by a user.

    Args:
        library: Where it comes from.
        name: What it is called there.
        size: Height and width of the input, if not the network's own.
        pretrained: Whether to load trained weights.
        seed: Of random weights.
        weights: File or folder of the weights of a network of the zoo.
        width: Share of the original's channels, in place of the zoo's.
        classes: Outputs, in place of the zoo's.
    """

    library: Library
    name: str
    size: int | None = None
    pretrained: bool = True
    seed: int = 0
    weights: str | None = None
    width: float | None = None
    classes: int | None = None

    @property
    def is_random(self) -> bool:
        """Whether its weights are random, as far as the name tells: then accuracy means nothing."""
        if self.library == "zoo":
            return self.weights is None and not isinstance(MEMBERS.get(self.name), Lite)
        return self.library in ("timm", "torchvision") and not self.pretrained


def parse(model: str) -> Source:
    """Read a model's name.

    Raises:
        InputError: It is none of the forms above, or an option is not known.

    Example:
        >>> parse("timm:resnet50?pretrained=0").pretrained
        False
    """
    if is_model_file(model):
        return Source(library="file", name=model)
    bare, _, query = model.partition("?")
    prefix, colon, name = bare.partition(":")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := set(options) - set(_OPTIONS):
        msg = f"unknown option {min(unknown)!r} in {model!r}: known are {', '.join(_OPTIONS)}"
        raise InputError(msg)
    if prefix != "zoo" and (own := [name for name in _ZOO_OPTIONS if name in options]):
        msg = f"{model!r}: only networks of the zoo take {own[0]}; export yours to ONNX"
        raise InputError(msg)
    libraries = get_args(Library)
    if colon and prefix in libraries[1:4]:
        library, name = prefix, name
    elif is_reference(bare):
        library, name = "factory", bare
    else:
        msg = (
            f"no model {model!r}: give a .onnx file, zoo:NAME ({', '.join(MEMBERS)}), timm:NAME, "
            "torchvision:NAME or package.module:factory"
        )
        raise InputError(msg)
    return Source(
        library=cast(Library, library),
        name=name,
        size=_whole(options.get("size"), model),
        pretrained=options.get("pretrained", "1").lower() not in ("0", "false", "no"),
        seed=_whole(options.get("seed"), model) or 0,
        weights=options.get("weights"),
        width=_share(options.get("width"), model),
        classes=_whole(options.get("classes"), model),
    )


def _share(text: str | None, model: str) -> float | None:
    if text is None:
        return None
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 16:
        msg = f"width={text!r} in {model!r}: give a share of the original's channels, e.g. 0.5"
        raise InputError(msg)
    return share


def _whole(text: str | None, model: str) -> int | None:
    if text is None:
        return None
    if not text.isdecimal():
        msg = f"{text!r} in {model!r} is no whole number"
        raise InputError(msg)
    return int(text)
