"""Adversarial trainings: two networks, two optimisers in turn, losses kept on the object.

The loss functions are methods of the object that holds both networks; they are what is converted.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.digits import load_digits
from benchmarks.models.gan import Discriminator, Generator
from benchmarks.models.pix2pix import PatchCritic, UNet
from benchmarks.trainings.base import Convert, Training

_L1_WEIGHT = 100.0


class AN:
    """A plain adversarial network on digits."""

    def __init__(self, convert: Convert, device: str, width: int, batch: int) -> None:
        self._images = load_digits().train_images[: 64 * batch].to(device)
        self.generator = Generator(width=width).to(device)
        self.discriminator = Discriminator(width=width).to(device)
        self.last_losses: dict[str, Tensor] = {}
        self.updates = 0
        self._learners = [_adam(self.discriminator), _adam(self.generator)]
        self._noise = torch.zeros(batch, self.generator.noise, device=device)
        self._discriminator_loss = convert(
            self.discriminator_loss, self._images[:batch], self._noise
        )
        self._generator_loss = convert(self.generator_loss, self._noise)

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Both sides."""
        return self.generator, self.discriminator

    def discriminator_loss(self, images: Tensor, noise: Tensor) -> Tensor:
        """Return how badly real images and drawn ones are told apart."""
        with torch.no_grad():
            drawn = self.generator(noise)
        loss = _logistic(self.discriminator(images), 0.9) + _logistic(
            self.discriminator(drawn), 0.0
        )
        self.last_losses["discriminator"] = loss.detach()
        self.updates += 1
        return loss

    def generator_loss(self, noise: Tensor) -> Tensor:
        """Return how badly the discriminator is fooled."""
        loss = _logistic(self.discriminator(self.generator(noise)), 1.0)
        self.last_losses["generator"] = loss.detach()
        return loss

    def step(self) -> tuple[Tensor, ...]:
        """Update the discriminator, then the generator."""
        batch = len(self._noise)
        start = self.updates * batch % len(self._images)
        learner, other = self._learners
        _update(
            learner,
            self._discriminator_loss(
                self._images[start : start + batch], torch.randn_like(self._noise)
            ),
        )
        _update(other, self._generator_loss(torch.randn_like(self._noise)))
        return tuple(self.last_losses.values())


class Pix2Pix:
    """Outlines of digits to digits, one image at a time, as for facades."""

    def __init__(self, convert: Convert, device: str, width: int, depth: int) -> None:
        self._drawings = load_digits().train_images[:64].clamp(-1, 1).to(device)
        self._outlines = _outlined(self._drawings)
        self.artist = UNet(width=width, depth=depth).to(device)
        self.critic = PatchCritic(width=width).to(device)
        self.history: list[Tensor] = []
        self._learners = [_adam(self.critic), _adam(self.artist)]
        example = self._outlines[:1], self._drawings[:1]
        self._critic_loss = convert(self.critic_loss, *example)
        self._artist_loss = convert(self.artist_loss, *example)
        self._at = 0

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Both sides."""
        return self.artist, self.critic

    def critic_loss(self, outline: Tensor, drawing: Tensor) -> Tensor:
        """Return how badly true drawings and made ones are told apart."""
        made = self.artist(outline).detach()
        true, false = self.critic(outline, drawing), self.critic(outline, made)
        loss = 0.5 * (_logistic(true, 1.0) + _logistic(false, 0.0))
        self.history.append(loss.detach())
        return loss

    def artist_loss(self, outline: Tensor, drawing: Tensor) -> Tensor:
        """Return how badly the critic is fooled, and how far the drawing is off."""
        made = self.artist(outline)
        loss = _logistic(self.critic(outline, made), 1.0) + _L1_WEIGHT * F.l1_loss(made, drawing)
        self.history.append(loss.detach())
        return loss

    def step(self) -> tuple[Tensor, ...]:
        """Update the critic, then the artist."""
        chosen = slice(self._at, self._at + 1)
        self._at = (self._at + 1) % len(self._drawings)
        outline, drawing = self._outlines[chosen], self._drawings[chosen]
        learner, other = self._learners
        _update(learner, self._critic_loss(outline, drawing))
        _update(other, self._artist_loss(outline, drawing))
        return tuple(self.history[-2:])


def _logistic(logits: Tensor, wanted: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, wanted))


def _adam(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _outlined(images: Tensor) -> Tensor:
    """Return the size of the gradient at each pixel."""
    across = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    kernels = torch.stack([across, across.t()])[:, None].to(images)
    slope: Tensor = F.conv2d(images, kernels, padding=1).norm(dim=1, keepdim=True)
    return slope.clamp(max=4.0) / 2.0 - 1.0


def an(convert: Convert, device: str, is_small: bool) -> Training:  # noqa: FBT001 # a builder
    """Start the adversarial network."""
    width, batch = (8, 8) if is_small else (64, 128)
    return AN(convert, device, width, batch)


def pix2pix(convert: Convert, device: str, is_small: bool) -> Training:  # noqa: FBT001 # a builder
    """Start pix2pix on images of 32 x 32, so that five halvings are the most."""
    width, depth = (8, 4) if is_small else (64, 5)
    return Pix2Pix(convert, device, width, depth)
