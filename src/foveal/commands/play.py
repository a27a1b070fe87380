"""``foveal play``: an agent in games."""

import dataclasses
from pathlib import Path

import tyro

from foveal.commands.console import counting, print_json, say
from foveal.commands.flags import check_suffix, choose_device, set_threads
from foveal.commands.shown import load_model
from foveal.envs import EnvConfig
from foveal.evaluation.agent import play as play_games
from foveal.names import SEEDS, Range, check_value
from foveal.runs.saved import Saved
from foveal.viz.film import FILMS, Film, check_film

GAMES = 1000  # that say how good an agent is, within a percent or three
MOST_GAMES = 1_000_000


def play(
    model: tyro.conf.Positional[str],
    episodes: int | None = None,
    env: str | None = None,
    env_options: tuple[str, ...] | None = None,
    gif: Path | None = None,
    gif_episodes: int = 3,
    num_envs: int = 1000,
    seed: int = 0,
    sample: bool = False,
    device: str = "auto",
    threads: int = 0,
    json: bool = False,
) -> None:
    """Let an agent play: mean policy, likeliest action; its return and success, with intervals.

    A game is a success if its rewards add up to more than 0.

    Args:
        model: a run directory, a saved agent, or the name of a pretrained one (foveal models).
        episodes: games to play; 1,000 if not given, or with --gif those of the animation.
        env: id of the environment; the one it was trained in if not given.
        env_options: what the environment is made with, such as size=48 speed=0.5 for another size
            of the game; as in training if not given.
        gif: write an animation of a few games, a .gif or an .mp4: screen, squares of every scale,
            glimpses.
        gif_episodes: games in the animation, or all that are played, if these are fewer.
        num_envs: games played at once.
        seed: of the games, the first looks and sampled actions.
        sample: draw actions by how likely they are, as in training, in place of the likeliest.
        device: cpu, cuda or auto.
        threads: cores for arithmetic; 0 for all.
        json: print one JSON object.
    """
    if episodes is None:
        episodes = GAMES if gif is None else gif_episodes
    counts = {"gif-episodes": gif_episodes, "episodes": episodes, "num-envs": num_envs}
    for name, value in counts.items():
        check_value(name, value, int, Range(1, MOST_GAMES))
    check_value("seed", seed, int, SEEDS)
    check_suffix("--gif", gif, FILMS)
    if gif is not None:
        check_film(gif)
    set_threads(threads)
    torch_device = choose_device(device)
    saved = load_model(model, torch_device, "play", plays=True)
    agent, games = saved.looking, _games(saved, env, env_options)
    film = None if gif is None else Film(agent, min(gif_episodes, episodes))
    with counting("playing", quiet=json or episodes < 2) as count:
        result = play_games(
            agent,
            games,
            episodes,
            seed,
            torch_device,
            num_envs=num_envs,
            sample=sample,
            watch=film,
            listener=lambda ended: count(ended, episodes),
        )
    if film is not None and gif is not None:
        film.save(gif)
    answer = {"model": model, **dataclasses.asdict(games), "seed": seed, "sample": sample}
    answer |= result.summary()
    if json:
        print_json(**answer, **({} if gif is None else {"gif": str(gif)}))
        return
    low, high = answer["interval"]
    gain = f"{answer['mean_return']:.3f}"
    if answer["return_interval"]:
        gain += " ({:.3f} to {:.3f})".format(*answer["return_interval"])
    say(
        f"{answer['episodes']:,} games of {games.env}: success {answer['success_rate']:.2f} % "
        f"(95 % interval {low:.2f} to {high:.2f}), mean return {gain}, "
        f"{answer['mean_length']:.1f} decisions a game"
    )
    if "ball_distance" in answer:
        say(f"mean distance of the last looks from the ball: {answer['ball_distance']:.2f} pixels")
    if gif is not None:
        say(f"Where it looked: {gif}")


def _games(saved: Saved, env: str | None, options: tuple[str, ...] | None) -> EnvConfig:
    trained = None if saved.run is None else saved.run.env
    if trained is None and env is None:
        raise ValueError(f"{saved.name} does not say what it was trained in. Pass --env.")
    if trained is None:
        trained = EnvConfig(env=env or "")
    elif env not in (None, trained.env):
        trained = dataclasses.replace(trained, env=env, env_options=())
    return trained if options is None else dataclasses.replace(trained, env_options=options)
