"""Known families of networks at a reduced width, for pictures of 32 × 32 and ten classes.

The definitions are torchvision's and timm's own: same blocks, same order, same depth. Two things
are changed, and stated with each: every number of channels is multiplied by `width`, and the first
layers reduce the picture less, because 32 × 32 is a seventh of 224 × 224. The classifier is one
linear layer (VGG keeps two). They are small enough that a processor trains all six in an afternoon
or less, so that accuracy can be measured where trained weights are out of reach.

Reference:
    Howard et al., "MobileNets", 2017; Sandler et al., "MobileNetV2", CVPR 2018; Simonyan,
    Zisserman, "Very Deep Convolutional Networks", ICLR 2015; Szegedy et al., "Going Deeper with
    Convolutions", CVPR 2015, and "Rethinking the Inception Architecture", CVPR 2016; He et al.,
    "Deep Residual Learning", CVPR 2016. Departs from the papers: width, stem and classifier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

from narrows.errors import InputError, MissingExtra
from narrows.preprocess import Preprocess
from narrows.zoo.cifar import PREPROCESS

if TYPE_CHECKING:
    from torch import nn

CLASSES: Final = 10
SIZE: Final = 32


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One network at a stated width, whose weights come from a file or are random.

    Args:
        name: As `zoo:NAME` gives it.
        width: Share of the original's channels in every layer.
        stem: How the first layers differ from the original's.
        definition: Builds the network with random weights from a width and a number of classes.
        input_shape: Of one input.
        classes: Outputs.
        preprocess: How its pictures are prepared; None where its task says that.
    """

    name: str
    width: float
    stem: str
    definition: Callable[[float, int], nn.Module]
    input_shape: tuple[int, ...] = (3, SIZE, SIZE)
    classes: int = CLASSES
    preprocess: Preprocess | None = PREPROCESS

    def weights(self, stated: str | Path) -> Path:
        """The file of trained weights: the one stated, or NAME.safetensors in a folder.

        Raises:
            InputError: There is no such file.
        """
        path = Path(stated)
        path = path / f"{self.name}.safetensors" if path.is_dir() else path
        if not path.is_file():
            msg = f"no weights of {self.name} at {path}: give a .safetensors file or its folder"
            raise InputError(msg)
        return path

    def build(
        self,
        *,
        weights: Path | None = None,
        seed: int = 0,
        width: float | None = None,
        classes: int | None = None,
    ) -> nn.Module:
        """The network in training mode.

        Args:
            weights: A file of them; random ones by default.
            seed: Of random weights.
            width: In place of its own.
            classes: In place of its own.

        Raises:
            MissingExtra: torch, torchvision or timm is not installed.
            ModelError: The file is damaged, or holds the weights of another network.
        """
        try:
            import timm  # noqa: F401
            import torch
            import torchvision  # noqa: F401
        except ImportError:
            msg = f"zoo:{self.name}"
            raise MissingExtra(msg, "lab") from None
        from narrows.train.checkpoint import load_weights

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.definition(width or self.width, classes or self.classes).train()
        if weights is not None:
            load_weights(network, weights)
        return network


def _mobilenet_v1(width: float, classes: int) -> nn.Module:
    from timm.models.efficientnet import EfficientNet, decode_arch_def, round_channels
    from torch import nn

    stages = ("r1_k3_s2_c64", "r2_k3_s1_c128", "r2_k3_s2_c256", "r6_k3_s2_c512", "r2_k3_s2_c1024")
    network = EfficientNet(
        decode_arch_def([[f"dsa_{stage}"] for stage in stages]),
        num_classes=classes,
        num_features=0,
        stem_size=32,
        round_chs_fn=partial(round_channels, multiplier=width),
        act_layer=nn.ReLU6,
    )
    network.conv_stem.stride = (1, 1)
    return network


def _mobilenet_v2(width: float, classes: int) -> nn.Module:
    from torch import nn
    from torchvision.models import MobileNetV2

    network = MobileNetV2(
        num_classes=classes,
        width_mult=width,
        inverted_residual_setting=[
            [1, 16, 1, 2],
            [6, 24, 2, 1],
            [6, 32, 3, 2],
            [6, 64, 4, 2],
            [6, 96, 3, 1],
            [6, 160, 3, 2],
            [6, 320, 1, 1],
        ],
        dropout=0.0,
    )
    network.features[0][0].stride = (1, 1)
    last = network.features[-1]
    # The last convolution keeps 1 280 channels at any width below 1; here it is reduced too.
    channels = round(1280 * width)
    last[0] = nn.Conv2d(last[0].in_channels, channels, 1, bias=False)
    last[1] = nn.BatchNorm2d(channels)
    network.classifier = nn.Linear(channels, classes)
    return network


