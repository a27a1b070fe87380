"""Sets of small real images as files to train on: two from packages that foveal needs anyway.

    python tools/image_sets.py OUT
    python tools/image_sets.py OUT --garments /usr/share/datasets/fashion-mnist
    foveal train folder --data OUT/digits
    foveal train folder --data OUT/photographs/manifest.csv
    foveal train folder --data OUT/garments

``digits``: scikit-learn's 1,797 handwritten digits as they are, grey, 8 x 8 pixels, one subfolder a
class. ``photographs``: which of three colour photographs (scikit-learn's china and flower,
matplotlib's Grace Hopper) a piece of 24 to 48 pixels a side is from. Each photograph is cut into
blocks of 64 x 64 pixels first, each block goes to one split, and 12 pieces come from within each
block: no pixel is in two splits. ``garments``: of Fashion-MNIST (Xiao et al. 2017), grey, 28 x 28,
the first 12,000 of the 50,000 images that ``--digits`` trains on, and the 10,000 test images; the
Debian package dataset-fashion-mnist installs its four files.

It also gives the error of logistic regression on the pixels (the pieces scaled to 32 x 32 for it),
on the split that a run made: ``python tools/image_sets.py OUT --compare RUN``.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

from foveal.tasks.canvases.digits import load_digits

GARMENTS = 12_000  # for training
BLOCK, PIECES, SIDES = 64, 12, (24, 48)
SIDE = 32  # of what logistic regression sees
SPLITS = ("train", "validation", "test")
SHARES = (0.6, 0.15, 0.25)


def write_digits(out: Path) -> None:
    from sklearn import datasets  # noqa: PLC0415

    data = datasets.load_digits()
    for number, (image, label) in enumerate(zip(data.images, data.target, strict=True)):
        path = out / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * (255 / 16)).astype(np.uint8)).save(path)


def write_garments(out: Path, source: Path) -> None:
    garments = load_digits(str(source))
    for split, part in {"train": garments.train, "test": garments.test}.items():
        for number, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
            if split == "train" and number == GARMENTS:
                break
            path = out / split / str(label) / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


def write_photographs(out: Path) -> None:
    from matplotlib.cbook import get_sample_data  # noqa: PLC0415
    from sklearn.datasets import load_sample_images  # noqa: PLC0415

    china, flower = load_sample_images().images
    with get_sample_data("grace_hopper.jpg") as file:
        hopper = np.asarray(Image.open(file).convert("RGB"))
    random = np.random.default_rng(0)
    rows = []
    for label, photograph in {"china": china, "flower": flower, "hopper": hopper}.items():
        (out / label).mkdir(parents=True, exist_ok=True)
        height, width = (side // BLOCK * BLOCK for side in photograph.shape[:2])
        corners = [(y, x) for y in range(0, height, BLOCK) for x in range(0, width, BLOCK)]
        splits = random.choice(SPLITS, len(corners), p=SHARES)
        for (y, x), split in zip(corners, splits, strict=True):
            for piece in range(PIECES):
                high, wide = random.integers(SIDES[0], SIDES[1] + 1, 2)
                top, left = (
                    y + random.integers(BLOCK - high + 1),
                    x + random.integers(BLOCK - wide + 1),
                )
                name = f"{label}/{y:03}-{x:03}-{piece:02}.png"
                Image.fromarray(photograph[top : top + high, left : left + wide]).save(out / name)
                rows.append((name, label, split))
    with (out / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])


def logistic_regression(data: Path, split_file: Path) -> float:
    """Test error in %, the strength of the penalty chosen on the validation split."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    with split_file.open() as file:
        rows = list(csv.DictReader(file))
    small = data.name != "photographs"
    pixels = np.stack([_pixels(data / row["path"], small) for row in rows])
    labels = np.array([row["label"] for row in rows])
    splits = np.array([row["split"] for row in rows])
    train, validation, test = (splits == name for name in SPLITS)
    pixels = (pixels - pixels[train].mean(0)) / (pixels[train].std(0) + 0.01)
    fits = {}
    for strength in (1e-4, 1e-3, 1e-2, 1e-1, 1.0):
        fit = LogisticRegression(C=strength, max_iter=1000).fit(pixels[train], labels[train])
        fits[strength] = fit
    best = max(fits, key=lambda c: fits[c].score(pixels[validation], labels[validation]))
    return 100 * (1 - fits[best].score(pixels[test], labels[test]))


def _pixels(path: Path, small: bool) -> np.ndarray:
    image = Image.open(path)
    if not small:
        image = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32).ravel() / 255


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--garments", type=Path, metavar="DIR", help="write garments only")
    parser.add_argument("--compare", type=Path, metavar="RUN")
    arguments = parser.parse_args()
    if arguments.garments is not None:
        write_garments(arguments.out / "garments", arguments.garments)
        return
    if arguments.compare is None:
        write_digits(arguments.out / "digits")
        write_photographs(arguments.out / "photographs")
        return
    import json  # noqa: PLC0415

    config = json.loads((arguments.compare / "config.json").read_text())
    data = Path(config["task"]["data"])
    data = data if data.is_dir() else data.parent
    error = logistic_regression(data, arguments.compare / "split.csv")
    print(f"logistic regression on the pixels: test error {error:.2f} %")


if __name__ == "__main__":
    main()
