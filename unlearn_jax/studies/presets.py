"""Preset files: settings of methods that a study takes where ``--hp`` says nothing (``--presets``).

A preset file is JSON, ``{"presets": 1, "methods": {"scrub": {"lr": 0.01, "decay": [5, 8]}}, "about": {...}}``: by
method, or remedy, one value of each setting that it names; ``about`` says where they come from and is for readers.
``unlearn-jax sweep`` writes such files. Those that come with the package lie in ``presets_data`` and go by name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, check_setting
from unlearn_jax.remedies import REMEDIES, remedy_settings
from unlearn_jax.runtime import multihost
from unlearn_jax.runtime.archives import read_json
from unlearn_jax.runtime.disk import write_whole
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.hyperparameters import values_of
from unlearn_jax.studies.resolve import resolve

SHIPPED = Path(__file__).parent / "presets_data"
VERSION = 1


class Presets(NamedTuple):
    """The content of a preset file."""

    name: str  # of the file, without its folder, or of the shipped preset
    digest: str  # of the settings, whatever else the file says
    methods: dict[str, dict[str, str]]  # by method or remedy, settings as ``--hp`` writes them
    about: dict[str, Any]


def read_presets(source: str) -> Presets:
    """A preset file, or a shipped preset by its name.

    Raises:
        InputError: no such file or name; a file that is not JSON, of another form, or with an unknown method,
            an unknown setting or a value that the setting cannot have.
    """
    path = Path(source)
    if not path.is_file() and (SHIPPED / f"{source}.json").is_file():
        path = SHIPPED / f"{source}.json"
    try:
        content = read_json(path)
    except FileNotFoundError as error:
        shipped = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.json")))
        offer = f"one of {shipped}, or a file" if shipped else "a file"
        raise InputError(f"there are no presets '{source}': give {offer} that unlearn-jax sweep wrote.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the presets '{source}': give a JSON file of unlearn-jax sweep.") from error
    methods = content.get("methods") if isinstance(content, dict) and content.get("presets") == VERSION else None
    if not isinstance(methods, dict) or not all(isinstance(values, dict) for values in methods.values()):
        form = f'{{"presets": {VERSION}, "methods": {{METHOD: {{NAME: VALUE}}}}}}'
        raise InputError(f"'{source}' is no preset file: it must hold {form}.")
    words = {name: {key: _word(source, name, key, v) for key, v in values.items()} for name, values in methods.items()}
    digest = hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()
    about = content.get("about")
    return Presets(path.stem, digest, words, about if isinstance(about, dict) else {})


def write_presets(path: Path, methods: dict[str, dict[str, Any]], about: dict[str, Any]) -> None:
    """Write a preset file, whole or not at all; ``methods`` as in `read_presets`, tuples as lists, infinity as a word.

    Raises:
        InputError: the file cannot be written.
    """
    plain = lambda value: str(value) if value in (math.inf, -math.inf) else value  # JSON has no infinity
    settings = {name: {key: plain(value) for key, value in values.items()} for name, values in methods.items()}
    content = json.dumps({"presets": VERSION, "methods": settings, "about": about}, indent=1) + "\n"
    try:
        write_whole(path, lambda part: part.write_text(content, encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror}): choose a writable place.") from error


def with_presets(config: StudyConfig) -> tuple[StudyConfig, dict[str, Any]]:
    """The configuration with the settings of its presets among ``hp``, where that does not name them already.

    So a study is the same, by name, by what it stores and by its records, whether its settings come from a file or from
    ``--hp``.

    Returns:
        The configuration, whose ``presets`` is then empty, and what the manifest says of the presets; {} for none.

    Raises:
        InputError: a bad file, see `read_presets`, or one that says nothing of what the study runs.
    """
    if not config.presets:
        return config, {}
    presets = Presets(**multihost.from_process_zero(lambda: read_presets(config.presets)._asdict()))
    run = [*(study := resolve(config)).methods, *study.remedies]
    used = {name: values for name, values in presets.methods.items() if name in run and values}
    if not used:
        kept = ", ".join(name for name in run if name in presets.methods)
        defaults = f"keep the defaults of {kept} and " if kept else ""
        others = ", ".join(name for name, values in presets.methods.items() if values) or "no method"
        raise InputError(
            f"the presets '{config.presets}' {defaults}have settings of {others}, none of which this study runs: "
            "name one in --methods, or leave --presets out."
        )
    named = {text.partition("=")[0] for text in config.hp}
    words = [f"{m}.{k}={v}" for m, values in used.items() for k, v in values.items() if f"{m}.{k}" not in named]
    record = {"name": presets.name, "digest": presets.digest, "settings": words, "about": presets.about}
    return dataclasses.replace(config, hp=(*config.hp, *words), presets=""), record


def _word(source: str, method: str, name: str, value) -> str:
    """A value as ``--hp`` writes it, checked as it checks it."""
    try:
        if method not in METHODS and method not in REMEDIES:
            raise InputError(f"there is no method or remedy '{method}'")
        text = _text(value)
        remedy_settings(method, {name: text}) if method in REMEDIES else check_setting(method, name)
        entry = (REMEDIES if method in REMEDIES else METHODS)[method]
        whole, flag = isinstance(entry.static.get(name), tuple), isinstance(entry.static.get(name), bool)
        if (
            text is None
            or (isinstance(value, bool) and not flag)
            or isinstance(value, list) != whole
            or len(values_of(method, name, text)) != 1
        ):
            raise InputError(f"{method}.{name} is {json.dumps(value)}, which it cannot be")
    except InputError as error:
        raise InputError(f"the presets '{source}' are wrong: {str(error).rstrip('.')}; mend the file.") from error
    return text


def _text(value) -> str | None:
    """A JSON value in the words of ``--hp``; None where there are none."""
    if isinstance(value, list):
        return ",".join(map(str, value)) if value and all(isinstance(v, int) for v in value) else None
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) and "," not in str(value) else None
