from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from foveal.tasks.folder.listing import list_images, read_split, split_images, write_split


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_a_subfolder_is_a_class(tmp_path: Path) -> None:
    touch(tmp_path, "10/a.png", "9/b.jpg", "9/deep/c.tif", "9/notes.txt", ".thumbs/d.png")
    listing = list_images(tmp_path)
    assert listing.classes == ("9", "10"), "numbers by their size"
    assert [(e.path, e.label, e.split) for e in listing.entries] == [
        ("10/a.png", "10", ""),
        ("9/b.jpg", "9", ""),
        ("9/deep/c.tif", "9", ""),
    ]


def test_split_folders_are_splits(tmp_path: Path) -> None:
    touch(tmp_path, "Train/cat/a.png", "val/cat/b.png", "test/dog/c.png", "Train/dog/d.png")
    found = {(e.path, e.label, e.split) for e in list_images(tmp_path).entries}
    assert found == {
        ("Train/cat/a.png", "cat", "train"),
        ("Train/dog/d.png", "dog", "train"),
        ("test/dog/c.png", "dog", "test"),
        ("val/cat/b.png", "cat", "validation"),
    }


def test_a_class_called_test_is_a_class_where_nothing_is_called_train(tmp_path: Path) -> None:
    touch(tmp_path, "test/a.png", "exam/b.png")
    assert list_images(tmp_path).classes == ("exam", "test")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_manifest_names_path_label_and_split(kind: str, tmp_path: Path) -> None:
    touch(tmp_path, "my images/ü, 1.png", "b.png")
    rows = [
        ("my images/ü, 1.png", "cat", "train"),
        (str(tmp_path / "b.png"), "0", "VAL"),
        ("missing.png", "dog", "test"),
    ]
    manifest = tmp_path / f"manifest.{kind}"
    if kind == "csv":
        with manifest.open("w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file).writerows([("path", "label", "split"), *rows])
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet  # noqa: PLC0415

        columns = dict(zip(("path", "label", "split"), zip(*rows, strict=True), strict=True))
        parquet.write_table(pyarrow.table(columns), manifest)
    listing = list_images(manifest)
    assert [(e.path, e.label, e.split) for e in listing.entries] == [
        ("my images/ü, 1.png", "cat", "train"),
        (str(tmp_path / "b.png"), "0", "validation"),
    ]
    assert [listing.path(e).is_file() for e in listing.entries] == [True, True]
    (problem,) = listing.problems
    assert "names missing.png, which is missing. Correct the path" in problem


def test_labels_of_a_parquet_manifest_may_be_numbers(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet  # noqa: PLC0415

    touch(tmp_path, "a.png", "b.png")
    table = pyarrow.table({"path": ["a.png", "b.png"], "label": [0, 1]})
    parquet.write_table(table, tmp_path / "m.parquet")
    assert list_images(tmp_path / "m.parquet").classes == ("0", "1")


WRONG_MANIFESTS = {
    "file,label\na.png,cat\n": "has no column 'path': .* got file, label",
    "path,label,lable\na.png,cat,x\n": "unknown column 'lable': its columns must be path, label",
    "path,label\na.png,\n": "row 2 must have a path and a label; got 'a.png' and ''",
    "path,label,split\na.png,cat,tset\n": "row 2: split must be train, validation or test; got 'ts",
    "path,label,split\na.png,cat,train\na.png,dog,\n": "some rows have a split and some have none",
    "path,label\nb.png,cat\n": r"holds no images \(.*row 2 names b.png, which is missing",
    "path,label\n": "holds no images",
    "": "has no column 'path'",
    "path,label\na.png,cat,dog\n": "row 2 has more values than the header has columns",
    "path,label\na.png,cat\nlast.png\n": "row 3 must have a path and a label",
    'path,label\n"a.png,cat\n': "is not a CSV file in UTF-8",
}


@pytest.mark.parametrize("text", WRONG_MANIFESTS)
def test_a_wrong_manifest_says_what_was_wanted(text: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "last.png")
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ValueError, match=WRONG_MANIFESTS[text]) as caught:
        list_images(tmp_path / "m.csv")
    assert "m.csv" in str(caught.value)


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.zip", "m.parquet", "latin.csv")
    (tmp_path / "latin.csv").write_bytes("path,label\nö,ä\n".encode("latin-1"))
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "mixed/train/cat/a.png", "mixed/dog/b.png")
    for name, words in {
        "nowhere": "must be a directory or a manifest; there is no",
        "a.zip": r"in a .csv or .parquet file; got .*a.zip",
        "m.parquet": "is not a Parquet file",
        "latin.csv": "is not a CSV file in UTF-8",
        "empty": "empty holds no images. Put the images of each class into a subfolder",
        "mixed": "holds 'dog' beside the split 'train': it must hold splits or classes",
    }.items():
        with pytest.raises((ValueError, OSError), match=words):
            list_images(tmp_path / name)


