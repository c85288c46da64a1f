"""JPEG, WebP and AVIF of the input: fidelity, and files that are not what they should be."""

import io
import struct
import time
from contextlib import suppress

import freeze
import numpy as np
import pytest
from PIL import Image, features

from narrows.coding import ImageCodec
from narrows.coding.image_headers import READERS
from narrows.coding.images import MAX_PIXELS
from narrows.errors import CodecError, CorruptData
from narrows.testing.hostile import mutated_bytes

FORMATS = ("jpeg", "webp", "avif")
SHAPE = (60, 84, 3)


def picture(shape=SHAPE, seed=0):
    """Smooth colours with some edges and a little noise."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    planes = [
        120 + 100 * np.sin(rows / 9 + k) * np.cos(columns / (11 + k)) + 25 * (rows > columns)
        for k in range(shape[2])
    ]
    noise = generator.normal(0, 2, shape)
    return (np.stack(planes, -1) + noise).clip(0, 255).astype(np.uint8)


def saved(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


@pytest.fixture(autouse=True)
def _needs_avif():
    assert features.check("avif"), "Pillow without AVIF: install a wheel of 11.3 or later"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", [SHAPE, (60, 84, 1), (1, 1, 3), (17, 5, 1), (33, 70, 3)])
def test_picture_comes_back_close_in_shape_and_type(name, shape):
    codec = ImageCodec(format=name, quality=90)
    pixels = picture(shape)
    decoded = codec.decode(codec.encode(pixels), shape)
    assert decoded.shape == shape
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    assert np.abs(decoded.astype(int) - pixels).mean() < 6


@pytest.mark.parametrize("name", FORMATS)
def test_channels_keep_their_order(name):
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[..., 0], pixels[..., 2] = 220, 40
    codec = ImageCodec(format=name, quality=90)
    means = codec.decode(codec.encode(pixels), pixels.shape).mean((0, 1))
    assert np.abs(means - [220, 0, 40]).max() < 12


@pytest.mark.parametrize("name", FORMATS)
def test_quality_and_scale_trade_bytes_for_fidelity(name):
    pixels = picture()
    sizes, errors = [], []
    for quality, scale in ((90, 1.0), (40, 1.0), (40, 0.5)):
        codec = ImageCodec(format=name, quality=quality, scale=scale)
        data = codec.encode(pixels)
        sizes.append(len(data))
        errors.append(np.abs(codec.decode(data, SHAPE).astype(int) - pixels).mean())
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert errors[2] < 20


@pytest.mark.parametrize("name", FORMATS)
def test_scaled_picture_is_not_shifted(name):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[20:44, 10:50] = 255
    codec = ImageCodec(format=name, quality=90, scale=0.5)
    data = codec.encode(pixels)
    assert READERS[name](data) == (32, 32)
    weights = codec.decode(data, pixels.shape).sum(2).astype(float)
    rows, columns = np.mgrid[:64, :64]
    centre = (weights * rows).sum() / weights.sum(), (weights * columns).sum() / weights.sum()
    assert centre == pytest.approx((31.5, 29.5), abs=0.2)


def test_jpeg_is_progressive_optimised_and_subsampled():
    data = ImageCodec(format="jpeg", quality=60).encode(picture())
    plain = saved(Image.fromarray(picture()), format="JPEG", quality=60, subsampling="4:4:4")
    assert len(data) < len(plain)
    image = Image.open(io.BytesIO(data))
    assert image.info.get("progressive")
    assert [layer[1:3] for layer in image.layer] == [(2, 2), (1, 1), (1, 1)]


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_refused_or_keep_the_shape(name):
    codec = ImageCodec(format=name, quality=50)
    data = codec.encode(picture())
    for damaged in mutated_bytes(data, count=1500, seed=3):
        begin = time.perf_counter()
        with suppress(CorruptData):
            assert codec.decode(damaged, SHAPE).shape == SHAPE
        assert time.perf_counter() - begin < 1


@pytest.mark.parametrize("name", FORMATS)
def test_every_cut_of_a_file_is_refused(name):
    codec = ImageCodec(format=name, quality=50)
    data = codec.encode(picture((20, 28, 3)))
    for end in range(len(data)):
        with pytest.raises(CorruptData):
            codec.decode(data[:end], (20, 28, 3))
    with pytest.raises(CorruptData):
        codec.decode(data + b"\0", (20, 28, 3))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("other", [*FORMATS, "png", "gif"])
def test_file_of_another_format_is_refused(name, other):
    data = saved(Image.fromarray(picture()), format=other.upper())
    if name != other:
        with pytest.raises(CorruptData, match="expected"):
            ImageCodec(format=name, quality=50).decode(data, SHAPE)


@pytest.mark.parametrize("name", FORMATS)
def test_file_of_another_size_is_refused(name):
    data = ImageCodec(format=name, quality=50).encode(picture())
    for shape, scale in (((60, 80, 3), 1.0), ((84, 60, 3), 1.0), (SHAPE, 0.5)):
        with pytest.raises(CorruptData, match="84 by 60 found"):
            ImageCodec(format=name, quality=50, scale=scale).decode(data, shape)


def test_giant_dimensions_are_refused_before_decoding(monkeypatch):
    files = {name: ImageCodec(format=name, quality=50).encode(picture()) for name in FORMATS}
    small, giant = struct.pack(">HH", 60, 84), struct.pack(">HH", 65000, 65000)
    forged = {
        "jpeg": files["jpeg"].replace(small, giant),
        "webp": files["webp"].replace(struct.pack("<HH", 84, 60), struct.pack("<HH", 16000, 16000)),
        "avif": files["avif"].replace(struct.pack(">II", 84, 60), struct.pack(">II", 65000, 65000)),
    }
    monkeypatch.setattr(Image, "open", None)
    for name, data in forged.items():
        assert data != files[name]
        with pytest.raises(CorruptData):
            ImageCodec(format=name, quality=50).decode(data, SHAPE)


def test_avif_whose_picture_is_larger_than_its_container_says_is_refused():
    small = ImageCodec(format="avif", quality=50).encode(picture((60, 84, 3)))
    large = ImageCodec(format="avif", quality=50).encode(picture((600, 840, 3)))
    forged = large.replace(struct.pack(">II", 840, 600), struct.pack(">II", 84, 60))
    assert READERS["avif"](small) == (84, 60)
    assert READERS["avif"](large) == (840, 600)
    with pytest.raises(CorruptData, match="84 by 60 as its container says"):
        READERS["avif"](forged)


def test_jpeg_with_thousands_of_scans_is_refused():
    data = ImageCodec(format="jpeg", quality=50).encode(picture())
    scan = data.rindex(b"\xff\xda")
    bomb = data[:scan] + data[scan:-2] * 3000 + data[-2:]
    with pytest.raises(CorruptData, match="scans"):
        ImageCodec(format="jpeg", quality=50).decode(bomb, SHAPE)


def test_animations_alpha_and_metadata_are_refused():
    image = Image.fromarray(picture())
    alpha = image.convert("RGBA")
    alpha.putalpha(100)
    files = [
        ("webp", saved(image, format="WEBP", save_all=True, append_images=[image.rotate(90)])),
        ("webp", saved(alpha, format="WEBP")),
        ("webp", saved(image, format="WEBP", lossless=True)),
        ("avif", saved(alpha, format="AVIF")),
        ("avif", saved(image, format="AVIF", save_all=True, append_images=[image.rotate(90)])),
        ("jpeg", saved(image, format="JPEG", exif=Image.Exif(), comment=b"hello")),
        ("jpeg", saved(image.convert("CMYK"), format="JPEG")),
    ]
    for name, data in files:
        with pytest.raises(CorruptData):
            ImageCodec(format=name, quality=50).decode(data, SHAPE)


def test_gray_jpeg_is_not_passed_off_as_colour():
    data = ImageCodec(format="jpeg", quality=50).encode(picture((60, 84, 1)))
    with pytest.raises(CorruptData, match="RGB"):
        ImageCodec(format="jpeg", quality=50).decode(data, SHAPE)


def test_settings_and_arrays_without_sense_are_refused():
    for wrong in (("png", 50, 1.0), ("jpeg", 0, 1.0), ("webp", 96, 1.0), ("avif", 50, 0.0)):
        with pytest.raises(CodecError, match="asked for"):
            ImageCodec(format=wrong[0], quality=wrong[1], scale=wrong[2])
    codec = ImageCodec(format="jpeg", quality=50)
    side = int(MAX_PIXELS**0.5) + 1
    for shape in ((4, 4), (4, 4, 4), (0, 4, 3), (side, side, 3)):
        with pytest.raises(CodecError, match="given"):
            codec.encode(np.zeros(shape, np.uint8))
        with pytest.raises(CorruptData, match="given"):
            codec.decode(b"", shape)
    with pytest.raises(CodecError, match="uint8"):
        codec.encode(np.zeros((4, 4, 3), np.float32))


def test_large_pictures_of_every_format_are_accepted():
    for name in FORMATS:
        codec = ImageCodec(format=name, quality=30, scale=0.25)
        shape = (1448, 1448, 3)
        pixels = np.zeros(shape, np.uint8)
        pixels[:, ::7] = 90
        assert codec.decode(codec.encode(pixels), shape).shape == shape


def test_frozen_pictures_have_their_size():
    for name in freeze.FORMATS:
        data = (freeze.FOLDER / f"picture.{name}").read_bytes()
        assert READERS[name](data) == (40, 24)
