"""Axes, options of models and hyperparameters as they are written on a command line."""

from __future__ import annotations

import math

from unlearn_jax.errors import InputError, choose
from unlearn_jax.methods import METHODS, check_setting
from unlearn_jax.models import model_options
from unlearn_jax.remedies import REMEDIES, remedy_settings
from unlearn_jax.roles import REFERENCES

MAY_BE_ZERO = (  # of a method
    "micro", "epochs", "max_epochs", "rounds", "steps", "inner", "noise_steps", "attack_steps", "warmup", "skip",
    "pieces", "settle",
)  # fmt: skip
SHARES = ("retain_share", "tail", "adjacent")


MAX_COUNT = 10_000_000
MAX_DRAWS = 1_000_000  # of intervals and bands, each a row of memory
MAX_FLOAT = 3.4028234663852886e38  # of float32


def numbers(text: str, name: str, kind: type[int] | type[float] = int) -> list:
    """The different comma-separated numbers in ``text``; `InputError` where one is not a number."""
    try:
        return list(dict.fromkeys(kind(part) for part in str(text).split(",") if part.strip()))
    except ValueError:
        what, example = ("whole numbers", "0,1,4") if kind is int else ("numbers", ".2,.5")
        raise InputError(f"--{name} is '{text}': give {what} separated by commas, such as {example}.") from None


def copies_axis(text: str) -> tuple[int, ...]:
    """The numbers of copies in ``text``, ascending; `InputError` where there is none, or one below 0."""
    copies = sorted(set(numbers(text, "copies")))
    if not copies:
        raise InputError("--copies names no number: give at least one, such as 4.")
    if copies[0] < 0:
        raise InputError(f"--copies has {copies[0]}: give 0 or more.")
    return tuple(copies)


def gamma_axis(text: str) -> tuple[float | None, ...]:
    """The shares in ``text``, ascending, (None,) where there is none; `InputError` outside (0, 1]."""
    gammas = sorted(numbers(text, "gamma", float))
    if text.strip() and not gammas:
        raise InputError(f"--gamma is '{text}': give shares in (0, 1], or leave it out.")
    for gamma in gammas:
        if not 0 < gamma <= 1:
            raise InputError(f"--gamma has {gamma:g}: give shares in (0, 1].")
    return tuple(gammas) or (None,)


def values_of(method: str, name: str, text: str) -> list:
    """The values of one hyperparameter of a method in its own type, or of a remedy, each value of which is a run."""
    remedy = method in REMEDIES
    entry, option = (REMEDIES if remedy else METHODS)[method], f"hp {method}.{name}"
    if not text.strip(" ,"):
        raise InputError(f"--{option} has no value: write METHOD.NAME=VALUE, such as scrub.alpha=.1,.5.")
    if name in entry.numeric:
        values = numbers(text, option, float)
        if any(math.isnan(value) for value in values):
            raise InputError(f"--{option} has nan: give numbers.")
        infinite = "inf" in text.lower()  # digits without end are infinite too
        for value in values:
            if value < 0 or (value > MAX_FLOAT and not (infinite and value == math.inf)):
                raise InputError(
                    f"--{option} is {value:g}: give 0 or more, and no more than float32 holds ({MAX_FLOAT:.3g})."
                )
        return values
    kind = type(entry.static[name])
    if remedy and "," in text:
        return list(dict.fromkeys(v for part in text.split(",") if part.strip() for v in values_of(method, name, part)))
    if kind is tuple:
        return [tuple(numbers(text, option))]
    if "," in text:
        raise InputError(f"'{method}.{name}' fixes shapes: give one value, and one run for each.")
    if kind is bool:
        return [choose(f"value of {method}.{name}", text.lower(), ("true", "false")) == "true"]
    if remedy and name in entry.choices:
        return [choose(f"value of {method}.{name}", text, entry.choices[name])]
    if kind not in (int, float):
        return [kind(text)]
    value, least = numbers(text, option, kind)[0], 0
    if kind is int and name not in MAY_BE_ZERO and entry.static[name]:
        least = 1
    if not least <= value < math.inf:
        raise InputError(f"--{option} is {value}: give {least} or more.")
    if kind is int:
        check_size(f"--{option}", value)
    if (name in SHARES or (remedy and name in entry.shares)) and value > 1:
        raise InputError(f"--{option} is {value}: it is a share, give at most 1.")
    return [value]


def check_size(option: str, value: int, most: int = MAX_COUNT) -> None:
    """Raise `InputError` for a count beyond reason: of updates, draws, members or examples."""
    if value > most:
        raise InputError(f"{option} is {value:.4g}: give at most {most:,}.")


def check_seed(seed: int) -> None:
    """Raise `InputError` for a seed that JAX or NumPy would not take."""
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed is {seed}: give 0 up to {2**32 - 1}.")


def options_of_model(name: str, words: tuple[str, ...]) -> dict:
    """NAME=VALUE of a model's options, in the types of their defaults."""
    defaults, options = model_options(name), {}
    for text in words:
        option, equals, value = text.partition("=")
        if not (equals and value.strip()):
            raise InputError(f"--model-options '{text}' is not understood: write NAME=VALUE, such as width=16.")
        default = defaults[choose(f"{name} option", option, defaults)]
        if isinstance(default, tuple):
            options[option] = tuple(numbers(value, f"model-options {option}"))
        else:
            # a default of None is a number that the model chooses
            whole = default is None or (isinstance(default, int) and not isinstance(default, bool))
            options[option] = numbers(value, f"model-options {option}")[0] if whole else value
    return options


def settings_of_methods(words: tuple[str, ...], methods: tuple[str, ...], remedies: tuple[str, ...]) -> dict:
    """METHOD.NAME=VALUE[,VALUE...] of the methods and remedies that are run."""
    settings = {}
    for text in words:
        left, equals, values = text.partition("=")
        method, dot, name = left.partition(".")
        if not (equals and dot and values):
            raise InputError(f"--hp '{text}' is not understood: write METHOD.NAME=VALUE, such as scrub.alpha=.1,.5.")
        if method in REMEDIES:
            remedy_settings(method, {name: values})
        else:
            check_setting(method, name)
        if method not in (remedies if method in REMEDIES else methods):
            option = "--remedies" if method in REMEDIES else "--methods"
            raise InputError(f"--hp names '{method}', which this study does not run: add it to {option}.")
        if method in REFERENCES:
            raise InputError("retrain is a reference and follows the recipe: use --lr, --steps and --batch.")
        if name in settings.get(method, {}):
            raise InputError(f"--hp gives {method}.{name} twice: write its values once, separated by commas.")
        settings.setdefault(method, {})[name] = values_of(method, name, values)
    return settings
