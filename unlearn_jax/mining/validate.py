"""What a search for similar samples can be asked, checked before anything is read."""

from __future__ import annotations

from pathlib import Path

from unlearn_jax.data.text.minhash import bands, unit_and_size
from unlearn_jax.errors import InputError, choose
from unlearn_jax.mining.config import MiningConfig, embedding_of, study_of, threshold_of
from unlearn_jax.mining.embeddings import EMBEDDINGS
from unlearn_jax.studies.hyperparameters import check_seed, check_size
from unlearn_jax.studies.validate import check

MAX_NEIGHBOURS = 1000
LAYERS = ("last", "all")
LEAST = {"k": 1, "members": 1, "train_size": 0, "test_size": 0, "permutations": 0, "min_documents": 0}
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


def checked(config: MiningConfig, embedding_file: Path | None = None) -> MiningConfig:
    """The configuration, if it can be followed.

    Raises:
        InputError: a count below its least, an unknown name, an embedding that the kind of data does not have, a
            threshold outside its range, options without a meaning for the embedding.
    """
    from_file, kind = embedding_file is not None, study_of(config).kind
    if from_file and config.embedding:
        raise InputError(f"--embedding {config.embedding} and --embedding-file were both given: leave one out.")
    name = embedding_of(config, from_file)
    if not from_file:
        valid = [key for key, entry in EMBEDDINGS.items() if kind in entry.kinds]
        choose(f"embedding of '{config.dataset}'", name, valid)
    for option, names in ONLY_FOR.items():
        if getattr(config, option) and name not in names:
            raise InputError(f"--{option.replace('_', '-')} has no meaning for the embedding {name}: leave it out.")
    for option, least in LEAST.items():
        if getattr(config, option) < least:
            raise InputError(f"--{option.replace('_', '-')} is {getattr(config, option)}: give at least {least}.")
        check_size(f"--{option.replace('_', '-')}", getattr(config, option))
    check_size("--steps", config.steps)
    check_seed(config.seed)
    if config.k > MAX_NEIGHBOURS:
        raise InputError(f"--k is {config.k}: give at most {MAX_NEIGHBOURS}.")
    if config.members > 1 and name not in ("features", "influence"):
        raise InputError(f"--members has no meaning for the embedding {name}: leave it out.")
    if not 0 < config.largest <= 1:
        raise InputError(f"--largest is {config.largest:g}: give a share in (0, 1].")
    threshold = threshold_of(config, from_file)
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
