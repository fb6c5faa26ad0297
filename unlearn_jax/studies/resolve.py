"""What a study's configuration means: presets by data set, axes, settings and names."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from unlearn_jax.data.benchmarks import benchmark_named
from unlearn_jax.data.sources.corpora import CORPORA
from unlearn_jax.data.sources.facts import PEOPLE_OF
from unlearn_jax.data.sources.tables import READERS as TABLES
from unlearn_jax.data.text.readers import Features
from unlearn_jax.errors import InputError, choose
from unlearn_jax.methods import METHODS, check_setting, has_scale, select
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.models import model_options
from unlearn_jax.remedies import REMEDIES, remedy_settings, select_remedies
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.dataset_presets import Preset
from unlearn_jax.studies.hyperparameters import numbers, values_of

MOVES_PIXELS = (
    "amun",
    "boundary_shrink",
    "jit_lipschitz",
    "l2ul",
    "mu_mis",
    "rurk",
    "unsir",
)  # methods that perturb inputs
LATER = (
    "skip_requests",
    "benchmark",
    "presets",
)  # fields that came later: studies that leave them empty keep the names of their folders
TARGETS = ("random", "class", "whole_class", "atypical", "distant", "contested", "person")


def resolved(config: StudyConfig) -> StudyConfig:
    """The configuration with the data set's own values where it leaves them open."""
    preset = Preset.STUDY | Preset.STUDY_BY_DATASET.get(dataset_of(config), {})
    preset |= Preset.STUDY_BY_MODEL.get(recipe_of(config)[0], {})
    if config.similarity.startswith("natural"):
        preset |= Preset.NATURAL
    if config.benchmark:
        preset |= benchmark_named(config.benchmark).settings
    preset |= {"dataset": dataset_of(config)}
    left_open = {name: value for name, value in preset.items() if getattr(config, name) in ("", None)}
    return dataclasses.replace(config, **left_open)


def dataset_of(config: StudyConfig) -> str:
    """The data set: the one that is named, else the benchmark's, else digits."""
    usual = benchmark_named(config.benchmark).sources[0] if config.benchmark else "digits"
    return config.dataset or usual


def copies_of(config: StudyConfig) -> list[int]:
    """The copies axis, ascending."""
    copies = sorted(set(numbers(resolved(config).copies, "copies")))
    if not copies:
        raise InputError("--copies names no number: give at least one, such as 4.")
    if copies[0] < 0:
        raise InputError(f"--copies has {copies[0]}: give 0 or more.")
    return copies


def max_copies(config: StudyConfig) -> int:
    """Similar samples of each target that are laid out, of which a level keeps the first: of a benchmark always all."""
    least = benchmark_named(config.benchmark).copies[-1] if config.benchmark else 0
    return max(least, *copies_of(config))


def gammas_of(config: StudyConfig) -> list[float | None]:
    """The gamma axis, ascending; [None] = the targets alone."""
    gammas = sorted(numbers(config.gamma, "gamma", float))
    if config.gamma.strip() and not gammas:
        raise InputError(f"--gamma is '{config.gamma}': give shares in (0, 1], or leave it out.")
    for gamma in gammas:
        if not 0 < gamma <= 1:
            raise InputError(f"--gamma has {gamma:g}: give shares in (0, 1].")
    return list(gammas) or [None]


def settings_of(config: StudyConfig) -> dict[str, dict[str, list]]:
    """Hyperparameters by method: name -> list of values.

    Raises:
        InputError: malformed text, unknown method or hyperparameter, a method that the study does not run, several
            values of a setting that fixes shapes.
    """
    chosen, found = selected_methods(config), {}
    for text in config.hp:
        left, equals, values = text.partition("=")
        method, dot, name = left.partition(".")
        if not (equals and dot and values):
            raise InputError(f"--hp '{text}' is not understood: write METHOD.NAME=VALUE, such as scrub.alpha=.1,.5.")
        if method in REMEDIES:
            remedy_settings(method, {name: values})
        else:
            check_setting(method, name)
        if method in REMEDIES and method not in select_remedies(config.remedies):
            raise InputError(f"--hp names '{method}', which this study does not run: add it to --remedies.")
        if method not in REMEDIES and method not in chosen:
            raise InputError(f"--hp names '{method}', which this study does not run: add it to --methods.")
        if method == "retrain":
            raise InputError("retrain is a reference and follows the recipe: use --lr, --steps and --batch.")
        if name in found.get(method, {}):
            raise InputError(f"--hp gives {method}.{name} twice: write its values once, separated by commas.")
        found.setdefault(method, {})[name] = values_of(method, name, values)
    return found


def scale_of(config: StudyConfig) -> str:
    """Whose default hyperparameters the methods take: those asked for, or by the data set and the model."""
    if config.scale or dataset_of(config) in ("cifar10", "cifar100"):
        return config.scale or "cifar"
    plain = "small_text" if kind_of(config) == "text" else "small"
    small = {"linear": plain, "mlp": plain} | dict.fromkeys(("decoder", "encoder", "minilm"), "small_transformer")
    return small.get(recipe_of(config)[0], "small_conv")


