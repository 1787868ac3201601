import io

import pytest
from PIL import Image

from gristmill_trainer import pictures
from gristmill_trainer.pictures import Look, NotAPicture, look, pixels


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("I;16", 1), ("P", 3), ("RGB", 3), ("RGBA", 3)])
def test_shape_is_seen(mode: str, channels: int) -> None:
    assert look(encoded(Image.new(mode, (7, 5)))) == Look(channels, height=5, width=7)


@pytest.mark.parametrize("kind", pictures.FORMATS)
def test_every_format_is_read(kind: str) -> None:
    content = encoded(Image.new("RGB", (9, 9), "white"), kind)

    assert set(pixels(content, channels=1, size=4)) == {255}


def test_planes_come_in_order() -> None:
    content = encoded(Image.new("RGB", (4, 4), (10, 20, 30)))

    assert pixels(content, channels=3, size=2) == bytes([10] * 4 + [20] * 4 + [30] * 4)


def test_transparent_parts_are_white() -> None:
    content = encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))

    assert set(pixels(content, channels=3, size=4)) == {255}


def test_sixteen_bits_are_scaled_to_eight() -> None:
    content = encoded(Image.new("I;16", (4, 4), 128 * 256))

    assert set(pixels(content, channels=1, size=4)) == {128}


def test_a_turned_photo_is_set_upright() -> None:
    turned = Image.new("RGB", (6, 2))
    exif = turned.getexif()
    exif[0x0112] = 6  # a quarter turn

    assert look(encoded(turned, "JPEG", exif=exif)) == Look(3, height=6, width=2)


WHOLE = encoded(Image.effect_noise((40, 40), 50))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"hello", "it is a text, not a picture"),
        (WHOLE[:-200], "it breaks off before its end"),
        (WHOLE[:20], "it is damaged"),
        (WHOLE[:60] + b"junk" + WHOLE[64:], "it is damaged"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(content: bytes, why: str) -> None:
    with pytest.raises(NotAPicture, match=why):
        look(content)


def test_formats_that_strangers_have_no_use_for_are_refused() -> None:
    with pytest.raises(NotAPicture):
        look(encoded(Image.new("RGB", (4, 4)), "PPM"))


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 99)

    with pytest.raises(NotAPicture, match="10 x 10 pixels"):
        look(encoded(Image.new("L", (10, 10))))
