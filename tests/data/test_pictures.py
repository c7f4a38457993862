"""Decoding, cropping and resizing, against Pillow's own decoding and against the arithmetic written out."""

import numpy as np
import pytest
from PIL import Image

from score_sde.data.pictures import Format, center_crop_resize, decode
from score_sde.errors import UsageError
from tests.data.making import encoded, picture, random_images


def bicubic(x: np.ndarray) -> np.ndarray:
    """Keys's kernel with a = -1/2."""
    x = np.abs(x)
    return np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))


def resizing_matrix(old: int, new: int) -> np.ndarray:
    """Weights [new, old] of the kernel, widened where it shrinks, about half-pixel centres; they sum to one."""
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale
    weights = bicubic((np.arange(old) + 0.5 - centres[:, None]) / max(scale, 1))
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_pictures_come_back(channels):
    (image,) = random_images(1, 8, channels)
    for kind in ("png", "bmp", "ppm", "gif" if channels == 1 else "webp"):
        options = {"lossless": True} if kind == "webp" else {}
        np.testing.assert_array_equal(decode(encoded(picture(image), kind, **options), Format(8, channels), "x"), image)


@pytest.mark.parametrize("size", [(16, 16), (23, 17), (17, 40)])
@pytest.mark.parametrize("new", [5, 8, 32])
def test_crop_and_resize_are_the_arithmetic_written_out(size, new):
    """Gradients, one of each direction and a product: rows, then columns, each to half a level, which is rounding."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    image = np.round(np.stack([x, y, x * y / 255], -1)).astype(np.uint8)
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    square = image[top : top + side, left : left + side]
    matrix = resizing_matrix(side, new)
    rows = np.asarray(Image.fromarray(square).resize((new, side), Image.Resampling.BICUBIC)).astype(float)
    assert abs(rows - np.clip(np.einsum("jkc,lk->jlc", square, matrix), 0, 255)).max() < 0.501
    found = np.asarray(center_crop_resize(Image.fromarray(image), new, new)).astype(float)
    assert abs(found - np.clip(np.einsum("ij,jlc->ilc", matrix, rows), 0, 255)).max() < 0.501


def test_shrinking_does_not_alias():
    """A checkerboard becomes grey; subsampling would give one of its colours."""
    board = np.indices((64, 64)).sum(0) % 2 * 255
    small = np.asarray(center_crop_resize(Image.fromarray(board.astype(np.uint8)), 8, 8))
    assert abs(small.astype(int) - 127.5).max() <= 1


def test_the_crop_is_published_for_celeba():
    """140 of 178 x 218: the rows and columns that (size - 140) // 2 leaves out."""
    image = np.random.default_rng(0).integers(0, 256, (218, 178, 3), np.uint8)
    found = decode(encoded(Image.fromarray(image)), Format(140, 3, crop=140), "x")
    np.testing.assert_array_equal(found, image[39:179, 19:159])
    np.testing.assert_array_equal(
        decode(encoded(Image.fromarray(image[:64, :64])), Format(64, 3, crop=140), "x"), image[:64, :64]
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_pictures_are_the_right_way_up(kind, orientation):
    turned = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
        8: lambda x: np.rot90(x),
    }[orientation]
    image = np.zeros((16, 16, 3), np.uint8)
    image[:8, :8], image[:8, 8:], image[8:, :8] = 80, 160, 240
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(Image.fromarray(image), kind, exif=exif), Format(16, 3), "x")
    np.testing.assert_allclose(found.astype(int), turned(image), atol=0 if kind == "png" else 6)


