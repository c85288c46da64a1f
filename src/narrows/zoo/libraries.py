"""Networks of timm and torchvision by name, and the preprocessing they were trained with."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from narrows.errors import MissingExtra, ModelError
from narrows.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]
_REACH_S = 5.0


def timm_network(
    name: str, *, size: int | None, pretrained: bool, seed: int
) -> tuple[nn.Module, Shape]:
    """A network of timm and the shape of its input.

    Args:
        name: As `timm.list_models()` gives it.
        size: Height and width of the input; None for the network's own.
        pretrained: Whether to load trained weights (they are downloaded).
        seed: Of random weights.

    Raises:
        MissingExtra: timm is not installed.
        ModelError: There is no such network, or it cannot be built.
    """
    timm, settings = _imported("timm"), _timm_settings(name)
    channels, height, width = settings["input_size"]
    options = {"img_size": size} if size and settings.get("fixed_input_size") else {}
    with _building(f"timm:{name}", pretrained=pretrained, seed=seed), _asking_once(pretrained):
        network = timm.create_model(name, pretrained=pretrained, **options)
    return network.eval(), (channels, size or height, size or width)


def timm_preprocess(name: str) -> Preprocess | None:
    """What timm's evaluation does to a picture, or None where it does more than resize and crop."""
    settings = _timm_settings(name)
    _, height, width = settings["input_size"]
    crop = {"center": "center", "squash": "none"}.get(settings.get("crop_mode") or "center")
    if crop is None:
        return None
    share = settings.get("crop_pct") or 0.875
    interpolation: Any = settings.get("interpolation") or "bicubic"
    return Preprocess(
        size=(height, width),
        resize=math.floor(height / share) if crop == "center" else None,
        crop="center" if crop == "center" else "none",
        interpolation="bilinear" if interpolation == "random" else interpolation,
        scale=255.0,
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
    )


def torchvision_network(
    name: str, *, size: int | None, pretrained: bool, seed: int
) -> tuple[nn.Module, Shape]:
    """A network of torchvision and the shape of its input.

    Args:
        name: As `torchvision.models.list_models()` gives it.
        size: Height and width of the input; None for the network's own.
        pretrained: Whether to load trained weights (they are downloaded).
        seed: Of random weights.

    Raises:
        MissingExtra: torchvision is not installed.
        ModelError: There is no such network, or it cannot be built.
    """
    torchvision, preprocess = _imported("torchvision"), torchvision_preprocess(name)
    # These two start slowly from random weights, and warn, unless told not to.
    quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with _building(f"torchvision:{name}", pretrained=pretrained, seed=seed):
        weights = "DEFAULT" if pretrained else None
        options = {} if pretrained else quick
        network = torchvision.models.get_model(name, weights=weights, **options)
    height, width = cast(tuple[int, int], preprocess.size)
    return network.eval(), (3, size or height, size or width)


def torchvision_preprocess(name: str) -> Preprocess:
    """What torchvision's evaluation of its newest weights does to a picture."""
    torchvision = _imported("torchvision")
    if name not in torchvision.models.list_models(torchvision.models):
        msg = f"torchvision has no classifier {name!r}: see torchvision.models.list_models()"
        raise ModelError(msg)
    transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    crop = transforms.crop_size[0]
    return Preprocess(
        size=(crop, crop),
        resize=transforms.resize_size[0],
        interpolation=transforms.interpolation.value,
        scale=255.0,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )


def _timm_settings(name: str) -> dict[str, Any]:
    timm = _imported("timm")
    settings = timm.models.get_pretrained_cfg(name) if timm.is_model(name) else None
    if settings is None:
        msg = f"timm has no network {name!r}: see timm.list_models()"
        raise ModelError(msg)
    return cast(dict[str, Any], settings.to_dict())


def _imported(library: str) -> Any:
    try:
        return importlib.import_module(library)
    except ImportError:
        what = f"a network of {library}"
        raise MissingExtra(what, "lab") from None


@contextmanager
def _building(what: str, *, pretrained: bool, seed: int) -> Iterator[None]:
    """Seed torch for this network only, and say what to do when it cannot be built."""
    import torch

    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    except Exception as error:
        # timm, torchvision and the download clients below them share no base class of errors.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        advice = f"; for random weights ask for {what}?pretrained=0" if pretrained else ""
        msg = f"cannot build {what}: {reason}{advice}"
        raise ModelError(msg) from error


@contextmanager
def _asking_once(pretrained: bool) -> Iterator[None]:
    """Without a connection, take trained weights from the download cache or fail at once.

    The download client by itself asks again and again, for most of a minute.
    """
    reached = not pretrained or _is_reached()
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not reached
    try:
        yield
    except Exception as error:
        if reached or not type(error).__module__.startswith("huggingface_hub"):
            raise
        msg = "its trained weights are not on this machine and their server cannot be reached"
        raise ModelError(msg) from error
    finally:
        constants.HF_HUB_OFFLINE = before


def _is_reached() -> bool:
    """Whether the server that timm's weights come from answers anything at all."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_REACH_S)
    except Exception:
        # The client below it, and so its errors, changed from release to release.
        return False
    return True
