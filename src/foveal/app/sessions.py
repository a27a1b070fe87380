"""Who is on the page: a game and a score for each open page, forgotten when it is closed."""

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass

log = logging.getLogger("foveal.app")
MOST = 1000  # sessions kept; the one that was used least recently makes room


@dataclass
class Session:
    """One open page."""

    seed: int = 0  # of the game that was dealt last
    playing: bool = False  # whether a person has not finished it yet
    games: int = 0  # that were played to the end against the agent
    caught: int = 0  # by the person
    agent_caught: int = 0  # by the agent, in the same games
    agent_catches: bool = False  # whether the agent catches the ball of the last game


class Sessions:
    """The open pages, by the name that Gradio gives each. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def of(self, name: str | None) -> Session:
        """The session of a name; a new one for a new name."""
        key = name or ""
        with self._lock:
            session = self._open.setdefault(key, Session())
            self._open.move_to_end(key)
            while len(self._open) > MOST:
                self._open.popitem(last=False)
        return session

    def close(self, name: str | None) -> None:
        """Forget a session; a line in the log where a game was going on."""
        with self._lock:
            session = self._open.pop(name or "", None)
            others = len(self._open)
        if session is not None and session.playing:
            log.info("a page was closed in mid-game; the server goes on for %d other(s)", others)
