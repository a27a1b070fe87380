"""Many people on the page at once: ``python tools/app_load.py``; figures for docs/app.md.

Starts ``foveal app`` on the loopback. Each session draws digits and plays Catch as a browser does,
over its own connection, and compares what it gets with what its own requests should give: an
answer to another's drawing, or a score with another's games, counts as mixed.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import tyro

from foveal.app.draw import Drawing
from foveal.app.models import load_models

HOST = "127.0.0.1"
# A "7", a "1", a "4", an "L" and a "Z", in a unit square.
SHAPES = (
    [[[0.2, 0.1], [0.8, 0.1], [0.4, 0.9]]],
    [[[0.5, 0.1], [0.5, 0.9]]],
    [[[0.3, 0.1], [0.2, 0.55], [0.8, 0.55]], [[0.65, 0.3], [0.65, 0.95]]],
    [[[0.3, 0.1], [0.3, 0.9], [0.7, 0.9]]],
    [[[0.2, 0.1], [0.8, 0.1], [0.2, 0.9], [0.8, 0.9]]],
)


class Person(threading.Thread):
    """One session: draws, plays, and checks."""

    def __init__(self, number: int, port: int, until: float, pause: float) -> None:
        super().__init__()
        self.random = random.Random(number)
        self.name, self.port, self.until, self.pause = f"load{number}", port, until, pause
        self.times: list[float] = []
        self.drawn: list[tuple[list[Any], list[Any]]] = []
        self.errors: list[str] = []
        self.mixed = self.games = self.caught = 0

    def run(self) -> None:
        alive = http.client.HTTPConnection(HOST, self.port)
        alive.request("GET", f"/gradio_api/heartbeat/{self.name}")
        alive.getresponse()
        self.line = http.client.HTTPConnection(HOST, self.port, timeout=30)
        while time.monotonic() < self.until:
            try:
                self._draw()
                if self.random.random() < 0.2:
                    self._play()
            except (OSError, http.client.HTTPException, ValueError) as problem:
                self.errors.append(repr(problem))
                self.line.close()
            time.sleep(self.random.uniform(0, 2 * self.pause))
        alive.close()

    def call(self, name: str, data: list[Any]) -> list[Any]:
        body = json.dumps({"data": data, "session_hash": self.name})
        start = time.monotonic()
        self.line.request(
            "POST", f"/gradio_api/run/{name}", body, {"Content-Type": "application/json"}
        )
        reply = self.line.getresponse()
        answer = json.loads(reply.read())
        self.times.append(time.monotonic() - start)
        if reply.status != 200:
            raise ValueError(f"{reply.status}: {answer}")
        result: list[Any] = answer["data"]
        return result

    def _draw(self) -> None:
        size, x, y = (self.random.uniform(*ends) for ends in ((0.3, 0.5), (0, 0.5), (0, 0.5)))
        shape = self.random.choice(SHAPES)
        strokes = [[[x + size * a, y + size * b] for a, b in stroke] for stroke in shape]
        request = [strokes, "cluttered-60", self.random.randrange(8), self.random.randrange(10**6)]
        self.drawn.append((request, self.call("draw", request)))

    def _play(self) -> None:
        (game,) = self.call("play", [])
        moves = [self.random.randrange(3) for _ in game["corners"]]
        (said,) = self.call("judge", [{"id": game["id"], "moves": moves}])
        paddle = game["paddles"][0]
        for move in moves:
            paddle = min(max(paddle + move - 1, 0), game["size"] - game["paddleWidth"])
        self.games += 1
        self.caught += 0 <= game["balls"][-1][0] - paddle < game["paddleWidth"]
        wanted = f'data-games="{self.games}" data-you="{self.caught}"'
        self.mixed += wanted not in said


def main(sessions: int = 20, seconds: int = 60, pause: float = 0.5, check: int = 20) -> None:
    """Load the page and print what came of it.

    Args:
        sessions: at once.
        seconds: for how long.
        pause: mean pause of a session between two drawings, in seconds.
        check: drawings of each session whose answers are computed again, alone, to compare.
    """
    server = subprocess.Popen(
        [sys.executable, "-m", "foveal", "app", "--no-browser", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout
    port = int(re.search(r":(\d+):", server.stdout.readline())[1])  # type: ignore[index]
    try:
        warm = Person(-1, port, time.monotonic() + 5, 0)
        warm.start()
        warm.join()
        before = memory(server.pid)
        until = time.monotonic() + seconds
        people = [Person(number, port, until, pause) for number in range(sessions)]
        for person in people:
            person.start()
        time.sleep(seconds / 2)
        half = memory(server.pid)
        for person in people:
            person.join()
        after = memory(server.pid)
    finally:
        server.terminate()
        server.wait()
    print(json.dumps(report(people, check) | {"memory_mb": [before, half, after]}, indent=1))


def report(people: list[Person], check: int) -> dict[str, Any]:
    drawing = Drawing(load_models()[0])
    mixed = sum(person.mixed for person in people)
    processor = []
    for person in people:
        for request, got in person.drawn[:check]:
            start = time.process_time()
            wanted = json.loads(json.dumps(drawing(*request)))
            processor.append(time.process_time() - start)
            # The time it took differs.
            mixed += [strip(wanted[0]), wanted[1]] != [strip(got[0]), got[1]]
    times = sorted(second for person in people for second in person.times)
    return {
        "requests": len(times),
        "errors": sum(len(person.errors) for person in people),
        "mixed": mixed,
        "milliseconds": {
            "fastest": round(1000 * times[0]),
            "median": round(1000 * statistics.median(times)),
            "95 %": round(1000 * times[int(0.95 * len(times))]),
            "slowest": round(1000 * times[-1]),
        },
        "processor_milliseconds_a_drawing": round(1000 * statistics.median(processor), 1),
        "first_errors": [error for person in people for error in person.errors][:3],
    }


def strip(said: str) -> str:
    return re.sub(r"\(\d+ ms\)", "", said)


def memory(process: int) -> int:
    """Megabytes of a process in memory."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024  # type: ignore[index]


if __name__ == "__main__":
    tyro.cli(main)