def test_modes():
    """Transparency over white, palettes, 16 bits, black and white; grey by Rec. 601."""
    (image,) = random_images(1)
    alpha = np.full((8, 8, 1), 51, np.uint8)
    rgba = Image.fromarray(np.concatenate([image, alpha], -1))
    over_white = np.round(image * 0.2 + 255 * 0.8)
    assert abs(decode(encoded(rgba), Format(8, 3), "x") - over_white).max() <= 1
    grey = image[..., 0]
    la = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha[..., 0])])
    assert abs(decode(encoded(la), Format(8, 1), "x")[..., 0] - np.round(grey * 0.2 + 255 * 0.8)).max() <= 1
    palette = Image.fromarray(image).quantize(256)
    np.testing.assert_array_equal(decode(encoded(palette), Format(8, 3), "x"), np.asarray(palette.convert("RGB")))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(decode(encoded(deep), Format(8, 1), "x")[..., 0], grey)
    np.testing.assert_array_equal(decode(encoded(deep), Format(8, 3), "x"), np.stack([grey] * 3, -1))
    luma = image @ np.array([0.299, 0.587, 0.114])
    assert abs(decode(encoded(Image.fromarray(image)), Format(8, 1), "x")[..., 0] - luma).max() <= 1
    bits = Image.fromarray(grey > 127)
    np.testing.assert_array_equal(decode(encoded(bits), Format(8, 1), "x")[..., 0], 255 * (grey > 127))


def test_animations_give_their_first_frame():
    first, second = (Image.fromarray(image[..., 0]) for image in random_images(2, channels=1))
    file = encoded(first, "gif", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(file, Format(8, 1), "x")[..., 0], np.asarray(first))


def test_broken_pictures_are_named():
    whole = encoded(picture(random_images(1, 64)[0]))
    damaged = whole[:200] + bytes(8) + whole[208:]
    for content in (b"", b"hello", whole[:-400], damaged, whole[:20]):
        with pytest.raises(UsageError, match=r"a/b\.png cannot be decoded \(.+\): mend it or put another in its place"):
            decode(content, Format(64, 3), "a/b.png")
    with pytest.raises(UsageError, match=r"x cannot be decoded \(it has values that are NaN or infinite"):
        decode(encoded(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "tiff"), Format(8, 1), "x")


def test_only_the_formats_that_are_promised_are_tried():
    for kind in ("tga", "ico"):
        with pytest.raises(UsageError, match=r"x cannot be decoded \(it is no PNG, JPEG, .* WEBP\): mend it"):
            decode(encoded(picture(random_images(1, 16)[0]), kind), Format(16, 3), "x")


def test_integers_of_32_bits_are_those_of_16_and_floats_are_up_to_1():
    deep = np.random.default_rng(0).integers(0, 65536, (8, 8), np.int32)
    found = decode(encoded(Image.fromarray(deep), "tiff"), Format(8, 1), "x")[..., 0]
    np.testing.assert_array_equal(found, np.round(deep / 257))
    real = np.linspace(-0.1, 1.1, 64, dtype=np.float32).reshape(8, 8)
    found = decode(encoded(Image.fromarray(real), "tiff"), Format(8, 1), "x")[..., 0]
    np.testing.assert_array_equal(found, np.round(255 * np.clip(real.astype(float), 0, 1)))


def test_one_value_of_deep_grey_may_be_transparent():
    """Pillow's own way to what lies over white would clip all others at 255."""
    deep = Image.fromarray(np.arange(0, 64000, 1000, dtype=np.uint16).reshape(8, 8))
    found = decode(encoded(deep, transparency=5000), Format(8, 1), "x").reshape(-1)
    expected = np.round(np.arange(0, 64000, 1000) / 257)
    expected[5] = 255
    np.testing.assert_array_equal(found, expected)


def test_huge_pictures_are_read_when_asked_for(recwarn):
    """Above half of Pillow's limit, where it warns, and above the limit, here a small one, where it refuses."""
    file = encoded(Image.new("1", (9_500, 9_500), 1))
    with pytest.raises(UsageError, match=r"^x has 90,250,000 pixels, more than data\.max_pixels=90000000: set data\."):
        decode(file, Format(2, 1, max_pixels=90_000_000), "x")
    assert (decode(file, Format(2, 1), "x") == 255).all()
    wide = encoded(Image.new("1", (180_000, 1_000)))
    with pytest.raises(UsageError, match=r"set data\.max_pixels=180000000 if it is to be read, .* 1080 MB"):
        decode(wide, Format(2, 1), "x")
    assert decode(wide, Format(2, 1, max_pixels=180_000_000), "x").shape == (2, 2, 1)
    assert not recwarn


def test_channels_that_pictures_do_not_have():
    with pytest.raises(UsageError, match=r"data\.num_channels=2: pictures are read as 1"):
        Format(8, 2).check()
