"""A policy and a value from one body, and the losses of A3C and PPO on what an agent did."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ActorCritic(nn.Module):
    """Logits of the actions and the value of an observation."""

    def __init__(self, observations: int = 4, actions: int = 2, width: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(observations, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()
        )
        self.policy = nn.Linear(width, actions)
        self.value = nn.Linear(width, 1)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Return log probabilities `f32[..., actions]` and values `f32[...]`."""
        x = self.body(observation)
        return torch.log_softmax(self.policy(x), dim=-1), self.value(x).squeeze(-1)


def a3c_loss(
    log_probabilities: list[Tensor],
    values: list[Tensor],
    entropies: list[Tensor],
    rewards: list[float],
    last_value: float,
    discount: float = 0.99,
) -> Tensor:
    """Return the loss of one stretch of an episode, of whatever length, after Mnih et al. (2016).

    Args:
        log_probabilities: of the actions taken, one `f32[]` per step.
        values: estimated before each step.
        entropies: of the policy at each step.
        rewards: what the environment gave.
        last_value: estimated after the last step; 0 when the episode ended.
        discount: of a reward one step later.
    """
    value_of_rest = last_value
    policy_loss = torch.zeros(())
    value_loss = torch.zeros(())
    for step in reversed(range(len(rewards))):
        value_of_rest = rewards[step] + discount * value_of_rest
        advantage = value_of_rest - values[step]
        value_loss = value_loss + 0.5 * advantage.square()
        policy_loss = policy_loss - log_probabilities[step] * advantage.detach()
        policy_loss = policy_loss - 0.01 * entropies[step]
    return policy_loss + 0.5 * value_loss


def ppo_loss(
    log_probabilities: Tensor,
    values: Tensor,
    old_log_probabilities: Tensor,
    advantages: Tensor,
    returns: Tensor,
    clip: float = 0.2,
) -> Tensor:
    """Return the clipped loss of a batch of steps, after Schulman et al. (2017).

    Args:
        log_probabilities: of all actions, `f32[steps, actions]`, as the policy is now; the taken
            ones are those in `old_log_probabilities`.
        values: `f32[steps]`.
        old_log_probabilities: of the actions taken, `f32[steps]`, when they were taken.
        advantages: normalised, `f32[steps]`.
        returns: `f32[steps]`.
        clip: how far the policy may move.
    """
    ratio = torch.exp(log_probabilities - old_log_probabilities)
    clipped = torch.clamp(ratio, 1.0 - clip, 1.0 + clip) * advantages
    policy_loss = -torch.minimum(ratio * advantages, clipped).mean()
    return policy_loss + 0.5 * (values - returns).square().mean()
