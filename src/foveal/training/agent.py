"""Training an agent that looks in order to act (Mnih et al. 2014, §4.2), over the shared engine.

At each step of a game the agent looks at the screen where it decided to, and from what it then
remembers chooses both an action and where to look next; only the game's reward trains it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from foveal.envs import EnvConfig, Games
from foveal.evaluation.agent import play
from foveal.io.files import changed
from foveal.model.attention import RecurrentAttention
from foveal.names import Range, check_fields
from foveal.randomness import world_size
from foveal.training.control_objective import ControlObjective, control_loss, generalized_advantages
from foveal.training.critic import Learner
from foveal.training.engine import Engine, Illustrator
from foveal.training.journal import GAZE, with_fit_and_spread
from foveal.training.objective import gaze_moments
from foveal.training.optimizers import COUNT, MOST_AT_ONCE, OptimizationConfig
from foveal.training.played import Played
from foveal.training.progress import Progress

VALIDATION_SEED = 1406


@dataclass(frozen=True)
class ControlConfig(OptimizationConfig):
    """How an agent is trained.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    decisions: int = 23_000_000  # of all games together, over the run
    num_envs: int = 1024  # games played at once
    rollout_length: int = 23  # decisions in each game between updates
    update_epochs: int = 2  # passes over what was played, before more is played
    num_minibatches: int = 4  # in each pass; each holds whole games
    validate_every: int = 20  # updates between validations, with the mean policy
    validation_episodes: int = 1000  # games of each
    test_episodes: int = 10_000  # games at the end, which nothing was chosen by

    def __post_init__(self) -> None:
        super().__post_init__()
        games = Range(1, MOST_AT_ONCE)
        check_fields(
            self,
            decisions=Range(1, 10**12),
            num_envs=games,
            rollout_length=games,
            update_epochs=COUNT,
            num_minibatches=games,
            validate_every=COUNT,
            validation_episodes=games,
            test_episodes=games,
        )
        if self.num_envs % self.num_minibatches:
            raise ValueError(
                f"num_envs must be a multiple of num_minibatches; got {self.num_envs} and "
                f"{self.num_minibatches}."
            )
        if self.decisions < self.num_envs * self.rollout_length:
            raise ValueError(
                f"decisions must be at least those of one update, num_envs x rollout_length = "
                f"{self.num_envs * self.rollout_length:,}; got {self.decisions:,}."
            )