def dedup_threshold_of(config: StudyConfig) -> float:
    """The cosine of the dedup reference: on Fashion-MNIST .97 still takes 60% of the images for duplicates.

    Of words it is .9: on `facts`, .85 takes as many other statements for duplicates as it finds near ones.
    """
    preset = 0.9 if kind_of(config) in ("text", "facts") else 0.99 if dataset_of(config) == "fashion_mnist" else 0.97
    return config.dedup_threshold or preset


def natural_cosine_of(config: StudyConfig) -> float:
    """The least cosine of mined neighbours where the level names none."""
    by = Preset.NATURAL_COSINE
    return by.get(dataset_of(config), by.get(kind_of(config), 1.0))


def selected_methods(config: StudyConfig) -> list[str]:
    """The methods that the study runs: those asked for, without those that are `left_out`."""
    out = left_out(config)
    return [name for name in select(config.methods, answers_of(config)) if name not in out]


def left_out(config: StudyConfig) -> dict[str, str]:
    """A sentence for each method that the data, the targets, no class, or the scale, without defaults, leave out."""
    found, scale, config = {}, scale_of(config), resolved(config)
    named = {name.strip() for name in config.methods.split(",")}
    for name in select(config.methods, answers_of(config)):
        if name not in named and answers_of(config) in METHODS[name].unfit:
            why = METHODS[name].unfit[answers_of(config)]
            found[name] = f"{name} does not fit {answers_of(config)} and was not run, ask for it by name: {why}"
        elif answers_of(config) not in METHODS[name].reads:
            found[name] = f"{name} is not defined for {answers_of(config)} and was not run"
        elif kind_of(config) == "text" and name in MOVES_PIXELS:
            found[name] = f"{name} perturbs pixels, which texts have none of, and was not run"
        elif "class" in METHODS[name].needs and config.targets != "whole_class":
            found[name] = f"{name} is for requests of a whole class and was not run: ask with --targets whole_class"
        elif not has_scale(METHODS[name], scale):
            found[name] = f"{name} has no defaults at scale {scale} and was not run: ask with --scale small"
    return found


def kind_of(config: StudyConfig) -> str:
    """The kind of data that the data set is of, a key of `KINDS`."""
    if dataset_of(config) in CORPORA or Path(dataset_of(config)).suffix.lower() in TABLES:
        return "text"
    return "facts" if dataset_of(config) in PEOPLE_OF else "image"


def features_of(config: StudyConfig) -> Features:
    """How the texts of the study are read."""
    name = config.features or {"encoder": "tokens", "minilm": "wordpiece"}.get(config.model, "tfidf")
    return Features(name, config.vocabulary, config.context, config.tokenizer)


def inputs_of(config: StudyConfig) -> str:
    """What a model of the study is given: images, language, or, of texts, tokens, wordpiece or vectors."""
    if kind_of(config) == "text":
        name = features_of(config).name
        return name if name in ("tokens", "wordpiece") else "vectors"
    return {"facts": "language"}.get(kind_of(config), "images")


def answers_of(config: StudyConfig) -> str:
    """What the models of the study answer with, one of `Entry.reads`."""
    return "language" if kind_of(config) == "facts" else "classes"


def dataset_name(config: StudyConfig) -> str:
    """The data set's name in records: the registry's, or that of the user's file."""
    own = dataset_of(config).endswith(".npz") or Path(dataset_of(config)).suffix.lower() in TABLES
    return Path(dataset_of(config)).name if own else dataset_of(config)


def recipe_of(config: StudyConfig) -> tuple[str, Recipe]:
    """Model name and training recipe: the data set's preset with the configuration's overrides."""
    model, recipe = Preset.BY_DATASET.get(dataset_of(config), ("convnet", Preset.IMAGE))
    if kind_of(config) == "text":
        model = {"tokens": "encoder", "wordpiece": "minilm"}.get(config.features) or config.model
        recipe = Preset.BY_TEXT_MODEL.get(model, Preset.TEXT)
        model = model or "mlp"
    given = {name: getattr(config, name) for name in ("steps", "batch", "lr", "augment") if getattr(config, name)}
    return config.model or model, recipe._replace(**given)


def model_options_of(config: StudyConfig) -> dict:
    """Options of the model in the types of their defaults.

    Raises:
        InputError: malformed text, an unknown model or option.
    """
    name, found = recipe_of(config)[0], {}
    defaults = model_options(name)
    for text in config.model_options:
        option, equals, value = text.partition("=")
        if not (equals and value.strip()):
            raise InputError(f"--model-options '{text}' is not understood: write NAME=VALUE, such as width=16.")
        default = defaults[choose(f"{name} option", option, defaults)]
        if isinstance(default, tuple):
            found[option] = tuple(numbers(value, f"model-options {option}"))
        else:
            found[option] = numbers(value, f"model-options {option}")[0] if _whole(default) else value
    return found


def _whole(default) -> bool:
    """Whether an option takes a whole number: its default is one, or is chosen by the model."""
    return default is None or (isinstance(default, int) and not isinstance(default, bool))


def run_name(config: StudyConfig) -> str:
    """A folder name that says what the study is and differs where the configuration does."""
    config = resolved(config)
    told = {name: value for name, value in dataclasses.asdict(config).items() if value or name not in LATER}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:6]
    return f"{config.benchmark or dataset_name(config)}-{config.similarity.replace(':', '')}-{config.targets}-{digest}"
