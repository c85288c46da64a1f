"""Pixels and inputs equal torchvision's transforms; a file that is no picture is said."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.functional import InterpolationMode

from narrows import config
from narrows.errors import ConfigError, InputError
from narrows.preprocess import PRESETS, Preprocess, open_picture, preset


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def reference(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    """torchvision's own evaluation transform with the same numbers."""
    channels = preprocess.channels
    steps = v2.Compose(
        [
            v2.Resize(preprocess.resize, InterpolationMode(preprocess.interpolation)),
            v2.CenterCrop(list(preprocess.size)),
            v2.PILToTensor(),
            v2.Lambda(lambda x: x.float() / preprocess.scale),
            v2.Normalize(
                (preprocess.mean * channels)[:channels], (preprocess.std * channels)[:channels]
            ),
        ]
    )
    return steps(image).numpy()


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize(
    "size", [(500, 375), (375, 500), (227, 227), (256, 256), (1000, 230), (100, 80), (257, 333)]
)
def test_a_preset_equals_torchvision_s_transform(name: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    ours = preset(name)
    found = ours.to_input(ours.pixels(image))
    np.testing.assert_allclose(found, reference(image, ours), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(63, 41), (40, 66), (31, 30)])
def test_odd_crops_equal_torchvision_s(size: tuple[int, int]) -> None:
    ours = Preprocess(size=(25, 31), resize=33, interpolation="bicubic", scale=255.0)
    found = ours.to_input(ours.pixels(picture(*size)))
    np.testing.assert_allclose(found, reference(picture(*size), ours), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "LA", "1"])
def test_every_picture_mode_becomes_rgb(mode: str) -> None:
    image = picture(60, 50, mode)
    found = Preprocess(size=(40, 40)).pixels(image)
    expected = np.asarray(image.convert("RGB").crop((10, 5, 50, 45)))
    np.testing.assert_array_equal(found, expected)


def test_a_file_its_bytes_its_image_and_its_pixels_give_the_same(tmp_path: Path) -> None:
    image, path = picture(80, 70), tmp_path / "a.png"
    image.save(path)
    ours = preset("efficientnet-lite", size=32)
    sources = [path, str(path), path.read_bytes(), image, np.asarray(image)]
    found = [ours.pixels(source) for source in sources]
    assert all(np.array_equal(pixels, found[0]) for pixels in found)


def test_bgr_turns_the_channels_and_hwc_keeps_them_last() -> None:
    image = picture(40, 40)
    rgb, bgr = (Preprocess(size=(40, 40), colour=c).pixels(image) for c in ("rgb", "bgr"))
    np.testing.assert_array_equal(bgr, rgb[..., ::-1])
    last = Preprocess(size=(40, 40), layout="hwc", scale=2.0)
    np.testing.assert_array_equal(last.to_input(rgb), rgb.astype(np.float32) / 2)
    assert last.input_shape == (40, 40, 3)


def test_grey_has_one_channel() -> None:
    grey = Preprocess(size=(28, 28), colour="grey", scale=255.0)
    pixels = grey.pixels(picture(28, 28))
    assert grey.to_input(pixels).shape == grey.input_shape == (1, 28, 28)
    np.testing.assert_array_equal(pixels[..., 0], np.asarray(picture(28, 28, "L")))
    np.testing.assert_array_equal(grey.pixels(pixels), pixels)


def test_no_crop_resizes_straight_to_size() -> None:
    image = picture(90, 30)
    found = Preprocess(size=(20, 40), crop="none", interpolation="box").pixels(image)
    np.testing.assert_array_equal(found, np.asarray(image.resize((40, 20), Image.Resampling.BOX)))


def test_arrays_are_scaled_per_channel_on_the_layout_s_axis() -> None:
    x = np.arange(12, dtype=np.float64).reshape(3, 4)
    first = Preprocess(mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0), scale=2.0)
    expected = (x / 2 - [[1], [2], [3]]) / [[1], [2], [4]]
    np.testing.assert_array_equal(first.to_input(x), expected.astype(np.float32))
    last = Preprocess(mean=(1.0, 2.0, 3.0, 4.0), layout="hwc")
    np.testing.assert_array_equal(last.to_input(x), (x - [1, 2, 3, 4]).astype(np.float32))
    with pytest.raises(InputError, match="3 channels"):
        first.to_input(x.T)


def test_another_size_keeps_the_share_that_is_cropped() -> None:
    assert preset("timm", size=112) == replace(preset("timm"), size=(112, 112), resize=128)


def test_it_comes_back_from_json() -> None:
    for name in PRESETS:
        assert config.from_dict(Preprocess, config.to_dict(preset(name))) == preset(name)


def truncated() -> bytes:
    buffer = io.BytesIO()
    picture(200, 200).save(buffer, "JPEG")
    return buffer.getvalue()[: buffer.tell() // 2]


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff", truncated()])
def test_what_is_not_a_whole_picture_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(InputError, match="picture"):
            preset("torchvision").pixels(source)
    with pytest.raises(InputError, match=r"cat\.jpg"):
        open_picture(path)


def test_a_missing_file_a_folder_and_a_bomb_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, words in ((tmp_path / "no.jpg", "No such file"), (tmp_path, "directory")):
        with pytest.raises(InputError, match=words):
            open_picture(path)
    buffer = io.BytesIO()
    picture(40, 40).save(buffer, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match="more pixels"):
        open_picture(buffer.getvalue())


def test_a_strip_is_refused_before_it_becomes_gigabytes() -> None:
    with pytest.raises(InputError, match="60000 × 1 would become 256 × 15360000"):
        preset("timm").pixels(np.zeros((1, 60000), np.uint8))


@pytest.mark.parametrize("array", [np.zeros((4, 4, 3)), np.zeros((2, 2, 2, 2), np.uint8)])
def test_arrays_that_are_no_pixels_are_said(array: np.ndarray) -> None:
    with pytest.raises(InputError, match="uint8"):
        preset("torchvision").pixels(array)
    with pytest.raises(InputError, match="shape"):
        preset("torchvision").to_input(array)


@pytest.mark.parametrize(
    "wrong",
    [
        {"std": (0.0,)},
        {"scale": 0.0},
        {"mean": (float("nan"),)},
        {"mean": (0.0, 1.0)},
        {"interpolation": "magic"},
        {"size": (0, 5)},
        {"size": (10**6, 5)},
        {"resize": -1},
        {"colour": "cmyk"},
        {"layout": "whc"},
        {"crop": "left"},
    ],
)
def test_a_value_out_of_range_is_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        replace(preset("timm"), **wrong)


def test_an_unknown_preset_names_the_known() -> None:
    with pytest.raises(ConfigError, match="efficientnet-lite"):
        preset("efficientnet")
