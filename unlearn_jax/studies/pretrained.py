"""What members begin with and share: a frozen base under adapters, or published weights to fine-tune.

Under LoRA every member, references included, trains adapters on one frozen *base*, the study's "pretrained model", held
once. It must not know any target: it is either published (`minilm`), or one model trained by the recipe on the training
rows that nobody can ask to forget (of `facts`, statements of facts told several times, which are never targets), with
key and role ``base``. So the oracle is as free of the targets' influence as if trained from scratch, and an *original*
is the base fine-tuned on everything. In a full fine-tune of published weights each "training from scratch" begins at
them, with a new head; they are under ``shared["start"]``, an argument of the programs that no member keeps a copy of.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.data.arrays import Dataset
from unlearn_jax.data.kinds import KINDS
from unlearn_jax.data.text.readers import minilm_folder
from unlearn_jax.errors import InputError
from unlearn_jax.methods import prepare
from unlearn_jax.methods.support.common import TrainSpec
from unlearn_jax.models import build_model, count_parameters
from unlearn_jax.models.lora import lora
from unlearn_jax.models.minilm import sizes_of
from unlearn_jax.models.minilm_files import load_minilm
from unlearn_jax.population import checkpoint
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.run import DEFAULTS, Options, Stored, run_population
from unlearn_jax.types import Model, Population, Variables

HEADLESS = ("decoder",)  # models whose output layer is part of the base
PUBLISHED = ("minilm",)  # models that begin at weights read from a folder
ADAPTABLE = (*HEADLESS, *PUBLISHED)


class Pretrained(NamedTuple):
    """A model with what its members share."""

    model: Model
    shared: Variables  # {}; a frozen base under adapters; or {"start": weights} at which new initialisations begin
    reader: Path | None  # folder by whose tokenizer texts become inputs (`minilm.tokenize`); None = no such model


class Base(NamedTuple):
    """A frozen base that was trained here."""

    population: Population  # of one member
    rows: np.ndarray  # of the training examples that it saw

    @property
    def shared(self) -> Variables:
        """Its variables, without a member axis."""
        return jax.tree.map(lambda x: x[0], self.population.variables)


def pretrained(
    name: str, num_classes: int, input_shape, *, rank: int = 0, folder: str | Path | None = None, **options
) -> Pretrained:
    """The model that a population's members are, with what they share, by name.

    Args:
        name: registered model.
        num_classes: classes K, or a vocabulary's size.
        input_shape: of an example, without the batch.
        rank: of adapters, at scale 2 (alpha = 2 x rank), on the attention's dense layers; a classifier's head is
            trained whole, by each member its own. 0 = all weights are trained.
        folder: of the published weights; default ``$UNLEARN_JAX_MINILM``. Refused for models that have none.
        options: of the model; sizes of published weights are theirs.

    Returns:
        The model (the same object for the same arguments), what goes under ``shared`` and the tokenizer's folder.
        Where adapters need a base that is yet to be trained, ``shared`` is ``{}``: see `train_base`.

    Raises:
        InputError: a rank that is negative, or of a model without a base; no folder; files or options that do not fit.

    Example:
        >>> found = pretrained("decoder", 50, (8,), rank=4)
        >>> jax.eval_shape(found.model.init, jax.random.key(0), jnp.ones((1, 8), jnp.int32))["params"].keys()
        dict_keys(['block0', 'block1'])
    """
    check_rank(rank, name)
    if folder is not None and name not in PUBLISHED:
        raise InputError(
            f"model '{name}' reads no published weights, so folder '{folder}' would be ignored: leave it out, or take "
            f"{' or '.join(PUBLISHED)}; language models of Hugging Face folders are read by models.hf.load_hf."
        )
    weights, reader = {}, None
    if name in PUBLISHED:
        reader = Path(folder or minilm_folder())
        weights = load_published(reader)
        options |= sizes_of(weights)
    model = _model(name, num_classes, tuple(input_shape), rank, tuple(sorted(options.items())))
    if not weights:
        return Pretrained(model, {}, reader)
    return Pretrained(model, {"params": weights, "state": {}} if rank else {"start": weights}, reader)


def check_rank(rank: int, name: str) -> None:
    """Raise `InputError` unless model ``name`` can be trained by adapters of this rank, or rank is 0."""
    if rank < 0:
        raise InputError(f"--lora is {rank}: give the rank of the adapters, or 0 to train all weights.")
    if rank and name not in ADAPTABLE:
        raise InputError(
            f"--lora {rank} is for models with attention layers and a base to freeze, {' and '.join(ADAPTABLE)}, and "
            f"'{name}' is none: leave --lora out."
        )


def adapted(model: Model, name: str, rank: int) -> Model:
    """``model`` with adapters of this rank on its attention layers, and with its head, if it has one, trained whole."""
    return lora(model, rank=rank, alpha=2.0 * rank, whole=() if name in HEADLESS else ("head",))


@functools.lru_cache(maxsize=1)
def load_published(folder: Path) -> Variables:
    """Published weights, all but the head, read once; NumPy."""
    return load_minilm(folder)


@functools.lru_cache(maxsize=8)
def _model(name: str, num_classes: int, shape: tuple, rank: int, options: tuple) -> Model:
    """The same object for the same arguments, so that studies in one process share their programs."""
    model = build_model(name, num_classes, shape, **dict(options))
    return adapted(model, name, rank) if rank else model


def base_rows(dataset: Dataset, targets: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Training rows that can be in no request, (n,) int32.

    Raises:
        InputError: there are none, or one of them is among ``targets`` (those of each request) all the same.
    """
    every = np.arange(len(dataset.train.targets), dtype=np.int32)
    rows = np.setdiff1d(every, KINDS[dataset.kind].candidates(dataset))
    if not len(rows):
        raise InputError(f"every example of '{dataset.name}' may be a target, so none is left to train a base on.")
    if targets and np.isin(np.concatenate(targets), rows).any():
        raise InputError("targets are among what the base is trained on: choose other --targets, or leave --lora out.")
    return rows


