from __future__ import annotations

import io
import itertools
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveal.tasks.folder.pictures import LARGEST, Header, find_pictures, probe, read_picture

RANDOM = np.random.default_rng(6)
COLOUR = RANDOM.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RANDOM.integers(0, 256, (5, 7), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_colour_comes_back_as_it_was_written(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"bild mit Öl.{suffix}"
    Image.fromarray(COLOUR).save(path, **({"lossless": True} if suffix == "webp" else {}))
    got = read_picture(path, 3)
    assert got.dtype == np.uint8
    assert got.flags.writeable
    assert np.array_equal(got, COLOUR.transpose(2, 0, 1))
    assert probe(path) == Header((5, 7), grey=False, large=False)


def test_jpeg_is_near_what_was_written(tmp_path: Path) -> None:
    smooth = np.broadcast_to(np.arange(0, 240, 5, dtype=np.uint8), (32, 48))
    Image.fromarray(smooth.copy()).save(tmp_path / "a.jpeg", quality=95)
    got = read_picture(tmp_path / "a.jpeg", 1)
    assert np.abs(got[0].astype(int) - smooth).max() <= 4


def test_grey_and_colour_become_one_another(tmp_path: Path) -> None:
    """Grey from colour by the weights of ITU-R 601."""
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    Image.fromarray(COLOUR).save(tmp_path / "colour.png")
    assert np.array_equal(read_picture(tmp_path / "grey.png", 3), np.stack([GREY] * 3))
    wanted = COLOUR @ [0.299, 0.587, 0.114]
    assert np.abs(read_picture(tmp_path / "colour.png", 1)[0] - wanted).max() <= 1
    assert probe(tmp_path / "grey.png") == Header((5, 7), grey=True, large=False)


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    fine = RANDOM.integers(0, 65_536, (5, 7), dtype=np.uint16)
    fine[0, :2] = (0, 65_535)
    for name in ("a.png", "a.tif"):
        Image.fromarray(fine).save(tmp_path / name)
        got = read_picture(tmp_path / name, 1)[0]
        assert np.abs(got - fine / 65_535 * 255).max() <= 0.5 + 1e-6
    assert probe(tmp_path / "a.png")[1]


def test_transparent_pixels_are_black_and_half_transparent_ones_dimmed(tmp_path: Path) -> None:
    layered = np.full((2, 3, 4), 200, dtype=np.uint8)
    layered[0, :, 3] = (0, 128, 255)
    layered[1, :, 3] = 255
    Image.fromarray(layered).save(tmp_path / "a.png")
    got = read_picture(tmp_path / "a.png", 3)
    assert got[:, 0].T.tolist() == [[0] * 3, [100] * 3, [200] * 3]
    Image.fromarray(layered).convert("LA").save(tmp_path / "b.png")
    assert read_picture(tmp_path / "b.png", 1)[0, 0].tolist() == [0, 100, 200]


def test_a_palette_gives_its_colours(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([2, 0, 1])
    image.save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png", 3)[:, 0].T.tolist() == [
        [0, 0, 255],
        [255, 0, 0],
        [0, 255, 0],
    ]
    image.save(tmp_path / "b.png", transparency=0)
    assert read_picture(tmp_path / "b.png", 3)[:, 0].T.tolist()[1] == [0, 0, 0]


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(1, GREY), (3, GREY[::-1, ::-1]), (6, np.rot90(GREY, -1)), (8, np.rot90(GREY))],
)
def test_exif_orientation_is_honoured(orientation: int, turned: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "a.png", 1)[0], turned)
    assert probe(tmp_path / "a.png")[0] == turned.shape


def test_cmyk_is_converted(tmp_path: Path) -> None:
    """No ink is white, full black ink is black."""
    ink = np.zeros((8, 16, 4), dtype=np.uint8)
    ink[:, 8:, 3] = 255
    Image.fromarray(ink, "CMYK").save(tmp_path / "a.tif")
    got = read_picture(tmp_path / "a.tif", 3)
    assert got[:, :, :8].min() == 255
    assert got[:, :, 8:].max() == 0


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (9, 8, 7)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png", 3).ravel().tolist() == [9, 8, 7]


