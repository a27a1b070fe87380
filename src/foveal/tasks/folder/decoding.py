"""Decoding many image files: in worker processes, in order, with what fits kept in memory."""

import itertools
import multiprocessing
import os
import signal
import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from foveal.scene.files import Source, is_large, open_source
from foveal.scene.files.sources import NoMemory
from foveal.tasks.folder.pictures import Bytes, read_picture

CHUNK = 8  # files a message to a worker
AHEAD = 4  # messages a worker that wait for their turn
WORTH_WORKERS = 64  # files; fewer are decoded sooner than workers start
MOST_WORKERS = 8  # by default


@dataclass(frozen=True)
class Large:
    """A file that is not decoded but read by windows (see `foveal.scene.files.is_large`)."""

    path: Path


Decoded = Bytes | Large | OSError | ValueError


class Decoder:
    """Decodes image files in order, as grey (1 channel) or RGB (3), a few messages ahead.

    Which files are large the workers find out too, so that the first answer waits for no others.
    Workers are started by a server that has imported what they need, once: a copy of it each. They
    end with this process, even if that is killed. -1 takes one a core, at most 8; 0 decodes here.
    """

    def __init__(self, num_channels: int, workers: int = -1) -> None:
        self.num_channels = num_channels
        self.workers = min(os.cpu_count() or 1, MOST_WORKERS) if workers < 0 else workers
        self._pool: ProcessPoolExecutor | None = None
        self._end: Callable[[], Any] = lambda: None

    def stream(self, paths: Iterable[Path]) -> Iterator[Decoded]:
        """What each file holds (see `read_picture`), or why it cannot be read, in order.

        Raises `OSError` if a worker ends unexpectedly.
        """
        paths = iter(paths)
        first = list(itertools.islice(paths, WORTH_WORKERS))
        if self.workers == 0 or len(first) < WORTH_WORKERS:
            for path in itertools.chain(first, paths):
                yield _attempt(path, self.num_channels)
            return
        chunks = _chunks(itertools.chain(first, paths), CHUNK)
        waiting: deque[Future[list[Decoded]]] = deque()
        try:
            for chunk in itertools.islice(chunks, self.workers * AHEAD):
                waiting.append(self._submit(chunk))
            while waiting:
                done = _result(waiting.popleft())
                waiting.extend(self._submit(chunk) for chunk in itertools.islice(chunks, 1))
                yield from done
        finally:
            for future in waiting:
                future.cancel()

    def ahead(self, paths: Sequence[Path]) -> list[Callable[[], Decoded]]:
        """Begin to decode files; each is to be asked for, which raises as `stream`.

        Without workers nothing is begun before it is asked for.
        """
        if not self.workers:
            return [partial(_attempt, path, self.num_channels) for path in paths]
        begun: list[Callable[[], Decoded]] = []
        for chunk in _chunks(iter(paths), -(-len(paths) // self.workers)):
            future = self._submit(chunk)
            begun += [partial(_one, future, place) for place in range(len(chunk))]
        return begun

    def close(self) -> None:
        """End the workers."""
        self._end()
        self._pool = None

    def _submit(self, paths: list[Path]) -> Future[list[Decoded]]:
        if self._pool is None:
            # A process with threads, as PyTorch's, must not be forked.
            forks = "forkserver" in multiprocessing.get_all_start_methods()
            context = multiprocessing.get_context("forkserver" if forks else "spawn")
            if forks:
                context.set_forkserver_preload(["foveal.tasks.folder.pictures"])
            self._pool = ProcessPoolExecutor(self.workers, context, _begin)
            # Waited for also where nobody closes it, or it would end while Python itself does.
            self._end = weakref.finalize(self, self._pool.shutdown, cancel_futures=True)
        return self._pool.submit(_attempt_all, paths, self.num_channels)


class PictureStore:
    """The decoded pictures of a list of files, kept in memory up to a budget; large ones never.

    The first that are read are kept, up to ``budget`` bytes, and none is put out for another: an
    epoch reads each once, in a new order, so that one is worth as much as another. Where there is
    no memory left to decode one, half of those that are kept are given up, and none is kept after.
    """

    def __init__(self, paths: Sequence[Path], decoder: Decoder, budget: int) -> None:
        self.paths, self.decoder, self.budget, self.size = paths, decoder, budget, budget
        self.kept: dict[int, Bytes | Large] = {}
        self._coming: dict[int, Callable[[], Decoded]] = {}  # those that workers decode meanwhile
        self.gave_way = False  # whether memory ended before the budget

    def stream(self, indices: Sequence[int]) -> Iterator[Decoded]:
        """What the files of these indices hold, or why they cannot be read, in order."""
        absent = [index for index in indices if index not in self.kept]
        needed = set(indices) - set(absent)
        coming = {index: self._coming.pop(index) for index in absent if index in self._coming}
        decoded = self.decoder.stream(self.paths[i] for i in absent if i not in coming)
        expected = iter(absent)
        upcoming = next(expected, None)
        for index in indices:
            if index != upcoming:
                yield self.kept[index]
                continue
            picture = coming[index]() if index in coming else next(decoded)
            upcoming = next(expected, None)
            while isinstance(picture, NoMemory) and self._gave_way(needed):
                picture = _attempt(self.paths[index], self.decoder.num_channels)
            if isinstance(picture, Large):
                self.kept[index] = picture
            elif isinstance(picture, np.ndarray) and picture.nbytes <= self.budget:
                self.kept[index] = picture
                self.budget -= picture.nbytes
            yield picture

    def ahead(self, indices: Sequence[int]) -> None:
        """Begin to decode the files of these indices, which are those asked for next."""
        absent = [index for index in indices if index not in self.kept]
        begun = self.decoder.ahead([self.paths[index] for index in absent])
        self._coming = dict(zip(absent, begun, strict=True))

    def keep_first(self, wanted: Collection[int]) -> None:
        """Give up the others where not all of these are kept: these are read more often."""
        if self.gave_way or self.kept.keys() >= set(wanted):
            return
        for index in self.kept.keys() - set(wanted):
            picture = self.kept[index]
            if isinstance(picture, np.ndarray):
                self.budget += picture.nbytes
                del self.kept[index]

    def _gave_way(self, needed: set[int]) -> bool:
        """Give up half of what is kept and not needed now; whether there was any."""
        held = [i for i, p in self.kept.items() if isinstance(p, np.ndarray) and i not in needed]
        for index in held[: -(-len(held) // 2)]:
            del self.kept[index]
        if held:
            self.budget, self.gave_way = 0, True
        return bool(held)


def with_sources(
    decoded: Iterable[Decoded], num_channels: int
) -> Iterator[Bytes | Source | OSError | ValueError]:
    """What a stream gives, with large files opened as sources; or why they cannot be."""
    for item in decoded:
        if not isinstance(item, Large):
            yield item
            continue
        try:
            source = open_source(item.path, num_channels)
        except (OSError, ValueError) as problem:
            yield problem
        else:
            yield source


def _chunks(paths: Iterator[Path], size: int) -> Iterator[list[Path]]:
    while chunk := list(itertools.islice(paths, size)):
        yield chunk


def _result(future: Future[list[Decoded]]) -> list[Decoded]:
    try:
        return future.result()
    except BrokenProcessPool:
        raise OSError(
            "a process that decodes images ended unexpectedly, perhaps for want of memory. "
            "Use fewer --workers; 0 decodes in this process. In a script of your own, what it "
            "runs must stand below if __name__ == '__main__'."
        ) from None


def _one(future: Future[list[Decoded]], place: int) -> Decoded:
    return _result(future)[place]


def _attempt(path: Path, num_channels: int) -> Decoded:
    try:
        return Large(path) if is_large(path) else read_picture(path, num_channels)
    except (OSError, ValueError) as problem:
        return problem


def _attempt_all(paths: list[Path], num_channels: int) -> list[Decoded]:
    return [_attempt(path, num_channels) for path in paths]


def _begin() -> None:
    """In a worker: Ctrl-C is the parent's to handle, and without a parent there is no work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
