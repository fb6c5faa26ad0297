"""What a search for similar samples is asked: data, what makes two alike, how near is near, what a cluster is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unlearn_jax.checks import check
from unlearn_jax.config import StudyConfig, dedup_threshold_of, kind_of
from unlearn_jax.data.minhash import bands, unit_and_size
from unlearn_jax.errors import InputError, choose
from unlearn_jax.settings import check_seed, check_size

MOST_NEIGHBOURS = 1000
LAYERS = ("last", "all")
OWN_FILE = "file"  # the embedding of a run that was given one
PRESET = {
    "pixels": "image",
    "words": "facts",
    "tfidf": "text",
}  # the embedding of each kind of data where none is named
THRESHOLDS = {"minilm": 0.9, "features": 0.95, "influence": 0.9, "minhash": 0.8, OWN_FILE: 0.95}
DENSE = {"fashion_mnist": 0.995}  # by pixels: at .99 chains of pairs link a fifth of the images
ONLY_FOR = {  # options that have a meaning for some embeddings alone
    "model": ("features", "influence"),
    "model_options": ("features", "influence"),
    "features": ("features", "influence"),
    "steps": ("features", "influence"),
    "layers": ("influence",),
    "ngrams": ("minhash",),
    "permutations": ("minhash",),
    "min_documents": ("tfidf",),
}


@dataclass(frozen=True)
class MiningConfig:
    """Similar samples of a data set, and the clusters that they form."""

    dataset: str = "digits"
    """registered data set, or the path of a file of yours, as for experiments/study.py"""
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
    """what that network is given of texts, as for experiments/study.py; empty = tfidf"""
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
    kind = kind_of(study_of(config))
    return config.embedding or next(name for name, of in PRESET.items() if of == kind)


def threshold_of(config: MiningConfig, own: bool = False) -> float:
    """The least cosine or Jaccard index of neighbours."""
    if config.threshold is not None:
        return config.threshold
    name = embedding_of(config, own)
    if name == "pixels" and config.dataset in DENSE:
        return DENSE[config.dataset]
    return THRESHOLDS[name] if name in THRESHOLDS else dedup_threshold_of(study_of(config))


def study_of(config: MiningConfig) -> StudyConfig:
    """The study whose recipe the networks of `features` and `influence` are trained by."""
    return StudyConfig(
        dataset=config.dataset,
        model=config.model,
        model_options=config.model_options,
        features=config.features,
        steps=config.steps,
        methods="none",
        seed=config.seed,
    )


def checked(config: MiningConfig, embedding_file: Path | None = None) -> MiningConfig:
    """The configuration, if it can be followed.

    Raises:
        InputError: a count below its least, an unknown name, an embedding that the kind of data does not have, a
            threshold outside its range, options without a meaning for the embedding.
    """
    from unlearn_jax.mining.embeddings import EMBEDDINGS

    own, kind = embedding_file is not None, kind_of(study_of(config))
    if own and config.embedding:
        raise InputError(f"--embedding {config.embedding} and --embedding-file were both given: leave one out.")
    name = embedding_of(config, own)
    if not own:
        valid = [key for key, entry in EMBEDDINGS.items() if kind in entry.kinds]
        choose(f"embedding of '{config.dataset}'", name, valid)
    for option, names in ONLY_FOR.items():
        if getattr(config, option) and name not in names:
            raise InputError(f"--{option.replace('_', '-')} has no meaning for the embedding {name}: leave it out.")
    for option, least in (
        ("k", 1),
        ("members", 1),
        ("train_size", 0),
        ("test_size", 0),
        ("permutations", 0),
        ("min_documents", 0),
    ):
        if getattr(config, option) < least:
            raise InputError(f"--{option.replace('_', '-')} is {getattr(config, option)}: give at least {least}.")
        check_size(f"--{option.replace('_', '-')}", getattr(config, option))
    check_size("--steps", config.steps)
    check_seed(config.seed)
    if config.k > MOST_NEIGHBOURS:
        raise InputError(f"--k is {config.k}: give at most {MOST_NEIGHBOURS}.")
    if config.members > 1 and name not in ("features", "influence"):
        raise InputError(f"--members has no meaning for the embedding {name}: leave it out.")
    if not 0 < config.largest <= 1:
        raise InputError(f"--largest is {config.largest:g}: give a share in (0, 1].")
    threshold = threshold_of(config, own)
    free = config.mutual and threshold == 0 and name != "minhash"
    if not (free or 0 < threshold <= 1):
        raise InputError(f"--threshold is {threshold:g}: give one in (0, 1], or 0 with --mutual.")
    if name == "minhash":
        unit_and_size(config.ngrams or "words:3")
        bands(threshold, *([config.permutations] if config.permutations else []))
    if name in ("features", "influence"):
        choose("layers", config.layers or "last", LAYERS)
        check(study_of(config))
    return config