def png(width: int, height: int, bits: int, colour: int, rows: bytes, **chunks: bytes) -> bytes:
    """A PNG of these rows; its colour is 0 grey, 2 RGB, 3 palette, 4 and 6 with opacity."""

    def chunk(name: str, content: bytes) -> bytes:
        body = name.encode() + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    parts = {"IHDR": struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)} | chunks
    parts |= {"IDAT": zlib.compress(rows), "IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(itertools.starmap(chunk, parts.items()))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    return png(width, height, 8, 0, bytes(99))


@pytest.mark.parametrize(
    ("bits", "colour", "key"),
    [
        *itertools.product((1, 2, 4, 8, 16), (0,), (False, True)),
        *itertools.product((8, 16), (2,), (False, True)),
        *itertools.product((1, 2, 4, 8), (3,), (False, True)),
        *itertools.product((8, 16), (4, 6), (False,)),
    ],
)
def test_a_png_of_any_depth_has_its_pixels(
    bits: int, colour: int, key: bool, tmp_path: Path
) -> None:
    """Grey, RGB and palettes, with an opacity or with a key of what is transparent."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    top = 2**bits - 1
    raw = RANDOM.integers(0, top + 1, (6, 8, samples))
    packed = np.unpackbits(raw.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, -bits:]
    rows = np.packbits(packed.reshape(6, -1), axis=1)
    content = np.concatenate([np.zeros((6, 1), dtype=np.uint8), rows], axis=1).tobytes()
    palette = RANDOM.integers(0, 256, (top + 1 if colour == 3 else 1, 3), dtype=np.uint8)
    chunks = {"PLTE": palette.tobytes()} if colour == 3 else {}
    shares = raw / top
    plain, opacity = shares[..., : 3 if samples > 2 else 1], np.ones((6, 8, 1))
    if colour == 3:
        plain = palette[raw[..., 0]] / 255
    if colour >= 4:
        opacity = shares[..., -1:]
    if key and colour == 3:
        table = RANDOM.integers(0, 256, top + 1, dtype=np.uint8)
        chunks["tRNS"], opacity = table.tobytes(), table[raw] / 255
    elif key:
        chunks["tRNS"] = raw[2, 3].astype(">u2").tobytes()
        opacity = (raw != raw[2, 3]).any(-1, keepdims=True)
    (tmp_path / "a.png").write_bytes(png(8, 6, bits, colour, content, **chunks))
    wanted = np.broadcast_to(plain * opacity * 255, (6, 8, 3)).transpose(2, 0, 1)
    off = 2 if colour >= 4 and bits == 16 else 1  # Pillow cuts both factors down to 8 bits
    assert np.abs(read_picture(tmp_path / "a.png", 3) - wanted).max() <= off


def test_grey_of_16_bits_with_an_opacity_is_grey(tmp_path: Path) -> None:
    """Pillow opens it as RGBA."""
    rows = np.concatenate([np.zeros((6, 1)), RANDOM.integers(0, 256, (6, 32))], axis=1)
    (tmp_path / "a.png").write_bytes(png(8, 6, 16, 4, rows.astype(np.uint8).tobytes()))
    assert probe(tmp_path / "a.png") == Header((6, 8), grey=True, large=False)


def bad_files(directory: Path) -> dict[str, str]:
    """Files that are no good, by name, and what is to be said of each."""
    whole = io.BytesIO()
    Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(whole, "JPEG")
    (directory / "truncated.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (directory / "empty.png").write_bytes(b"")
    (directory / "text.png").write_text("three years of work")
    (directory / "bomb.png").write_bytes(png_header(60_000, 60_000))
    (directory / "large.png").write_bytes(png_header(LARGEST // 1000, 1001))
    (directory / "short.png").write_bytes(png_header(50, 50))
    (directory / "loop.png").symlink_to("loop.png")
    # A TIFF whose directory lies beyond the end of the file, and one with an absurd entry.
    (directory / "directory.tif").write_bytes(b"II*\x00" + struct.pack("<I", 4096) + bytes(40))
    entry = struct.pack("<HHII", 256, 3, 1, 9)
    (directory / "entry.tif").write_bytes(b"II*\x00" + struct.pack("<IH", 8, 1) + entry)
    garbage = RANDOM.integers(0, 256, 300, dtype=np.uint8).tobytes()
    (directory / "garbage.tif").write_bytes(b"MM\x00*" + struct.pack(">I", 8) + garbage)
    (directory / "garbage.png").write_bytes(b"\x89PNG\r\n\x1a\n" + garbage)
    Image.fromarray(np.full((4, 4), 70_000, dtype=np.int32)).save(directory / "wide.tif")
    Image.fromarray(np.full((4, 4), 3, dtype=np.float32)).save(directory / "float.tif")
    return {
        "truncated.jpg": "is damaged or cut off .*truncated",
        "empty.png": r"is empty \(0 bytes\)",
        "text.png": "is not a PNG, JPEG, WebP, TIFF or BMP image, whatever its name says",
        "bomb.png": "would unfold to more than 178,956,970 pixels",
        "large.png": "would unfold to more than 178,956,970 pixels",
        "short.png": "is damaged or cut off",
        "loop.png": "cannot be read .Too many levels",
        "directory.tif": "is damaged or cut off in its directory",
        "entry.tif": "is damaged or cut off",
        "garbage.tif": "is damaged or cut off",
        "garbage.png": "is damaged or cut off",
        "wide.tif": "must hold whole numbers from 0 up, or floats in .0, 1.; got 32-bit",
        "float.tif": "holds floats from 3 to 3; floats must be in .0, 1.",
        "nowhere.png": "is missing. Correct the path",
    }


def test_bad_files_give_one_line_that_names_them(tmp_path: Path) -> None:
    for name, words in bad_files(tmp_path).items():
        with pytest.raises((OSError, ValueError), match=words) as caught:
            read_picture(tmp_path / name, 3)
        text = str(caught.value)
        assert text.startswith(str(tmp_path / name))
        assert "\n" not in text


def test_other_numbers_of_channels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 or 3 channels; the model takes 4"):
        read_picture(tmp_path / "a.png", 4)


def test_pictures_are_found_by_suffix_and_loops_of_links_end(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/2.PNG", "b/1.jpeg", "b/notes.txt", "0.tif"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b" / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "c").symlink_to(tmp_path / "c")
    found = [os.path.relpath(path, tmp_path) for path in find_pictures(tmp_path)]
    assert found == ["0.tif", "b/1.jpeg", "b/2.PNG"]


def test_a_bomb_is_refused_where_a_program_has_lifted_pillows_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "bomb.png").write_bytes(png_header(60_000, 60_000))
    with pytest.raises(ValueError, match="would unfold to more than"):
        read_picture(tmp_path / "bomb.png", 3)
