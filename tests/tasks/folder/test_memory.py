"""Where there is too little memory for the images that are to stay decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foveal import cli
from foveal.scene.files import naming
from foveal.tasks.folder import decoding, task
from foveal.tasks.folder.decoding import Decoder, PictureStore
from foveal.tasks.folder.pictures import read_picture
from tests.tasks.folder.test_folder import examined, write_bars


def narrow(monkeypatch: pytest.MonkeyPatch, stores: list[PictureStore], most: int) -> None:
    """No picture can be decoded while as many are kept."""

    def read(path: Path, num_channels: int) -> object:
        if any(len(store.kept) >= most for store in stores):
            with naming(path):
                raise MemoryError
        return read_picture(path, num_channels)

    monkeypatch.setattr(decoding, "read_picture", read)


def test_what_is_kept_gives_way_to_what_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted(write_bars(tmp_path).rglob("*.png"))
    store = PictureStore(paths, Decoder(3, 0), 2**30)
    narrow(monkeypatch, [store], 6)
    for _ in range(2):
        for path, found in zip(paths, store.stream(range(len(paths))), strict=True):
            np.testing.assert_array_equal(found, read_picture(path, 3))
    assert store.gave_way
    assert 0 < len(store.kept) < 6


def test_where_nothing_gives_way_the_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(write_bars(tmp_path).rglob("*.png"))
    store = PictureStore([path], Decoder(3, 0), 2**30)
    narrow(monkeypatch, [store], 0)
    (found,) = store.stream([0])
    assert str(found).startswith(f"{path} takes more memory than there is")


def test_no_sound_image_is_left_out_for_want_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores: list[PictureStore] = []
    made = PictureStore.__init__

    def noted(self: PictureStore, *given: object) -> None:
        made(self, *given)  # type: ignore[arg-type]
        stores.append(self)

    monkeypatch.setattr(PictureStore, "__init__", noted)
    narrow(monkeypatch, stores, 6)
    found = examined(write_bars(tmp_path))
    assert found.problems == []
    assert len(found.listing.entries) == 24
    assert found.short_of_memory


def test_a_command_without_memory_ends_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for problem in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):

        def fail(*_: object, problem: Exception = problem) -> int:
            raise problem

        monkeypatch.setattr(cli, "_call", fail)
        assert cli.main(["predict", "mnist-28"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("foveal predict: there is not enough memory. ")


def test_the_cache_is_no_larger_than_half_of_what_memory_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_bars(tmp_path / "data")
    assert examined(data).cache_gb == examined(data).config.cache_gb
    monkeypatch.setattr(task, "available", lambda: 8000.0)
    little = examined(data)
    assert little.cache_gb == 4000 / 2**30
    kept = [picture.nbytes for picture in little._store.kept.values()]
    assert 0 < sum(kept) <= 4000 < little.wanted_gb * 2**30
    command = f"train folder --data {data} --epochs 1 --threads 1 --workers 0 --out {tmp_path}/run"
    assert cli.main(command.split()) == 0
    said = capsys.readouterr().out
    assert "--cache-gb 1.5, and memory has room for 3.7e-06: keeps" in said
