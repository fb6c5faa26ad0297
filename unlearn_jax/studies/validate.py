"""What can be seen to be wrong with a configuration before any data is read."""

from __future__ import annotations

import math

from unlearn_jax.data.benchmarks import benchmark_named, check_fits
from unlearn_jax.data.kinds import KINDS
from unlearn_jax.data.text.readers import READERS
from unlearn_jax.errors import InputError, choose
from unlearn_jax.methods import METHODS, SCALES, settings_at
from unlearn_jax.models import model_options, reads
from unlearn_jax.studies.hyperparameters import MAX_DRAWS, MAX_FLOAT, check_seed, check_size
from unlearn_jax.studies.pretrained import check_rank
from unlearn_jax.studies.remedies import check_remedies
from unlearn_jax.studies.resolve import TARGETS, Study


def check(study: Study) -> None:
    """Raise `InputError` for what can be seen to be wrong before any data is read."""
    config = study.config
    if config.benchmark:
        check_fits(benchmark_named(config.benchmark), config.dataset, config.similarity, list(study.copies))
    KINDS[study.kind].check_level(config.similarity)
    _check_inputs(study)
    if config.lora:
        check_rank(config.lora, study.model)
    choose("targets", config.targets, TARGETS)
    choose("equal", config.equal, ("steps", "epochs"))
    if study.members < 1:
        raise InputError(f"--members is {study.members}: give at least 1.")
    if config.requests < 1 or config.requests > study.members:
        raise InputError(f"--requests is {config.requests} with {study.members} members: give 1 up to that many.")
    if config.skip_requests < 0:
        raise InputError(f"--skip-requests is {config.skip_requests}: give 0 or more.")
    check_seed(config.seed)
    if not 0 <= config.dedup_threshold <= 1:
        raise InputError(f"--dedup-threshold is {config.dedup_threshold:g}: give a cosine in (0, 1], or 0 (preset).")
    for name in ("num_targets", "resamples"):
        if getattr(config, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} is {getattr(config, name)}: give at least 1.")
    for name in ("train_size", "test_size", "steps", "batch", "lr", "budget", "vocabulary", "context"):
        value = getattr(config, name) or 0
        if value < 0 or not math.isfinite(value):
            raise InputError(f"--{name.replace('_', '-')} is {value}: give 0 (the preset) or more.")
    counts = ("train_size", "test_size", "steps", "batch", "vocabulary", "context", "members", "num_targets", "lora")
    for name in counts:
        check_size(f"--{name.replace('_', '-')}", getattr(config, name) or 0)
    check_size("--resamples", config.resamples, MAX_DRAWS)
    if (config.lr or 0) > MAX_FLOAT:
        raise InputError(f"--lr is {config.lr:g}: give no more than float32 holds ({MAX_FLOAT:.3g}).")
    if config.scale:
        choose("scale", config.scale, SCALES)
    named = [name.strip() for name in config.methods.split(",")]
    if not any(named):
        raise InputError("--methods is empty: give core, all, none, or names with commas.")
    for name in study.left_out:
        if name in named:
            if study.answers not in METHODS[name].reads:
                raise InputError(
                    f"'{name}' is not defined for {study.answers}: leave it out, or ask for --methods all."
                )
            if study.kind == "text" and "pixels" in METHODS[name].needs:
                raise InputError(f"'{name}' perturbs pixels, which texts have none of: leave it out.")
            settings_at(METHODS[name], study.scale)
            raise InputError(f"'{name}' is for whole classes: ask with --targets whole_class, or leave it out.")
    if config.dtype:
        choose("dtype", config.dtype, ("float32", "bfloat16"))
    for derived in ("copies", "gammas", "settings", "model_options", "metrics"):
        getattr(study, derived)
    if study.remedies:
        check_remedies(study)


def _check_inputs(study: Study) -> None:
    """Raise `InputError` where the model, the reader and the data do not go together."""
    text, inputs = study.kind == "text", study.inputs
    name, recipe, config = study.model, study.recipe, study.config
    choose("features", config.features or "tfidf", READERS)
    model_options(name)  # the name is one of a model
    if inputs not in reads(name):
        form = f" as {inputs}" if text else ""
        offer = ", or take --features tokens" if text and name == "encoder" else ""
        raise InputError(
            f"model '{name}' does not read the data of '{config.dataset}'{form}: leave --model out{offer}."
        )
    if study.kind != "image" and recipe.augment != "none":
        raise InputError(f"--augment {recipe.augment} is for images: leave it out.")
    options = [name for name in ("features", "vocabulary", "context", "tokenizer") if getattr(config, name)]
    if options and not text:
        raise InputError(f"--{options[0]} is for texts, and '{config.dataset}' has none: leave it out.")
    features = study.features.name
    for option, readers in (
        ("vocabulary", ("tfidf", "tokens")),
        ("context", ("tokens", "wordpiece", "minilm")),
        ("tokenizer", ("tokens",)),
    ):
        if option in options and features not in readers:
            raise InputError(f"--{option} has no meaning for the features {features}: leave it out.")
