"""The problem of a study: which model answers what, by kind of data, and what its members share."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import numpy as np

from unlearn_jax.data.arrays import Dataset, pixel_stats
from unlearn_jax.data.sources.facts import refusal_tokens, value_tokens
from unlearn_jax.methods.support.common import TrainSpec
from unlearn_jax.models import MODELS, build_model, model_options
from unlearn_jax.models.decode import Cached, cached_decoder
from unlearn_jax.studies.pretrained import PUBLISHED, pretrained
from unlearn_jax.studies.resolve import Study
from unlearn_jax.tasks import classification, value_task
from unlearn_jax.types import Model, Task, Variables


def problem_of(study: Study, dataset: Dataset, without: list[np.ndarray], *, rank: int | None = None) -> TrainSpec:
    """The model with its task and recipe; its input statistics leave out rows, the targets of every request.

    Otherwise a target, or a mined neighbour of one, would reach the oracle, which must be free of it, through the mean
    and standard deviation. The pilots, which choose the targets, have none to leave out, and so a program of their own.
    ``rank`` is that of the adapters, None = the configuration's.
    """
    example = jax.ShapeDtypeStruct((1, *dataset.train.inputs.shape[1:]), dataset.train.inputs.dtype)
    if dataset.kind == "image":
        return TrainSpec(
            _model_of_images(study, dataset, without), classification(), example, dataset.num_classes, study.recipe
        )
    facts, options = dataset.kind == "facts", _text_options(study)
    words = dataset.about.words if facts else ()
    if not facts and (vocab := dataset.about.reader.vocab) is not None:
        options |= {"vocab": vocab}
    rank = study.config.lora if rank is None else rank
    outputs = len(words) if facts else dataset.num_classes
    model = pretrained(study.model, outputs, example.shape[1:], rank=rank, **options).model
    task = _value_task(words) if facts else classification()
    return TrainSpec(model, task, example, dataset.num_classes, study.recipe)


def _model_of_images(study: Study, dataset: Dataset, without: list[np.ndarray]) -> Model:
    config, name = study.config, study.model
    shape, mean, std = dataset.train.inputs.shape[1:], dataset.mean, dataset.std
    if without:
        rows = np.concatenate([np.ravel(part) for part in without])
        mean, std = pixel_stats(np.delete(dataset.train.inputs, rows, axis=0))
    on_accelerator = jax.default_backend() != "cpu"
    dtype = config.dtype or ("bfloat16" if on_accelerator and name not in ("mlp", "linear") else "float32")
    options = study.model_options
    if config.dtype or "dtype" in model_options(name):  # models of the user's own may have none
        options = {"dtype": dtype} | options
    return _image_model(MODELS[name], name, dataset.num_classes, shape, mean, std, tuple(sorted(options.items())))


def decoder_of(study: Study, dataset: Dataset) -> Cached | None:
    """The study's language model with a cache of keys and values, where it has one."""
    if dataset.kind != "facts":
        return None
    return cached_decoder(len(dataset.about.words), dataset.train.inputs.shape[1:], **_text_options(study))


def published_shared(study: Study, dataset: Dataset) -> Variables:
    """What members share of published weights, {} where the model begins at random ones."""
    name = study.model
    if name not in PUBLISHED:
        return {}
    shape = dataset.train.inputs.shape[1:]
    return pretrained(name, dataset.num_classes, shape, rank=study.config.lora, **_text_options(study)).shared


def abstract_shared(study: Study, dataset: Dataset, whole: TrainSpec) -> Variables:
    """The shapes of what members will share, before it is trained."""
    if held := published_shared(study, dataset):
        return jax.eval_shape(lambda: held)
    return jax.eval_shape(whole.model.init, jax.random.key(0), whole.example) if study.config.lora else {}


def _text_options(study: Study) -> dict:
    return {"dtype": study.config.dtype or "float32"} | study.model_options


@functools.lru_cache(maxsize=8)
def _value_task(words: tuple) -> Task:
    """The task; the same object for the same vocabulary, so that studies in one process share their programs."""
    return value_task(value_tokens(words), refusal_tokens(words))


@functools.lru_cache(maxsize=8)
def _image_model(
    factory: Callable, name: str, num_classes: int, shape: tuple, mean: tuple | None, std: tuple | None, options: tuple
) -> Model:
    """The model; the same object for the same arguments, so that studies in one process share their programs."""
    del factory  # it is here so that another one put in under the name is another model
    return build_model(name, num_classes, shape, mean=mean, std=std, **dict(options))
