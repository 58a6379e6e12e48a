"""Agents that balance gymnasium's CartPole: A3C (one worker) and PPO.

The environment steps outside; the policy and the losses are what a variant converts.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.models.actor_critic import ActorCritic, a3c_loss, ppo_loss
from benchmarks.trainings.base import Convert, Training

_DISCOUNT = 0.99


def missing() -> str | None:
    """Say what an agent lacks on this machine."""
    found = importlib.util.find_spec("gymnasium")
    return None if found else "gymnasium is not installed"


class Pole:
    """CartPole that starts anew when an episode is over."""

    def __init__(self, device: str) -> None:
        import gymnasium

        self._device = device
        self._environment: Any = gymnasium.make("CartPole-v1")
        self.observation = self._tensor(self._environment.reset(seed=0)[0])

    def step(self, action: int) -> tuple[float, bool]:
        """Move; return the reward and whether the episode is over."""
        state, reward, is_lost, is_out_of_time, _ = self._environment.step(action)
        is_over = bool(is_lost or is_out_of_time)
        if is_over:
            state, _ = self._environment.reset()
        self.observation = self._tensor(state)
        return float(reward), is_over

    def _tensor(self, state: Any) -> Tensor:
        return torch.as_tensor(state, dtype=torch.float32, device=self._device)


class A3C:
    """One worker: some steps of an episode, at most `horizon`, then one update."""

    def __init__(self, convert: Convert, device: str, width: int, horizon: int) -> None:
        self._pole = Pole(device)
        self._network = ActorCritic(width=width).to(device)
        self._policy = convert(self._network, self._pole.observation)
        self._loss = convert(a3c_loss)
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=1e-3)
        self._horizon = horizon

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Policy and value."""
        return (self._network,)

    def step(self) -> tuple[Tensor, ...]:
        """Act until the episode or the horizon ends; learn from it."""
        log_probabilities, values, entropies = [], [], []
        rewards: list[float] = []
        is_over = False
        while not is_over and len(rewards) < self._horizon:
            log_policy, value = self._policy(self._pole.observation)
            action = int(torch.multinomial(log_policy.detach().exp(), 1))
            reward, is_over = self._pole.step(action)
            log_probabilities.append(log_policy[action])
            entropies.append(-(log_policy.exp() * log_policy).sum())
            values.append(value)
            rewards.append(reward)
        loss = self._loss(log_probabilities, values, entropies, rewards, self._value(is_over))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return (loss.detach(),)

    @torch.no_grad()
    def _value(self, is_over: bool) -> float:  # noqa: FBT001 # the one thing that it depends on
        return 0.0 if is_over else float(self._policy(self._pole.observation)[1])


class PPO:
    """A stretch of experience, then some epochs over it in batches."""

    def __init__(self, convert: Convert, device: str, width: int, steps: int) -> None:
        self._pole = Pole(device)
        self._network = ActorCritic(width=width).to(device)
        self._policy = convert(self._network, self._pole.observation)
        self._loss = convert(ppo_loss)
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=1e-3)
        self._steps = steps

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Policy and value."""
        return (self._network,)

    def step(self) -> tuple[Tensor, ...]:
        """Gather experience; learn from it in two epochs of two batches."""
        observations, actions, log_probabilities, advantages, returns = self._gather()
        losses = []
        for _ in range(2):
            for chosen in torch.randperm(self._steps).chunk(2):
                log_policy, values = self._policy(observations[chosen])
                taken = log_policy.gather(1, actions[chosen, None]).squeeze(1)
                loss = self._loss(
                    taken, values, log_probabilities[chosen], advantages[chosen], returns[chosen]
                )
                self._optimizer.zero_grad()
                loss.backward()
                self._optimizer.step()
                losses.append(loss.detach())
        return tuple(losses)

    @torch.no_grad()
    def _gather(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        observations, actions, taken, values, rewards, ends = [], [], [], [], [], []
        for _ in range(self._steps):
            observation = self._pole.observation
            log_policy, value = self._policy(observation)
            action = int(torch.multinomial(log_policy.exp(), 1))
            reward, is_over = self._pole.step(action)
            observations.append(observation)
            actions.append(action)
            taken.append(log_policy[action])
            values.append(value)
            rewards.append(reward)
            ends.append(is_over)
        last = float(self._policy(self._pole.observation)[1])
        returns = torch.tensor(_returns(rewards, ends, last)).to(observations[0])
        advantages = returns - torch.stack(values)
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        chosen = torch.tensor(actions, device=returns.device)
        return torch.stack(observations), chosen, torch.stack(taken), advantages, returns


def _returns(rewards: list[float], ends: list[bool], last: float) -> list[float]:
    """Return the discounted rewards that follow each step."""
    found = []
    for reward, is_over in zip(reversed(rewards), reversed(ends), strict=True):
        last = reward + (0.0 if is_over else _DISCOUNT * last)
        found.append(last)
    return found[::-1]


def a3c(convert: Convert, device: str, is_small: bool) -> Training:  # noqa: FBT001 # a builder
    """Start A3C with at most 20 steps between updates."""
    return A3C(convert, device, width=32 if is_small else 128, horizon=20)


def ppo(convert: Convert, device: str, is_small: bool) -> Training:  # noqa: FBT001 # a builder
    """Start PPO; small: 16 steps of experience at a time."""
    width, steps = (32, 16) if is_small else (128, 256)
    return PPO(convert, device, width, steps)