def train_base(problem: TrainSpec, dataset: Dataset, seed: int, options: Options = DEFAULTS) -> Base:
    """One model trained by the recipe on the `base_rows`; read back from the store where it is there.

    Args:
        problem: of the model with all weights trained.
        dataset: whose training rows are read; it depends on nothing else of a study.
        seed: of the study; the key is that of member 0 of role ``base``.
        options: how it is run.

    Raises:
        InputError: every row can be in a request; the base diverged.
    """
    rows, (fold, plan, hp) = base_rows(dataset), prepare("retrain", problem)
    data = Stored(jnp.asarray(dataset.train.inputs), jnp.asarray(dataset.train.targets))
    values = {name: np.full(1, value, np.float32) for name, value in hp.items()}
    keys, options = member_keys(seed, "base", 1), options._replace(label="base")
    population = run_population(fold, plan, data, make_tables([rows]), keys, {}, hp=values, options=options)
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(population.variables)):
        raise InputError("the base diverged: give a lower --lr.")
    return Base(population, rows)


def study_base(
    whole: TrainSpec,
    problem: TrainSpec,
    dataset: Dataset,
    targets: Sequence[np.ndarray],
    seed: int,
    options: Options,
    watch,
) -> tuple[Variables, dict]:
    """What the members of a study share, trained here, and what its manifest says of it.

    Args:
        whole: of the model with all weights trained, which the base is.
        problem: of the model with adapters.
        dataset: of the study.
        targets: of each request.
        seed: of the study.
        options: how it is run.
        watch: progress.

    Raises:
        InputError: a target that the base would be trained on; as `train_base`.
    """
    base_rows(dataset, targets)
    if options.store is not None:
        checkpoint.check_writable(options.store)
    watch.stage("base", 1)
    base = train_base(whole, dataset, seed, watch.on(options))
    member = jax.eval_shape(problem.model.init, jax.random.key(0), problem.example)
    record = {
        "examples": len(base.rows),
        "parameters": count_parameters(base.shared),
        "parameters_of_a_member": count_parameters(member),
        "seconds": base.population.seconds,
        "compile_seconds": base.population.compile_seconds,
    }
    watch.say(said(record))
    return base.shared, record


def said(base: dict) -> str:
    """What a manifest says of a base, as a sentence without its full stop."""
    return (
        f"members train adapters of {base['parameters_of_a_member']:,} values on one frozen base of "
        f"{base['parameters']:,}, trained in {base['seconds']:.1f} s on {base['examples']:,} examples that nobody asks "
        "to forget"
    )