class ControlTrainer(Engine):
    """Trains an agent on games and keeps its run directory.

    Where every game ends with the last decision before an update, as in Catch, the next ones begin
    from a seed of the run and the update, and a resumed run is the uninterrupted one, bit for bit.
    Other games are begun anew by a resumed run.

    Args:
        model: as many classes as the games have actions.
        env: which games.
        config: how to train.
        objective: what for.
        directory: of the run; created when something is written.
        device: as PyTorch names it.
        listener: called at every reading of the metrics.
        illustrate: see `Engine`.
    """

    MEASURES = (
        *("loss", "return", "entropy", "baseline_loss", "gradient_norm"),
        *("target", "target_square", *GAZE, "games", "clipped_return"),
    )
    SEEN = "decisions"
    COMPARED, LOWER_IS_BETTER = "validation_return", False

    def __init__(
        self,
        model: RecurrentAttention,
        env: EnvConfig,
        config: ControlConfig,
        objective: ControlObjective,
        directory: Path,
        *,
        device: torch.device | str = "cpu",
        listener: Callable[[Progress], None] | None = None,
        illustrate: Illustrator | None = None,
    ) -> None:
        if world_size() > 1:
            raise ValueError(
                "an agent trains in one process; give it more games at once with --num-envs, and "
                "more cores with --threads."
            )
        if model.location_policy.marks:
            raise ValueError(
                "--apart and --steps are for several looks at one image; an agent has another at "
                "each. Leave them out."
            )
        if model.context is not None and model.context.finds_pasted:
            raise ValueError(
                "--map-pasted is learned from pieces pasted into images; nothing is pasted into "
                "games. Leave it out."
            )
        if 0 < getattr(model.config.context_settings, "map_only", 0.0) < 1:
            raise ValueError(
                "--map-only of an agent must be 0 or 1: a share goes by places in the batch, and "
                "an agent learns from other batches than it acts with. Pass one of the two."
            )
        self.agent, self.env, self.config, self.objective = model, env, config, objective
        self.seen_per_step = config.num_envs * config.rollout_length
        self.batch = f"--num-envs {config.num_envs}"
        self.total_steps = config.decisions // self.seen_per_step
        self.validation_period = config.validate_every
        identity = {
            "env": changed(env),
            "objective": changed(objective),
            "model": changed(model.config),
        }
        super().__init__(
            Learner(model, detach_baseline=objective.detach_baseline),
            config,
            identity,
            directory,
            device=device,
            listener=listener,
            illustrate=illustrate,
        )
        self.games = Games(env, config.num_envs, self.device)
        self.earned = torch.zeros(2, config.num_envs, device=self.device)  # in the games that go on

    def critic(self, hidden: Tensor, logits: Tensor) -> Tensor:
        """The return expected from h; see `foveal.training.critic.Critic`."""
        assert self.learner.critic is not None
        expected: Tensor = self.learner.critic(hidden, logits)
        return expected

    def _train_step(self) -> Tensor:
        self.learner.train()
        std = self._location_std()
        assert std is not None
        with torch.no_grad(), self.fabric.autocast():
            played = self._play(std)
        advantages = generalized_advantages(
            played.rewards + played.beyond,
            played.baselines,
            played.terminated,
            played.over,
            self.objective.discount,
            self.objective.credit_decay,
        )
        returns = advantages + played.baselines[:-1]
        counted = advantages[played.played]
        if self.objective.standardize_advantages and len(counted):
            advantages = (advantages - counted.mean()) / (counted.std(correction=0) + 1e-8)
        # The location chosen as a game ends is never looked at.
        looked = played.played & ~played.over
        entropy_weight = self.objective.entropy_weight * (1 - self.progress)
        sums, number = torch.zeros(4, device=self.device), 0
        for _ in range(self.config.update_epochs):
            order = torch.randperm(
                self.config.num_envs, generator=self.generator, device=self.device
            )
            for chosen in order.chunk(self.config.num_minibatches):
                with self.fabric.autocast():
                    logits, location_log_probs, baselines = self._score(played, chosen, std)
                    terms = control_loss(
                        logits,
                        played.actions[:, chosen],
                        location_log_probs,
                        (played.log_probs[:, chosen], played.location_log_probs[:, chosen]),
                        baselines,
                        advantages[:, chosen],
                        returns[:, chosen],
                        (played.played[:, chosen], looked[:, chosen]),
                        self.objective,
                        entropy_weight,
                    )
                norm = self._descend(terms.total, self._rate())
                sums += torch.stack([terms.total, terms.entropy, terms.baseline, norm]).detach()
                number += 1
        loss, entropy, baseline, norm = sums / number
        returns_ended, games_ended = self._ended(played)
        counts = played.played.float()
        decisions = counts.sum().clamp(min=1)
        gaze = gaze_moments(played.choices[looked].clamp(-1, 1))
        return self._measured(
            loss=loss,
            entropy=entropy,
            baseline_loss=baseline,
            gradient_norm=norm,
            target=(returns * counts).sum() / decisions,
            target_square=(returns.square() * counts).sum() / decisions,
            games=games_ended.float(),
            **dict(zip(("return", "clipped_return"), returns_ended, strict=True)),
            **dict(zip(GAZE, gaze, strict=True)),
        )

    def _ended(self, played: Played) -> tuple[Tensor, Tensor]:
        """``(2,)``, the sums of scores and of rewards of games that ended, and their number."""
        total = torch.zeros(2, device=self.device)
        for scores, rewards, over in zip(played.scores, played.rewards, played.over, strict=True):
            self.earned += torch.stack([scores, rewards])
            total += (self.earned * over).sum(1)
            self.earned *= ~over
        return total, played.over.sum()

    def _summarize(self, means: dict[str, float]) -> dict[str, float]:
        shown = with_fit_and_spread(means, "target")
        games, sums = shown.pop("games", 0.0), ("return", "clipped_return")
        found = {name: shown.pop(name) for name in sums if name in shown}
        if not self.objective.clip_rewards:
            found.pop("clipped_return", None)
        return {name: earned / games for name, earned in found.items() if games} | shown

    def _play(self, std: float) -> Played:
        """N decisions in each game, from where the games stand."""
        agent, generator, clip = self.agent, self.generator, self.objective.clip_rewards
        if self.games.all_over:
            self.images, (self.sensed, _) = self.games.reset(self._seed())
            self.fresh = torch.ones(self.config.num_envs, dtype=torch.bool, device=self.device)
            self.location, self.state = agent.begin(self.images, generator)
            self.before = self.state
        first_state, rows, thumbnails, senses = self.before, [], [], []
        for _ in range(self.config.rollout_length):
            fresh, location = self.fresh, self.location
            thumbnails.append(agent.thumbnail(self.images))
            senses.append(self.sensed)
            step = agent.step(
                self.images,
                location,
                self.state,
                senses=self.sensed,
                location_std=std,
                generator=generator,
            )
            logits = step.logits.float()
            actions = logits.softmax(-1).multinomial(1, generator=generator)
            turn = self.games.step(actions.squeeze(1))
            # Where games begin anew at once, the scene that follows one cut short is another's:
            # what its own last scene is worth is credited here, and nothing else follows.
            cut, beyond = turn.over & ~turn.terminated, torch.zeros_like(turn.rewards)
            if turn.final_images is not None:
                start, _ = agent.first_state(len(actions), agent.thumbnail(turn.final_images))
                state = agent.renewed(torch.zeros_like(fresh), start, step.state)
                last = agent.look(
                    turn.final_images, step.next_location, state, turn.final_senses
                ).state[0]
                value = self.critic(last, agent.action_head(last))
                beyond = self.objective.discount * value * cut
            ended = turn.terminated if turn.final_images is None else turn.terminated | cut
            row = {
                "fresh": fresh,
                "glimpses": step.glimpses,
                "locations": location,
                "actions": actions.squeeze(1),
                "choices": step.choice,
                "log_probs": logits.log_softmax(-1).gather(1, actions).squeeze(1),
                "location_log_probs": step.log_prob,
                "baselines": self.critic(step.state[0], logits),
                "rewards": (turn.rewards.clamp(-1, 1) if clip else turn.rewards) * turn.played,
                "scores": turn.rewards * turn.played,
                "played": turn.played,
                "beyond": beyond,
                "terminated": ended,
                "over": turn.over,
            }
            rows.append(row)
            self.images, self.sensed, self.fresh = turn.images, turn.senses, turn.fresh
            self.before = step.state
            self.location, self.state = agent.begin_where(
                self.fresh, self.images, step.next_location, step.state, generator
            )
        columns = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        columns["baselines"] = torch.cat([columns["baselines"], self._last_baseline()[None]])
        read = [part for part in thumbnails if part is not None]
        sensed = {name: torch.stack([each[name] for each in senses]) for name in self.sensed}
        return Played(first_state, torch.stack(read) if read else None, sensed, **columns)

    def _last_baseline(self) -> Tensor:
        """What is expected after the last decision; where the game is over it is not used."""
        state = self.agent.look(self.images, self.location, self.state, self.sensed).state
        return self.critic(state[0], self.agent.action_head(state[0]))

    def _score(self, played: Played, chosen: Tensor, std: float) -> tuple[Tensor, Tensor, Tensor]:
        """What the agent as it is makes of what was played, in the chosen of the games.

        Returns:
            Logits ``(N, B, A)``, log-probabilities of the locations and baselines ``(N, B)``.
        """
        agent, shape = self.agent, (self.config.rollout_length, len(chosen))
        glimpses = played.glimpses[:, chosen].flatten(0, 1)
        locations = played.locations[:, chosen].flatten(0, 1)
        features = agent.perceive(glimpses, locations).view(*shape, -1)
        thumbnails = None
        if played.thumbnails is not None:
            thumbnails = played.thumbnails[:, chosen].flatten(0, 1)
        begun, _ = agent.first_state(len(locations), thumbnails)
        starts = zip(*(part.view(*shape, *part.shape[1:]) for part in begun), strict=True)
        state = tuple(part[chosen] for part in played.state)
        steps, read = [], []
        for t, start in enumerate(starts):
            state = agent.renewed(played.fresh[t, chosen], start, state)
            senses = {name: numbers[t, chosen] for name, numbers in played.senses.items()}
            state = agent.remember(features[t], state, senses)
            steps.append(state[0])
            read.append(agent.for_policy(state))
        hidden = torch.stack(steps).flatten(0, 1)
        logits = agent.action_head(hidden)
        choices = played.choices[:, chosen].flatten(0, 1)
        scores = agent.score(torch.stack(read).flatten(0, 1), choices, std, *agent.maps(begun))
        baselines = self.critic(hidden, logits)
        return logits.view(*shape, -1), scores.view(shape), baselines.view(shape)

    def _validate(self) -> dict[str, float]:
        result = play(
            self.agent, self.env, self.config.validation_episodes, VALIDATION_SEED, self.device
        )
        return {
            self.COMPARED: result.mean_return,
            "validation_success_rate": result.success_rate,
        }

    def _seed(self) -> int:
        """Of the games that begin at this step.

        The environment gives each of them the next number, so that seeds of one step after another
        would begin nearly the same games; and games of few seeds are those of evaluations.
        """
        spread = np.random.SeedSequence((self.config.seed, self.step)).generate_state(1)
        return int(spread[0]) % 2**30
