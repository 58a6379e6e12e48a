"""The programs of JANUS's evaluation, written anew, each with its data and training loop."""

from __future__ import annotations

from benchmarks.trainings.base import TrainingCase
from benchmarks.trainings.control import a3c, missing, ppo
from benchmarks.trainings.gans import an, pix2pix
from benchmarks.trainings.images import inception_v3, lenet, resnet50
from benchmarks.trainings.texts import lm, lstm
from benchmarks.trainings.trees import tree_lstm, tree_rnn

TRAININGS: tuple[TrainingCase, ...] = (
    TrainingCase(name="lenet", build=lenet),
    TrainingCase(name="resnet50", build=resnet50),
    TrainingCase(name="inception_v3", build=inception_v3, is_random=True),
    TrainingCase(name="lstm", build=lstm),
    TrainingCase(name="lm", build=lm, is_random=True),
    TrainingCase(name="tree_rnn", build=tree_rnn),
    TrainingCase(name="tree_lstm", build=tree_lstm),
    TrainingCase(name="a3c", build=a3c, missing=missing),
    TrainingCase(name="ppo", build=ppo, missing=missing),
    TrainingCase(name="an", build=an, is_random=True),
    TrainingCase(name="pix2pix", build=pix2pix, is_random=True),
)
