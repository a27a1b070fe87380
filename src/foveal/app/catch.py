"""The tab "Catch": the agent plays, with its fovea; or a person does, against it."""

import secrets
from collections.abc import Sequence
from typing import Any

from foveal.app.models import Agent
from foveal.app.rounds import deal, replay
from foveal.app.sessions import Session, Sessions
from foveal.app.wording import message
from foveal.envs import CATCH_ID

NO_GAMES = "No games yet."


class CatchTable:
    """Deals games of the first of the agents that plays Catch, and keeps each session's score.

    Raises `ValueError` if none of the agents plays it.
    """

    def __init__(self, agents: Sequence[Agent], sessions: Sessions) -> None:
        playing = [agent for agent in agents if agent.env.env == CATCH_ID]
        if not playing:
            raise ValueError("the tab Catch needs an agent that plays it; there is none.")
        self.agent = playing[0]
        self.sessions = sessions

    def deal(self, session: Session, *, against: bool, seed: int | None = None) -> dict[str, Any]:
        """A new game, as `foveal.app.rounds.deal` gives it, ``against`` and ``id`` (its seed).

        The person plays too if it is ``against``; without a ``seed`` it is a random one.
        """
        session.seed = secrets.randbelow(2**31) if seed is None else seed
        game = deal(self.agent, session.seed)
        session.playing, session.agent_catches = against, game["caught"]
        return game | {"against": against, "id": session.seed}

    def judge(self, session: Session, played: Any) -> str:
        """Count a finished game, by the rules and not by what the page says; the score, as HTML.

        What was ``played`` is ``{"id": of the game, "moves": 0, 1 or 2 each}``.
        """
        game_id, moves = (
            (played.get("id"), played.get("moves")) if isinstance(played, dict) else (None, None)
        )
        if not session.playing or game_id != session.seed or not isinstance(moves, list):
            return message("This game is over, or was not dealt here. Start another.")
        try:
            game = replay(self.agent.env, session.seed, moves)
        except ValueError as problem:
            return message(str(problem))
        if not game.over:
            return message("This game is not over yet.")
        session.playing = False
        session.games += 1
        session.caught += game.caught
        session.agent_caught += session.agent_catches
        return score(session, game.caught)


def score(session: Session, caught: bool | None = None) -> str:
    """What a session has come to, as HTML; ``caught`` is the outcome of the last game."""
    if not session.games:
        return f'<p class="foveal-answer" role="status">{NO_GAMES}</p>'
    agent = "the agent caught it" if session.agent_catches else "the agent missed it"
    you = "You caught it" if caught else "You missed it"
    return (
        f'<p class="foveal-answer" role="status" data-games="{session.games}" '
        f'data-you="{session.caught}" data-agent="{session.agent_caught}">'
        f"{you}, {agent}. Of {session.games}: you <strong>{session.caught}</strong>, "
        f"the agent <strong>{session.agent_caught}</strong></p>"
    )
