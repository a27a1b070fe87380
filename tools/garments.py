"""Photographs with one garment pasted somewhere: which of four is it?

    python tools/garments.py OUT --photographs DIR --garments DIR --sides 600 1200 --share 0.12 \
        --train 1200
    foveal train folder --data OUT

DIR of the photographs has JPEG files, at any depth; those of docs/images.md are of the Debian
packages lomiri-wallpapers-16.04, lomiri-wallpapers-20.04, mate-backgrounds, ukui-wallpapers and
plasma-workspace-wallpapers, each unpacked by ``dpkg -x`` into a directory of its name. DIR of the
garments has the four files of Fashion-MNIST (Xiao et al. 2017), as the Debian package
dataset-fashion-mnist installs them in /usr/share/datasets/fashion-mnist.

No photograph and no garment is in two splits. An image is a random part of a random photograph,
its longer side evenly from the least to the most of ``--sides``; on it lies a trouser, a sneaker, a
bag or a T-shirt of about ``--share`` of its shorter side, grey, without its black ground. The set
is the same each time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from foveal.tasks.canvases.digits import LabelledImages, load_digits

GARMENTS = {"trouser": 1, "sneaker": 7, "bag": 8, "tshirt": 0}  # labels of Fashion-MNIST
SHARES = (0.65, 0.77)  # of the photographs, up to which are training's, and validation's
TEST = 600
LEAST_BYTES, LEAST_SIDE, MOST_SIDE = 80_000, 700, 2800
GROUND = 12  # light up to which a pixel of a garment is its ground
QUALITY = 90  # of the JPEG files


def photographs_in(directory: Path) -> list[Path]:
    """Its photographs, in a fixed random order; of those that look alike the first."""
    kept: dict[bytes, Path] = {}
    for path in sorted(directory.rglob("*.jp*g")):
        usable = path.is_file() and not path.is_symlink() and path.stat().st_size >= LEAST_BYTES
        if not usable or "screenshot" in path.name:
            continue
        with Image.open(path) as image:
            if min(image.size) >= LEAST_SIDE:
                coarse = np.asarray(image.convert("L").resize((8, 8))) // 16
                kept.setdefault(coarse.tobytes(), path)
    paths = list(kept.values())
    return [paths[place] for place in np.random.default_rng(5).permutation(len(paths))]


def garments_in(directory: Path) -> dict[str, LabelledImages]:
    """Fashion-MNIST, its test file in two halves."""
    found = load_digits(str(directory))
    both, test, half = (found.train, found.validation), found.test, len(found.test.labels) // 2
    return {
        "train": LabelledImages(
            np.concatenate([part.images for part in both]),
            np.concatenate([part.labels for part in both]),
        ),
        "validation": LabelledImages(test.images[:half], test.labels[:half]),
        "test": LabelledImages(test.images[half:], test.labels[half:]),
    }


def images(
    photographs: Sequence[Image.Image],
    garments: LabelledImages,
    count: int,
    sides: tuple[int, int],
    share: float,
    random: np.random.Generator,
) -> Iterator[tuple[str, Image.Image]]:
    """The name of the class and the image, ``count`` times."""
    for number in range(count):
        photograph = photographs[random.integers(len(photographs))]
        long = int(random.integers(sides[0], sides[1] + 1))
        short = int(long * random.uniform(0.65, 1))
        width, height = (long, short) if random.random() < 0.7 else (short, long)
        scale = min(photograph.width / width, photograph.height / height) * random.uniform(0.6, 1)
        wide, high = int(width * scale), int(height * scale)
        left = random.integers(photograph.width - wide + 1)
        top = random.integers(photograph.height - high + 1)
        part = photograph.crop((left, top, left + wide, top + high))
        ground = part.resize((width, height), Image.Resampling.BICUBIC)
        name = list(GARMENTS)[number % len(GARMENTS)]
        alike = np.flatnonzero(garments.labels == GARMENTS[name])
        pixels = garments.images[alike[random.integers(len(alike))]]
        side = max(12, int(share * min(width, height) * random.uniform(0.85, 1.15)))
        outline = Image.fromarray(((pixels > GROUND) * 255).astype(np.uint8))
        garment = Image.fromarray(pixels).convert("RGB")
        place = (int(random.integers(width - side + 1)), int(random.integers(height - side + 1)))
        ground.paste(
            garment.resize((side, side), Image.Resampling.BICUBIC),
            place,
            outline.resize((side, side), Image.Resampling.BILINEAR),
        )
        yield name, ground


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--garments", type=Path, required=True)
    parser.add_argument("--sides", type=int, nargs=2, default=(600, 1200), help="least and most")
    parser.add_argument("--share", type=float, default=0.12, help="of the shorter side")
    parser.add_argument("--train", type=int, default=1200, help="images; a fifth for validation")
    given = parser.parse_args()
    paths = photographs_in(given.photographs)
    if len(paths) < 9:  # or a split has none
        parser.error(f"{given.photographs} must have 9 photographs at least; got {len(paths)}")
    try:
        garments = garments_in(given.garments)
    except (OSError, ValueError) as problem:
        parser.error(str(problem))
    ends = [0, *(int(share * len(paths)) for share in SHARES), len(paths)]
    counts = {"train": given.train, "validation": given.train // 5, "test": TEST}
    random = np.random.default_rng(7)
    for (split, count), begin, end in zip(counts.items(), ends, ends[1:], strict=False):
        photographs = []
        for path in paths[begin:end]:
            photographs.append(Image.open(path).convert("RGB"))
            photographs[-1].thumbnail((MOST_SIDE, MOST_SIDE))
        drawn = images(photographs, garments[split], count, tuple(given.sides), given.share, random)
        for number, (name, image) in enumerate(drawn):
            path = given.out / split / name / f"{number:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, quality=QUALITY)
    print(f"{sum(counts.values()):,} images of {len(paths)} photographs in {given.out}")


if __name__ == "__main__":
    main()
