"""The configuration of an attribution study: data, models, how many removals and subsets, which estimators."""

from __future__ import annotations

import math
from dataclasses import dataclass

from unlearn_jax.errors import InputError, choose
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.hyperparameters import check_seed, check_size

TRACKS = ("exact", "network")


@dataclass(frozen=True)
class AttributionConfig:
    """Influence as predicted from gradients against what removal changes, one example or a cluster at a time."""

    dataset: str = "digits"
    """registered data set of images or documents, or the path of a file of yours, as for unlearn-jax study"""
    model: str = ""
    """network of the second track; empty = the data set's own"""
    model_options: tuple[str, ...] = ()
    """options of the network as NAME=VALUE; empty = widths=64 for mlp"""
    tracks: str = "exact,network"
    """exact (softmax regression, removal to the optimum) and network (retrained populations), with a comma for both"""
    similarity: str = "near"
    """level of the constructed copies, as for unlearn-jax study"""
    copies: int = 4
    """similar samples of each target; 0 = none, and no cluster is removed"""
    num_targets: int = 20
    """clusters: targets with their copies"""
    targets: str = "atypical"
    """who they are: random or atypical"""
    train_size: int = 500
    """training examples before copies, a stratified subset; 0 = all"""
    queries: int = 100
    """test examples asked about, beside the targets"""
    estimators: str = "all"
    """names with commas, or all"""
    subsets: int = 128
    """networks trained on random halves, for memorization, datamodels and the linear datamodelling score"""
    repeats: int = 8
    """networks trained without each target and without each cluster"""
    ensemble: int = 4
    """networks over which gradient estimators are averaged"""
    steps: int = 600
    """updates of every network; 0 = the data set's preset"""
    l2: float = 1e-2
    """weight decay of the softmax regression"""
    damping: float = 0.0
    """added to curvatures, absolute; 0 = none for the exact track, a tenth of the mean curvature for networks"""
    seed: int = 0
    """what all randomness follows from"""


def checked(config: AttributionConfig) -> AttributionConfig:
    """The configuration, if it can be followed.

    Raises:
        InputError: a count below its least, an unknown track, bad l2 or damping.
    """
    least = {"copies": 0, "num_targets": 2, "train_size": 0, "queries": 2, "subsets": 16, "repeats": 2, "ensemble": 1}
    for name, low in (least | {"steps": 0}).items():
        if getattr(config, name) < low:
            raise InputError(f"--{name.replace('_', '-')} is {getattr(config, name)}: give at least {low}.")
        check_size(f"--{name.replace('_', '-')}", getattr(config, name))
    check_seed(config.seed)
    if not tracks_of(config):
        raise InputError(f"--tracks is empty: give {' or '.join(TRACKS)}.")
    if not 0 < config.l2 < math.inf or not 0 <= config.damping < math.inf:
        raise InputError(f"--l2 is {config.l2:g} and --damping {config.damping:g}: give more than 0, and 0 or more.")
    choose("targets", config.targets, ("random", "atypical"))
    return config


def tracks_of(config: AttributionConfig) -> list[str]:
    """The tracks in order."""
    tracks = [choose("track", name.strip(), TRACKS) for name in config.tracks.split(",") if name.strip()]
    return list(dict.fromkeys(tracks))


def study_of(config: AttributionConfig) -> StudyConfig:
    """The study whose data, clusters and recipe are used."""
    plain = config.model in ("", "mlp") and not config.model_options and config.dataset == "digits"
    return StudyConfig(
        dataset=config.dataset,
        model=config.model,
        model_options=("widths=64",) if plain else config.model_options,
        similarity=config.similarity,
        copies=str(config.copies),
        targets=config.targets,
        num_targets=config.num_targets,
        train_size=config.train_size,
        methods="none",
        members=config.ensemble,
        steps=config.steps,
        seed=config.seed,
    )
