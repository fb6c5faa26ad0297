"""What a search for similar samples is asked: data, what makes two alike, how near is near, what a cluster is."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import Study, resolve

OWN_FILE = "file"  # the embedding of a run that was given one
PRESET = {"image": "pixels", "facts": "words", "text": "tfidf"}  # by kind of data, where none is named
THRESHOLDS = {"minilm": 0.9, "features": 0.95, "influence": 0.9, "minhash": 0.8, OWN_FILE: 0.95}


@dataclass(frozen=True)
class MiningConfig:
    """Similar samples of a data set, and the clusters that they form."""

    dataset: str = "digits"
    """registered data set, or the path of a file of yours, as for unlearn-jax study"""
    embedding: str = ""
    """what makes two samples alike: pixels (block means), tfidf, minilm, minhash (shared n-grams), words (facts: word
    counts), features (of a network trained on the data) or influence (its gradients, by curvature); empty = pixels,
    tfidf or words"""
    threshold: float | None = None
    """least cosine (minhash: Jaccard index) of neighbours; empty = the embedding's own; 0 with --mutual = none"""
    k: int = 10
    """neighbours kept of each sample"""
    mutual: bool = False
    """link two samples only where each is among the other's k nearest"""
    largest: float = 0.1
    """share of the training samples from which one cluster is refused as a chain rather than a cluster"""
    model: str = ""
    """network of features and influence; empty = the data set's own"""
    model_options: tuple[str, ...] = ()
    """its options as NAME=VALUE"""
    features: str = ""
    """what that network is given of texts, as for unlearn-jax study; empty = tfidf"""
    steps: int = 0
    """its updates; 0 = the data set's preset"""
    members: int = 1
    """networks over which cosines of features and influence are averaged"""
    layers: str = ""
    """of influence: last or all; empty = last"""
    ngrams: str = ""
    """of minhash: words:N or chars:N; empty = words:3"""
    permutations: int = 0
    """of minhash: hash functions of a signature; 0 = 128"""
    min_documents: int = 0
    """of tfidf: training texts that a word must be in to count; 0 = 1"""
    train_size: int = 0
    """stratified subset of the training samples; 0 = all"""
    test_size: int = 0
    """stratified subset of the test samples; 0 = all"""
    seed: int = 0
    """what all randomness follows from"""


def embedding_of(config: MiningConfig, own: bool = False) -> str:
    """The name of the embedding: the one asked for, the kind of data's own, or that of the user's file."""
    if own:
        return OWN_FILE
    return config.embedding or PRESET[study_of(config).kind]


def threshold_of(config: MiningConfig, own: bool = False) -> float:
    """The least cosine or Jaccard index of neighbours."""
    if config.threshold is not None:
        return config.threshold
    name = embedding_of(config, own)
    if name == "pixels" and (own_cosine := study_of(config).spec.neighbour_cosine):
        return own_cosine
    return THRESHOLDS[name] if name in THRESHOLDS else study_of(config).dedup_threshold


def study_of(config: MiningConfig) -> Study:
    """The study whose recipe the networks of `features` and `influence` are trained by."""
    shared = ("dataset", "model", "model_options", "features", "steps", "seed")
    return resolve(StudyConfig(methods="none", **{name: getattr(config, name) for name in shared}))
