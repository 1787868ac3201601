"""The handwritten digits that scikit-learn ships (UCI, 1,797 pictures of 8 x 8), as files a renter would have."""

from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits


def write_digits(folder: Path) -> Path:
    """One folder per digit with PNG pictures in it; returns the folder."""
    digits = load_digits()
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        target = folder / str(digit) / f"{number:04d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        # The pixels are 0..16.
        Image.fromarray((pixels * 15.9375).round().astype("uint8")).save(target)
    return folder


def draw(picture: Path) -> str:
    """The picture as text, two characters a pixel."""
    image = Image.open(picture).convert("L")
    pixels = image.tobytes()
    shades = " ░▒▓█"
    rows = (pixels[at : at + image.width] for at in range(0, len(pixels), image.width))
    return "\n".join("".join(2 * shades[min(value // 52, 4)] for value in row) for row in rows)
