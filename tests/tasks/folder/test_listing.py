from __future__ import annotations

import csv
import os
from collections import Counter
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from foveal.tasks.folder.listing import list_images
from foveal.tasks.folder.splits import read_split, split_images, write_split


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def found(data: Path) -> set[tuple[str, str, str]]:
    return {(entry.path, entry.label, entry.split) for entry in list_images(data).entries}


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
    assert found(tmp_path) == {
        ("Train/cat/a.png", "cat", "train"),
        ("Train/dog/d.png", "dog", "train"),
        ("test/dog/c.png", "dog", "test"),
        ("val/cat/b.png", "cat", "validation"),
    }


def test_a_class_called_test_is_a_class_where_nothing_is_called_train(tmp_path: Path) -> None:
    touch(tmp_path, "test/a.png", "exam/b.png")
    assert list_images(tmp_path).classes == ("exam", "test")


@pytest.mark.parametrize(
    "names",
    [
        ("training_set", "dev_set", "test_set"),
        ("trn", "dev", "tst"),
        ("TrainingSet", "ValidationSet", "TestSet"),
        ("train-images", "valid images", "test-images"),
        ("TRAIN", "DEV", "EVAL"),
        ("trainset", "valset", "testset"),
        ("train data", "development", "Evaluation Data"),
    ],
)
def test_split_folders_by_common_names(names: tuple[str, ...], tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}/{label}/1.png" for name in names for label in ("cat", "dog")))
    splits = ("train", "validation", "test")
    assert found(tmp_path) == {
        (f"{name}/{label}/1.png", label, split)
        for name, split in zip(names, splits, strict=True)
        for label in ("cat", "dog")
    }
    manifest = tmp_path / "m.csv"
    rows = [f"{name}/cat/1.png,cat,{name}" for name in names]
    manifest.write_text("\n".join(["path,label,split", *rows]))
    assert [entry.split for entry in list_images(manifest).entries] == list(splits)


@pytest.mark.parametrize(
    "names",
    [
        ("train/1.png", "test/1.png"),  # no classes inside
        ("train/a/1.png", "train/b/1.png", "training_set/a/2.png"),
        ("seg_train/a/1.png", "seg_test/a/1.png", "seg_pred/1.png"),
        ("my train/a/1.png", "my test/a/1.png"),
        ("trainA/1.png", "testA/1.png"),
        ("test/a/1.png", "learning/a/1.png"),
        ("test/1.png", "validation/1.png"),
        ("train_val/a/1.png", "test/a/1.png"),
    ],
)
def test_splits_that_are_not_understood_are_never_two_classes(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    touch(tmp_path, *names)
    with pytest.raises(ValueError, match=r"must hold (splits or .*Name splits|one subfolder)"):
        list_images(tmp_path)


def test_classes_whose_names_speak_of_trains_and_tests_are_classes(tmp_path: Path) -> None:
    touch(tmp_path, "steam train/1.png", "train station/1.png", "test tube/1.png", "valley/1.png")
    assert list_images(tmp_path).classes == ("steam train", "test tube", "train station", "valley")


def test_what_is_hidden_or_no_image_is_passed_over_and_counted(tmp_path: Path) -> None:
    """Also where the data lies in a hidden directory itself."""
    root = tmp_path / ".data"
    touch(root, "cat/1.JPG", "cat/2.jfif", "dog/3.jpe", "dog/deep/4.Tif")
    touch(root, "cat/.ipynb_checkpoints/1-checkpoint.png", "__MACOSX/cat/._1.jpg", "dog/._3.jpe")
    touch(root, "dog/deep/@eaDir/4.png", ".git/a/b.png", "dog/Thumbs.db", "cat/.DS_Store")
    touch(root, "notes.txt", "cat/5.gif", "dog/6.gif", "dog/README", "cover.png", "cat/a.[/red]")
    listing = list_images(root)
    assert [entry.path for entry in listing.entries] == [
        "cat/1.JPG",
        "cat/2.jfif",
        "dog/3.jpe",
        "dog/deep/4.Tif",
    ]
    assert listing.passed_over == (
        "13 files passed over (7 hidden, 2 .gif, 2 others, 1 .png, 1 .txt)"
    )
    touch(tmp_path, *(f"splits/train/{c}/1.png" for c in ("a", "b", ".c", "__MACOSX")))
    assert list_images(tmp_path / "splits").classes == ("a", "b")


def test_names_are_compared_in_one_unicode_form(tmp_path: Path) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    touch(tmp_path, f"train/{apart}/1.png", f"train/{composed}/2.png", "train/tea/1.png")
    touch(tmp_path, f"test/{composed}/3.png")
    listing = list_images(tmp_path)
    assert listing.classes == (composed, "tea")
    assert len(listing.entries) == 4
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        f"path,label\ntrain/{composed}/1.png,{apart}\ntest/{apart}/3.png,{composed}\n"
    )
    listing = list_images(manifest)
    assert (listing.classes, listing.problems) == ((composed,), [])
    touch(tmp_path, *(f"bytes/{os.fsdecode(name)}/1.png" for name in (b"caf\xe8", b"caf\xe9")))
    assert list_images(tmp_path / "bytes").classes == ("caf\\xe8", "caf\\xe9"), "can be printed"


