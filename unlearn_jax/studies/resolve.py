"""What a study's configuration means: presets by data set, axes, settings and names."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from unlearn_jax.data import DatasetSpec, dataset_spec
from unlearn_jax.data.benchmarks import benchmark_named
from unlearn_jax.data.kinds import KINDS
from unlearn_jax.data.sources.tables import READERS as TABLES
from unlearn_jax.data.splits import named_copies
from unlearn_jax.data.text.readers import Features
from unlearn_jax.evaluation.metric import Metric
from unlearn_jax.evaluation.table import study_metrics
from unlearn_jax.methods import METHODS, has_scale, select
from unlearn_jax.remedies import REMEDIES, select_remedies
from unlearn_jax.roles import REFERENCES
from unlearn_jax.studies.config import Preset, StudyConfig
from unlearn_jax.studies.hyperparameters import copies_axis, gamma_axis, options_of_model, settings_of_methods
from unlearn_jax.types import Recipe

LATER = ("skip_requests", "benchmark", "presets", "metrics")  # where these are empty, older names of folders stay
TARGETS = ("random", "class", "whole_class", "atypical", "distant", "contested", "person")


@dataclass(frozen=True)
class Study:
    """A configuration with every value that follows from it, each worked out once; nothing after it reads words.

    Made by `resolve`. What cannot be understood raises `InputError` where it is first asked for; `validate.check` asks
    for all of it before any data are read.
    """

    config: StudyConfig  # with the data set's own values where it left them open
    asked: StudyConfig

    @property
    def dataset(self) -> str:
        """The data set: a registered name, or the path of a file."""
        return self.config.dataset

    @cached_property
    def spec(self) -> DatasetSpec:
        """The data set's entry.

        Raises:
            InputError: an unknown name.
        """
        return dataset_spec(self.dataset)

    @cached_property
    def dataset_name(self) -> str:
        """The data set's name in records: the registry's, or that of the user's file."""
        is_file = self.dataset.endswith(".npz") or Path(self.dataset).suffix.lower() in TABLES
        return Path(self.dataset).name if is_file else self.dataset

    @property
    def kind(self) -> str:
        """The kind of data, a key of `KINDS`."""
        return self.spec.kind

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """Rows of the metric table that are measured beside what the study is about.

        Raises:
            InputError: see `study_metrics`.
        """
        return study_metrics(self.config.metrics)

    @cached_property
    def features(self) -> Features:
        """How texts are read."""
        config = self.config
        name = config.features or {"encoder": "tokens", "minilm": "wordpiece"}.get(config.model, "tfidf")
        return Features(name, config.vocabulary, config.context, config.tokenizer)

    @cached_property
    def inputs(self) -> str:
        """What the model is given: images, language, or, of texts, tokens, wordpiece or vectors."""
        if self.kind == "text":
            return self.features.name if self.features.name in ("tokens", "wordpiece") else "vectors"
        return {"facts": "language"}.get(self.kind, "images")

    @property
    def answers(self) -> str:
        """What the models answer with, one of `MethodSpec.reads`."""
        return "language" if self.kind == "facts" else "classes"

    @property
    def model(self) -> str:
        """A key of `MODELS`."""
        return self._trained[0]

    @property
    def recipe(self) -> Recipe:
        """How every reference is trained: the data set's preset with the configuration's overrides."""
        return self._trained[1]

    @cached_property
    def _trained(self) -> tuple[str, Recipe]:
        config, spec, kind = self.config, self.spec, KINDS[self.kind]
        model, recipe = spec.model or kind.model, spec.recipe or kind.recipe
        if self.kind == "text":
            reader = {"tokens": "encoder", "wordpiece": "minilm"}.get(config.features) or config.model
            model, recipe = reader or model, Preset.BY_TEXT_MODEL.get(reader, recipe)
        overrides = {name: value for name in ("steps", "batch", "lr", "augment") if (value := getattr(config, name))}
        return config.model or model, recipe._replace(**overrides)

    @cached_property
    def model_options(self) -> dict:
        """Options of the model in the types of their defaults.

        Raises:
            InputError: malformed text, an unknown model or option.
        """
        return options_of_model(self.model, self.config.model_options)

    @cached_property
    def copies(self) -> tuple[int, ...]:
        """The copies axis, ascending."""
        return copies_axis(self.config.copies)

    @cached_property
    def max_copies(self) -> int:
        """Similar samples of each target that are laid out, of which a level keeps the first: of a benchmark all."""
        least = benchmark_named(self.config.benchmark).copies[-1] if self.config.benchmark else 0
        return max(least, *self.copies)

    @cached_property
    def gammas(self) -> tuple[float | None, ...]:
        """The gamma axis, ascending; (None,) = the targets alone."""
        return gamma_axis(self.config.gamma)

    @cached_property
    def axes(self) -> tuple[tuple[int, float | None], ...]:
        """Points of the copies and gamma axes; shares that name equally many copies are one point."""
        points = {}
        for copies in self.copies:
            for gamma in self.gammas:
                points.setdefault((copies, named_copies(copies, gamma)), (copies, gamma))
        return tuple(points.values())

    @cached_property
    def scale(self) -> str:
        """Whose default hyperparameters the methods take: those asked for, or by the data set and the model."""
        if self.config.scale or self.spec.scale:
            return self.config.scale or self.spec.scale
        plain = "small_text" if self.kind == "text" else "small"
        small = {"linear": plain, "mlp": plain} | dict.fromkeys(("decoder", "encoder", "minilm"), "small_transformer")
        return small.get(self.model, "small_conv")

    @cached_property
    def dedup_threshold(self) -> float:
        """The cosine of the dedup reference."""
        return self.config.dedup_threshold or self.spec.dedup_threshold or KINDS[self.kind].dedup_threshold

    @cached_property
    def natural_cosine(self) -> float:
        """The least cosine of mined neighbours where the level names none."""
        return self.spec.natural_cosine or KINDS[self.kind].natural_cosine

    @cached_property
    def wrapped(self) -> tuple[str, ...]:
        """What remedies are put around: the methods that are asked for, `retrain` too, without those `left_out`."""
        return tuple(name for name in select(self.config.methods, self.answers) if name not in self.left_out)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are run from the originals; `retrain` is a reference, which every study has."""
        return tuple(name for name in self.wrapped if name not in REFERENCES)

    @cached_property
    def left_out(self) -> dict[str, str]:
        """A sentence for each method that data, targets, no class, or a scale without defaults leave out."""
        notes, answers = {}, self.answers
        named = {name.strip() for name in self.config.methods.split(",")}
        for name in select(self.config.methods, answers):
            if name not in named and answers in METHODS[name].unfit:
                why = METHODS[name].unfit[answers]
                notes[name] = f"{name} does not fit {answers} and was not run, ask for it by name: {why}"
            elif answers not in METHODS[name].reads:
                notes[name] = f"{name} is not defined for {answers} and was not run"
            elif self.kind == "text" and "pixels" in METHODS[name].needs:
                notes[name] = f"{name} perturbs pixels, which texts have none of, and was not run"
            elif "class" in METHODS[name].needs and self.config.targets != "whole_class":
                notes[name] = f"{name} is for requests of a whole class and was not run: ask with --targets whole_class"
            elif not has_scale(METHODS[name], self.scale):
                notes[name] = f"{name} has no defaults at scale {self.scale} and was not run: ask with --scale small"
        return notes

    @property
    def members(self) -> int:
        """Models in each population."""
        assert self.config.members is not None  # `resolve` has filled it in
        return self.config.members

    @cached_property
    def remedies(self) -> tuple[str, ...]:
        """The remedies that are asked for, whether or not a pair of them can be run."""
        return tuple(select_remedies(self.config.remedies))

    @cached_property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """(method, remedy) of every pair that is run."""
        fitting = [n for n in self.remedies if self.kind in REMEDIES[n].kinds and self.inputs in REMEDIES[n].inputs]
        return tuple((m, r) for m in self.wrapped for r in fitting if not REMEDIES[r].methods(METHODS[m]))

    @cached_property
    def settings(self) -> dict[str, dict[str, list]]:
        """Hyperparameters by method, settings by remedy: name -> list of values.

        Raises:
            InputError: malformed text, unknown method or hyperparameter, a method that the study does not run, several
                values of a setting that fixes shapes.
        """
        return settings_of_methods(self.config.hp, self.wrapped, self.remedies)

    @cached_property
    def name(self) -> str:
        """A folder name that says what the study is and differs where the configuration does."""
        config = self.config
        fields = {name: value for name, value in dataclasses.asdict(config).items() if value or name not in LATER}
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:6]
        similarity = config.similarity.replace(":", "")
        return f"{config.benchmark or self.dataset_name}-{similarity}-{config.targets}-{digest}"


def resolve(config: StudyConfig) -> Study:
    """A configuration, with the data set's own values where it leaves them open, and what follows from it.

    Example:
        >>> study = resolve(StudyConfig(dataset="facts", copies="4,0"))
        >>> study.kind, study.copies, study.model, study.scale
        ('facts', (0, 4), 'decoder', 'small_transformer')
    """
    dataset = config.dataset or (benchmark_named(config.benchmark).sources[0] if config.benchmark else "digits")
    plain = Study(dataclasses.replace(config, dataset=dataset), config)
    preset = Preset.STUDY | dict(plain.spec.study) | Preset.STUDY_BY_MODEL.get(plain.model, {})
    if config.similarity.startswith("natural"):
        preset |= Preset.NATURAL
    if config.benchmark:
        preset |= benchmark_named(config.benchmark).settings
    left_open = {name: value for name, value in preset.items() if getattr(plain.config, name) in ("", None)}
    return Study(dataclasses.replace(plain.config, **left_open), config)