def test_the_split_is_stratified_and_of_the_seed_alone(tmp_path: Path) -> None:
    touch(tmp_path, *(f"a/{i}.png" for i in range(100)), *(f"b/{i}.png" for i in range(10)))
    touch(tmp_path, *(f"c/{i}.png" for i in range(3)))
    listing = list_images(tmp_path)
    split = split_images(listing, 0.15, seed=3)
    counts = Counter((entry.label, entry.split) for entry in split.entries)
    assert [counts["a", s] for s in ("train", "validation", "test")] == [70, 15, 15]
    assert [counts["b", s] for s in ("train", "validation", "test")] == [6, 2, 2]
    assert [counts["c", s] for s in ("train", "validation", "test")] == [1, 1, 1]
    assert split_images(listing, 0.15, seed=3) == split
    assert split_images(listing, 0.15, seed=4) != split


def test_a_missing_split_comes_out_of_the_training_images(tmp_path: Path) -> None:
    names = [f"train/{c}/{i}.png" for c in "ab" for i in range(10)]
    touch(tmp_path, *names, "test/a/x.png", "test/b/x.png")
    split = split_images(list_images(tmp_path), 0.2, seed=0)
    counts = Counter((entry.label, entry.split) for entry in split.entries)
    assert counts["a", "train"] == counts["b", "train"] == 8
    assert counts["a", "validation"] == counts["b", "validation"] == 2
    assert counts["a", "test"] == counts["b", "test"] == 1


def test_what_cannot_be_split_says_why(tmp_path: Path) -> None:
    touch(tmp_path, "one/a/1.png", "lone/a/1.png", *(f"lone/b/{i}.png" for i in range(5)))
    touch(tmp_path, "strange/train/a/1.png", "strange/train/b/1.png", "strange/test/c/1.png")
    touch(tmp_path, "strange/val/a/1.png")
    for name, words in {
        "one": "one has one class only, 'a'",
        "lone": "lone has 1 image of class 'a'; at least 3 are needed, one for each split",
        "strange": "strange has no training images of class 'c'",
    }.items():
        with pytest.raises(ValueError, match=words):
            split_images(list_images(tmp_path / name), 0.15, seed=0)


def test_a_split_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    touch(tmp_path, *(f'{c}/ä "{i}", x.png' for c in "ab" for i in range(4)))
    split = split_images(list_images(tmp_path), 0.15, seed=0)
    write_split(split, tmp_path / "run" / "split.csv")
    assert read_split(tmp_path / "run" / "split.csv", tmp_path) == split
    whole = (tmp_path / "run" / "split.csv").read_text()
    for damaged in (whole.replace("height", "hight"), whole.replace("train", "trian"), whole[:-3]):
        (tmp_path / "run" / "split.csv").write_text(damaged)
        with pytest.raises(ValueError, match=r"split.csv is damaged .* Restore it"):
            read_split(tmp_path / "run" / "split.csv", tmp_path)
    with pytest.raises(FileNotFoundError, match="which images were in which split is unknown"):
        read_split(tmp_path / "nowhere.csv", tmp_path)