def test_a_file_that_is_named_twice_is_one_image(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/2.png", "b/3.png")
    (tmp_path / "a" / "link.png").symlink_to(tmp_path / "a" / "1.png")
    os.link(tmp_path / "b" / "3.png", tmp_path / "b" / "hard.png")
    (tmp_path / "a" / "same").symlink_to(tmp_path / "a")
    listing = list_images(tmp_path)
    assert [entry.path for entry in listing.entries] == ["a/1.png", "a/2.png", "b/3.png"]
    assert listing.passed_over == "2 files passed over (2 named again)"
    names = ("a/1.png", "./a/1.png", "a/../a/1.png", str(tmp_path / "a/1.png"), "a/link.png")
    (tmp_path / "m.csv").write_text("path,label\n" + "".join(f"{n},x\n" for n in names) * 2)
    assert found(tmp_path / "m.csv") == {("a/1.png", "x", "")}


def test_one_file_in_two_splits_or_classes_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    for header, rows, words in (
        ("path,label", ("a/1.png,a", "b/2.png,b", "./a/1.png,b"), "classes, 'a' and 'b'"),
        (
            "path,label,split",
            ("a/1.png,a,train", "b/2.png,b,train", "a/1.png,a,test"),
            "splits, 'train' and 'test'",
        ),
    ):
        (tmp_path / "m.csv").write_text("\n".join([header, *rows]))
        with pytest.raises(ValueError, match=f"row 2 .*row 4 .* are one file in two {words}"):
            list_images(tmp_path / "m.csv")
    (tmp_path / "b" / "1.png").symlink_to(tmp_path / "a" / "1.png")
    with pytest.raises(ValueError, match=r"a/1.png and .*b/1.png are one file in two classes"):
        list_images(tmp_path)
    touch(tmp_path, *(f"links/train/{c}/{n}.png" for c in "ab" for n in range(3)))
    (tmp_path / "links" / "test").symlink_to(tmp_path / "links" / "train")
    with pytest.raises(ValueError, match="are one file in two splits, 'test' and 'train'"):
        list_images(tmp_path / "links")


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


PARQUET_LABELS = {
    "int": (lambda pa: pa.array([0, 1]), ("0", "1")),
    "float": (lambda pa: pa.array([0.0, -1.0]), ("0", "-1")),
    "half": (lambda pa: pa.array([1.5, 2e10]), ("20000000000", "1.5")),
    "float32": (lambda pa: pa.array([0.1, 3.0], pa.float32()), ("3", "0.1")),
    "bool": (lambda pa: pa.array([True, False]), ("False", "True")),
    "decimal": (lambda pa: pa.array([Decimal("1.00"), Decimal("0.50")]), ("1", "0.5")),
    "bytes": (lambda pa: pa.array([b"cat", "ü".encode()]), ("cat", "ü")),
    "category": (lambda pa: pa.array(["b", "a"]).dictionary_encode(), ("a", "b")),
    "date": (
        lambda pa: pa.array([date(2020, 1, 2), date(2021, 1, 2)]),
        ("2020-01-02", "2021-01-02"),
    ),
    "missing int": (lambda pa: pa.array([0, None]), "row 2 must have a path and a label"),
    "missing float": (lambda pa: pa.array([0.0, None]), "row 2 must have a path and a label"),
    "nan": (lambda pa: pa.array([0.0, float("nan")]), "row 2 must have a path and a label"),
    "missing text": (lambda pa: pa.array(["a", None]), "row 2 must have a path and a label"),
    "blank": (lambda pa: pa.array(["a", " "]), "row 2 must have a path and a label"),
    "list": (lambda pa: pa.array([[1], [2]]), "row 1: .* must be text or numbers; got a list"),
}


@pytest.mark.parametrize("kind", PARQUET_LABELS)
def test_labels_of_a_parquet_manifest_mean_what_they_mean(kind: str, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet  # noqa: PLC0415

    touch(tmp_path, "a.png", "b.png")
    make, wanted = PARQUET_LABELS[kind]
    table = pyarrow.table({"path": [b"a.png", b"b.png"], "label": make(pyarrow)})
    parquet.write_table(table, tmp_path / "m.parquet")
    if isinstance(wanted, tuple):
        assert list_images(tmp_path / "m.parquet").classes == wanted
    else:
        with pytest.raises(ValueError, match=wanted):
            list_images(tmp_path / "m.parquet")


def test_missing_splits_of_a_parquet_manifest_are_none(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet  # noqa: PLC0415

    touch(tmp_path, "a.png", "b.png")
    columns = {"path": ["a.png", "b.png"], "label": ["a", "b"], "split": [None, None]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "m.parquet")
    assert found(tmp_path / "m.parquet") == {("a.png", "a", ""), ("b.png", "b", "")}


def test_names_in_a_manifest_are_taken_as_they_are(tmp_path: Path) -> None:
    names = (" lead.png", "b.png ", 'quo"te.png', "two\nlines.png", "a,b.png", "$20%$30[/].png")
    touch(tmp_path, *names)
    with (tmp_path / "m.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *((name, "x") for name in names)])
    assert [entry.path for entry in list_images(tmp_path / "m.csv").entries] == list(names)


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_a_manifest_may_be_as_a_spreadsheet_writes_it(tmp_path: Path, between: str) -> None:
    touch(tmp_path, "a,;b.png", "b.png")
    with (tmp_path / "m.csv").open("w", encoding="utf-8-sig", newline="") as file:
        rows = [("path", "label"), ("a,;b.png", "x;,y"), ("b.png", "z")]
        csv.writer(file, delimiter=between).writerows(rows)
    assert found(tmp_path / "m.csv") == {("a,;b.png", "x;,y", ""), ("b.png", "z", "")}


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
    "\npath,label\n\n  \na.png,cat\n,,\nlast.png\n": "row 7 must have a path and a label",
    "\npath,label\n\n  \na.png,cat\n,\n\nlast.png\n": "row 8 must have a path and a label",
    "path,label,label\na.png,cat,dog\n": "unknown column 'label'",
    f"path,label\n{'x' * 5000},cat\n": "holds no images .*which is missing",
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


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ("1 2 1", "no training images of 3 labels, as many as others have"),
        ("1", "no training images of fewer than 2 labels, as others have"),
    ],
)
def test_lists_of_a_length_that_training_never_saw_are_refused(
    odd: str, words: str, tmp_path: Path
) -> None:
    lines = [f"{n}.png,{n % 2} {(n + 1) % 2}," for n in range(9)]
    touch(tmp_path, *(f"{n}.png" for n in range(10)))
    lines = [*(f"{line}{'test' if n > 6 else 'train'}" for n, line in enumerate(lines))]
    lines = ["path,label,split", *lines, f"9.png,{odd.replace('2', '0')},val"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    listing = list_images(tmp_path / "list.csv", " ")
    with pytest.raises(ValueError, match=words):
        split_images(listing, 0.15, seed=0)
    sound = replace(
        listing, entries=[e for e in listing.entries if e.label != odd.replace("2", "0")]
    )
    split_images(sound, 0.15, seed=0)


def test_a_split_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    touch(tmp_path, *(f'{c}/ä "{i}", x.png' for c in "ab" for i in range(4)))
    touch(
        tmp_path, *(f"{c}/{os.fsdecode(odd)}.png" for c in "ab" for odd in (b"\xe9", b"\r", b"\n"))
    )
    split = split_images(list_images(tmp_path), 0.15, seed=0)
    write_split(split, tmp_path / "run" / "split.csv")
    assert read_split(tmp_path / "run" / "split.csv", str(tmp_path)) == split
    whole = (tmp_path / "run" / "split.csv").read_text(errors="replace")
    for damaged in (whole.replace("height", "hight"), whole.replace("train", "trian"), whole[:-3]):
        (tmp_path / "run" / "split.csv").write_text(damaged)
        with pytest.raises(ValueError, match=r"split.csv is damaged .* Restore it"):
            read_split(tmp_path / "run" / "split.csv", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="which images were in which split is unknown"):
        read_split(tmp_path / "nowhere.csv", str(tmp_path))