def _vgg16(width: float, classes: int) -> nn.Module:
    from torch import nn
    from torchvision.models.vgg import cfgs, make_layers

    layers = [v if isinstance(v, str) else round(v * width) for v in cfgs["D"]]
    hidden = round(512 * width)
    classifier = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(True), nn.Linear(hidden, classes))
    return nn.Sequential(make_layers(layers, batch_norm=True), nn.Flatten(), classifier)


def _inception_v1(width: float, classes: int) -> nn.Module:
    from torch import nn
    from torchvision.models.googlenet import BasicConv2d, GoogLeNet, Inception, InceptionAux

    block = _narrowed(BasicConv2d, width)
    network = GoogLeNet(
        num_classes=classes,
        aux_logits=False,
        init_weights=True,
        blocks=[block, partial(Inception, conv_block=block), InceptionAux],
    )
    network.conv1 = BasicConv2d(3, round(64 * width), kernel_size=3, padding=1)
    network.dropout = nn.Identity()
    network.fc = nn.Linear(round(1024 * width), classes)
    return network


def _inception_v3(width: float, classes: int) -> nn.Module:
    from torch import nn
    from torchvision.models import inception as original

    block = _narrowed(original.BasicConv2d, width)
    parts = [getattr(original, f"Inception{letter}") for letter in "ABCDE"]
    network = original.Inception3(
        num_classes=classes,
        aux_logits=False,
        init_weights=True,
        dropout=0.0,
        inception_blocks=[block, *(partial(p, conv_block=block) for p in parts), None],
    )
    for layer in (network.Conv2d_1a_3x3, network.Conv2d_2a_3x3, network.Conv2d_4a_3x3):
        layer.conv.padding = (1, 1)
    network.maxpool1.padding = 1
    network.maxpool2 = nn.Identity()
    network.fc = nn.Linear(round(2048 * width), classes)
    return network


def _resnet50(width: float, classes: int) -> nn.Module:
    from timm.models.resnet import Bottleneck, ResNet, downsample_conv
    from torch import nn

    channels = [round(c * width) for c in (64, 128, 256, 512)]
    first, out = channels[0], channels[0] * Bottleneck.expansion
    network = ResNet(Bottleneck, (3, 4, 6, 3), num_classes=classes, channels=tuple(channels))
    network.conv1 = nn.Conv2d(3, first, 3, padding=1, bias=False)
    network.bn1 = nn.BatchNorm2d(first)
    shortcut = downsample_conv(first, out, kernel_size=1)
    network.layer1[0] = Bottleneck(first, first, downsample=shortcut)
    return network


def _narrowed(convolution: Callable[..., nn.Module], width: float) -> Callable[..., nn.Module]:
    """The same block with all channels but the picture's three multiplied by `width`."""

    def build(inputs: int, outputs: int, **settings: Any) -> nn.Module:
        scaled = inputs if inputs == 3 else round(inputs * width)
        return convolution(scaled, round(outputs * width), **settings)

    return build


_THREE: Final = "first convolution 3 × 3 with stride 1"
_FAMILIES: Final = (
    Family(
        name="cifar_mobilenet_v1",
        width=0.375,
        stem="strides 1, 2, 1 in place of 2, 1, 2 at the start",
        definition=_mobilenet_v1,
    ),
    Family(
        name="cifar_mobilenet_v2",
        width=0.35,
        stem="strides 1, 2, 1 in place of 2, 1, 2 at the start",
        definition=_mobilenet_v2,
    ),
    Family(name="cifar_vgg16", width=0.25, stem="as the original's", definition=_vgg16),
    Family(name="cifar_inception_v1", width=0.25, stem=_THREE, definition=_inception_v1),
    Family(
        name="cifar_inception_v3",
        width=0.1875,
        stem=f"{_THREE}, all of the stem padded",
        definition=_inception_v3,
    ),
    Family(name="cifar_resnet50", width=0.125, stem=_THREE, definition=_resnet50),
)
FAMILIES: Final = MappingProxyType({family.name: family for family in _FAMILIES})
