"""Pictures from strangers, decoded by Pillow within limits, always to the same pixels; torch-free."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow knows many more decoders; strangers reach only these
MAX_PIXELS = 80_000_000


# Pillow's decoders raise many kinds for damaged files; these are all that its fuzzers and its documentation name.
_DAMAGED = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, IndexError, OverflowError),
    *(struct.error, zlib.error),
)


class NotAPicture(ValueError):
    """The bytes are no picture that can be read; str() says why."""


@dataclass(frozen=True)
class Look:
    """What matters of a picture before training."""

    channels: int  # 1 grey, 3 colour
    height: int
    width: int


def is_picture(name: str) -> bool:
    """Does the file's name say that it is a picture?"""
    return name.lower().endswith(SUFFIXES)


def look(content: bytes) -> Look:
    """Decode the whole picture and say its shape.

    Raises:
        NotAPicture: damaged, empty, or not one of FORMATS.
    """
    image = _decoded(content)
    return Look(1 if image.mode in ("1", "L", "LA", "I", "I;16", "F") else 3, image.height, image.width)


def pixels(content: bytes, *, channels: int, size: int) -> bytes:
    """The picture as channels x size x size bytes, planes in order, rows from the top.

    Raises:
        NotAPicture: as look.
    """
    from PIL import Image

    image = _flat(_decoded(content)).convert("L" if channels == 1 else "RGB")
    small = image.resize((size, size), Image.Resampling.BILINEAR)
    return b"".join(plane.tobytes() for plane in small.split())


def thumbnail(content: bytes, *, side: int) -> bytes:
    """The picture as a PNG of at most side x side pixels; a smaller one keeps its size.

    Raises:
        NotAPicture: as look.
    """
    image = _flat(_decoded(content))
    small = image.convert("L" if image.mode in ("1", "L") else "RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _decoded(content: bytes) -> "Image.Image":
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise NotAPicture(f"it has {image.width} x {image.height} pixels, too many")
        image.load()
        return ImageOps.exif_transpose(image)
    except NotAPicture:
        raise
    except UnidentifiedImageError as err:
        raise NotAPicture(_instead(content)) from err
    except _DAMAGED as err:
        raise NotAPicture("it breaks off before its end" if "truncated" in str(err) else "it is damaged") from err
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as err:
        raise NotAPicture("it has too many pixels") from err


def _instead(content: bytes) -> str:
    """What a file is that no decoder knows."""
    if not content:
        return "it is empty"
    try:
        start = content[:1_000].decode("utf-8", errors="strict" if len(content) <= 1_000 else "ignore")
    except UnicodeDecodeError:
        start = "\0"
    return "it is damaged or no picture" if "\0" in start else "it is a text, not a picture"


def _flat(image: "Image.Image") -> "Image.Image":
    """Without transparency (on white) and with 8 bits a channel."""
    from PIL import Image

    if image.mode.startswith("I"):
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image
    clear = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
