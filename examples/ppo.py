"""PPO in one file, as CleanRL writes it, with an eye: Catch, seen through a fovea.

One sees how many balls are caught by a trainer that has only the environment from foveal. Actions
are two whole numbers, what the paddle does and which of 2 x 2 places is looked at next.
"""

import argparse

import gymnasium
import torch
from torch import nn
from torch.distributions import Categorical

from foveal.envs import FoveaVector

LOOKS = 4  # that are remembered
STEPS = 24  # the 23 decisions of a game of Catch, and the one that begins the next


class Agent(nn.Module):
    def __init__(self, numbers: int, choices: list[int]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(numbers, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.choices = choices
        self.policy, self.value = nn.Linear(64, sum(choices)), nn.Linear(64, 1)
        nn.init.orthogonal_(self.policy.weight, 0.01)

    def forward(self, seen, actions=None, likeliest=False):
        hidden = self.body(seen)
        heads = [Categorical(logits=part) for part in self.policy(hidden).split(self.choices, -1)]
        if actions is None:
            drawn = [head.probs.argmax(-1) if likeliest else head.sample() for head in heads]
            actions = torch.stack(drawn, -1)
        log_probs = sum(head.log_prob(actions[..., k]) for k, head in enumerate(heads))
        entropy = sum(head.entropy() for head in heads)
        return actions, log_probs, entropy, self.value(hidden).squeeze(-1)


def numbers_of(seen):
    # A ball in a box of 4 x 4 pixels is 1/16 bright: coarse patches are made brighter.
    glimpse = torch.from_numpy(seen["glimpse"]) * torch.tensor([2.0, 8.0, 32.0]).view(3, 1, 1, 1)
    return torch.cat([torch.from_numpy(seen["gaze"]), glimpse.flatten(1)], dim=1)


def play(envs, agent, seen, over, likeliest=False):
    """24 steps of each game: what was seen and done, and what it brought.

    The last four looks are remembered: one alone does not tell which way the ball flies.
    """
    rows = []
    for _ in range(STEPS):
        with torch.no_grad():
            actions, log_probs, _, values = agent(seen, likeliest=likeliest)
        after, rewards, ended, _, _ = envs.step(actions.numpy())
        ended = torch.from_numpy(ended)
        rows.append((seen, actions, log_probs, values, torch.from_numpy(rewards), ended, ~over))
        numbers = numbers_of(after)
        earlier = seen[:, numbers.shape[1] :] * ~over[:, None]
        seen, over = torch.cat([earlier, numbers], dim=1), ended
    return [torch.stack(part) for part in zip(*rows, strict=True)], seen, over


def advantages_of(values, rewards, ended, decay):
    """Generalized advantage estimates; every game ends within its 24 steps."""
    result, total = torch.zeros_like(values), torch.zeros_like(values[0])
    following = torch.cat([values[1:], torch.zeros_like(values[:1])])
    for t in reversed(range(STEPS)):
        going_on = ~ended[t]
        total = rewards[t].float() + following[t] * going_on - values[t] + decay * total * going_on
        result[t] = total
    return result


def main(decisions: int, num_envs: int, seed: int, lr: float, entropy_weight: float) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    catch = gymnasium.make_vec("foveal/Catch-v0", num_envs=num_envs)
    envs = FoveaVector(catch, grid=2, flat=True)
    first = numbers_of(envs.reset(seed=seed)[0])
    seen = torch.cat([torch.zeros_like(first).repeat(1, LOOKS - 1), first], dim=1)
    over = torch.zeros(num_envs, dtype=torch.bool)
    agent = Agent(seen.shape[1], envs.single_action_space.nvec.tolist())
    optimizer = torch.optim.Adam(agent.parameters(), lr, eps=1e-5)
    updates = decisions // (num_envs * (STEPS - 1))
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = lr * (1 - update / updates)
        played, seen, over = play(envs, agent, seen, over)
        values, rewards, ended, counts = played[3:]
        advantages = advantages_of(values, rewards, ended, 0.95)
        played = [part[counts] for part in (*played[:3], advantages, advantages + values)]
        for _ in range(4):
            for rows in torch.randperm(len(played[0])).chunk(4):
                screens, actions, before, gains, returns = (part[rows] for part in played)
                _, log_probs, entropy, expected = agent(screens, actions)
                gains, ratio = (gains - gains.mean()) / gains.std(), (log_probs - before).exp()
                policy = torch.minimum(ratio * gains, ratio.clamp(0.8, 1.2) * gains).mean()
                loss = 0.5 * (expected - returns).square().mean() - policy
                optimizer.zero_grad()
                (loss - entropy_weight * entropy.mean()).backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimizer.step()
        if (update + 1) % max(1, updates // 20) == 0:
            caught = 100 * rewards.sum() / num_envs
            print(f"{(update + 1) * num_envs * (STEPS - 1):,} decisions: {caught:.0f} % caught")
    caught = []
    for _ in range(1 + min(decisions // 100, 10_000) // num_envs):
        played, seen, over = play(envs, agent, seen, over, likeliest=True)
        caught.append(played[4].sum(0))
    print(f"it catches {100 * torch.cat(caught).mean():.2f} % of {len(caught) * num_envs:,} balls")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=12_000_000)
    parser.add_argument("--num-envs", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--entropy-weight", type=float, default=0.01)
    main(**vars(parser.parse_args()))
