"""A study's options in groups, so that the few that matter are easy to find."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import tyro

from unlearn_jax.studies.config import Clusters, Data, Methods, Precision, StudyConfig, Training


@dataclass(frozen=True)
class StudyArgs:
    """What scripts that take a study's options begin with."""

    data: tyro.conf.OmitArgPrefixes[Data] = Data()
    clusters: tyro.conf.OmitArgPrefixes[Clusters] = Clusters()
    methods: tyro.conf.OmitArgPrefixes[Methods] = Methods()
    precision: tyro.conf.OmitArgPrefixes[Precision] = Precision()
    training: tyro.conf.OmitArgPrefixes[Training] = Training()

    @property
    def study(self) -> StudyConfig:
        """The groups as one configuration."""
        groups = (self.data, self.clusters, self.methods, self.precision, self.training)
        return StudyConfig(**{key: value for group in groups for key, value in dataclasses.asdict(group).items()})


@dataclass(frozen=True)
class Run:
    """Where trained members are kept, and how the devices are used."""

    store: Path | None = None
    """folder of trained members, shared with studies; default "populations" beside the run folder"""
    data_dir: Path | None = None
    """prepared data; default $UNLEARN_JAX_DATA, else ~/tensorflow_datasets"""
    chunk: int = 0
    """members in one compiled program; 0 = by backend"""
    axis: str = "auto"
    """members side by side (vmap) or one after another in the program (map); auto = by model and backend"""
    quiet: bool = False
    """no progress"""
