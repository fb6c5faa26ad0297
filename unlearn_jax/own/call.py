"""`unlearn`: a method of the registry on a model that exists."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, check_setting, prepare, settings_at
from unlearn_jax.methods.runner import RunOverrides, RunSpec, Unlearned, kept_rows, run_method
from unlearn_jax.methods.support.common import Recipe, TrainSpec
from unlearn_jax.own.brought import keys_of, parts_of
from unlearn_jax.own.calling import ASKS, Missing
from unlearn_jax.own.examples import Part, Request, asked_and_kept, request_of, rows_of
from unlearn_jax.own.reading import Read, one, read
from unlearn_jax.own.refusals import Given, refusal, scale_for
from unlearn_jax.population.evaluate import evaluate
from unlearn_jax.population.program import Stored
from unlearn_jax.population.run import DEFAULTS, Options, chunk_width
from unlearn_jax.tasks import classification
from unlearn_jax.trees import join_members, take_members
from unlearn_jax.types import Array, Variables

FALL = 1.645  # standard errors: one-sided, 5%


class Report(NamedTuple):
    """What `unlearn` returns where ``details=True``."""

    params: Any  # as given
    accuracy_before: np.ndarray  # (N,) on validation, a share; NaN without validation
    accuracy_after: np.ndarray  # (N,)
    settings: dict[str, Any]  # every hyperparameter as it was used
    scale: str  # whose defaults the settings are
    grad_evals: tuple[float, float]  # a model: forward and backward passes of one example, on forget and on retain
    seconds: float  # a model, after compilation


class _Task(NamedTuple):
    name: str
    read: Read
    problem: TrainSpec
    request: Request
    scale: str
    hp: dict[str, Any]


def unlearn(
    model: Any,
    params: Any = None,
    *,
    forget: tuple,
    retain: tuple | None = None,
    method: str = "scrub",
    key: Array | int | None = None,
    validation: tuple | None = None,
    heldout: tuple | None = None,
    members: int = 0,
    scale: str = "",
    recipe: Recipe | None = None,
    init: Callable | None = None,
    budget: float = 0.0,
    options: Options = DEFAULTS,
    details: bool = False,
    settings: dict[str, Any] | None = None,
    **hp: Any,
) -> Any:
    """Unlearn examples from a trained classifier: no study, nothing on disk.

    Args:
        model: a Linen module, a trained NNX or Equinox module, a function ``(params, x) -> logits (B, K)``, or a
            `Model`; see `own.reading.read`. Features are needed by few methods: then let it return (logits, features
            (B, D)).
        params: the trained weights: Linen params or all variables (with batch statistics), a module's state
            (``nnx.State``, ``eqx.nn.State``) or none for its own, or what the function takes first. A list of these is
            a population.
        forget: (inputs (n, ...), labels (n,) class numbers) to be forgotten.
        retain: the same of what stays in the training set; methods that read none do without.
        method: a name of `METHODS`; `unlearnable` says which can run, and docs/howto/own_model.md what each needs.
        key: random key or its seed; of a population also (N,) keys, else member i has ``fold_in(key, i)``; none = 0.
        validation: examples that were never trained on, to compare accuracy before and after.
        heldout: the same for methods that look at held-out examples; none = ``validation``.
        members: number of models on the leading axis of every array of ``params``, all unlearned in one program.
        scale: whose default settings are meant, one of `methods.SCALES`; '' = by the network's weights and inputs.
        recipe: how the model was trained, for the methods that train anew.
        init: draws new weights where the model cannot: of an NNX module ``rngs -> module``, of an Equinox
            module ``key -> module``, of a function ``(key, x) -> params``.
        budget: gradient evaluations that the method may use; 0 = its own length.
        options: how a population is run.
        details: whether to return a `Report`.
        settings: settings of the method that differ from its defaults.
        hp: the same by name; a setting called as one of the arguments above (rmu's scale) goes into ``settings``.

    Returns:
        The unlearned weights in the form in which they were given (a module where ``params`` are none), which stay
        as they were; with ``details`` a `Report` that holds them.

    Warns:
        UserWarning: validation accuracy fell by more than chance, weights are not finite, or examples to be forgotten
            stand among the retained ones.

    Raises:
        InputError: anything that cannot be run, in one sentence that says what to do.

    Example:
        >>> import flax.linen as nn, jax, numpy as np
        >>> x, y = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), np.arange(60) % 3
        >>> net = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(3)])
        >>> trained = net.init(jax.random.key(0), x)
        >>> new = unlearn(net, trained, forget=(x[:6], y[:6]), retain=(x[6:], y[6:]), method="finetune", epochs=1)
        >>> jax.tree.structure(new) == jax.tree.structure(trained)
        True
    """
    original = read(model, params, members=members, init=init)
    pairs = {"forget": forget, "retain": retain, "validation": validation, "heldout": heldout}
    parts, example, classes = parts_of(original, pairs)
    for name in (settings or {}).keys() & hp.keys():
        raise InputError(f"{name} is given twice: give it in settings or by name.")
    task = _checked(original, method, parts, example, classes, scale, recipe, (settings or {}) | hp)
    unlearned = _run(task, keys_of(key, original.members), budget, options)
    before, after = (
        _right(original, task.problem, variables, parts.get("validation"), options)
        for variables in (original.variables, unlearned.population.variables)
    )
    _warn(method, unlearned.population.variables, before, after)
    restored = original.restore(unlearned.population.variables)
    if not details:
        return restored
    accuracies = before.mean(axis=1), after.mean(axis=1)
    cost = unlearned.grad_evals, unlearned.population.seconds
    return Report(restored, *accuracies, _settings(task), task.scale, *cost)


def _checked(
    models: Read,
    method: str,
    parts: dict[str, Part],
    example: jax.ShapeDtypeStruct,
    classes: int,
    scale: str,
    recipe: Recipe | None,
    hp: dict,
) -> _Task:
    """The call, or the `InputError` that says what is wrong with it."""
    name, forget = METHODS.pick(method), parts["forget"]
    _check_settings(name, hp)
    heldout = parts.get("heldout", parts.get("validation")) if "heldout" in METHODS[name].needs else None
    request = request_of(forget, parts.get("retain"), heldout)
    floats = bool(jnp.issubdtype(example.dtype, jnp.floating))
    if why := refusal(name, Given(request, "retain" in parts, recipe, floats)):
        raise InputError(why)
    if "retain" in parts and (twice := asked_and_kept(forget, parts["retain"])):
        warnings.warn(
            f"{twice} of the {len(forget.targets)} examples to be forgotten are among the retained ones too: what "
            f"they taught stays.",
            stacklevel=3,
        )
    problem = TrainSpec(models.model, classification(), example, classes, recipe or Recipe())
    scale = scale_for(METHODS[name], scale, one(models.variables)["params"], example)
    return _Task(name, models, problem, request, scale, hp)


def _check_settings(name: str, hp: dict[str, Any]) -> None:
    for key, value in hp.items():
        check_setting(name, key)
        if key in METHODS[name].numeric and (np.ndim(value) or not np.issubdtype(np.asarray(value).dtype, np.number)):
            raise InputError(f"{key} is {value!r}: give one number, and call again for another.")


def _run(task: _Task, keys: Array, budget: float, options: Options) -> Unlearned:
    """All models at once; one after another where the method draws on the host, so that each follows its own key."""
    entry = METHODS[task.name]
    apart = (entry.begin is not None or entry.end is not None) and len(keys) > 1
    try:
        parts = [slice(i, i + 1) for i in range(len(keys))] if apart else [slice(None)]
        runs = [_some(task, part, keys[part], budget, options) for part in parts]
    except Missing as missing:
        raise InputError(f"{task.name} {ASKS[missing.what]}.") from None
    joined = join_members([one.population.variables for one in runs])
    seconds = float(np.mean([one.population.seconds for one in runs]))
    return runs[0]._replace(population=runs[0].population._replace(variables=joined, seconds=seconds))


def _some(task: _Task, part: slice, keys: Array, budget: float, options: Options) -> Unlearned:
    rows = [rows_of(task.request)] * len(keys)
    seed = int(np.asarray(jax.random.key_data(keys[0])).ravel()[-1]) & 0x7FFFFFFF
    training = prepare("retrain", task.problem)
    job = RunSpec(task.problem, task.request.stored, rows, training, options, seed, 0, task.scale, budget)
    treat = RunOverrides(kept_rows(job), [r.requested for r in rows], role=task.name, keys=keys)
    settings = {name: [value] for name, value in task.hp.items()}
    return run_method(task.name, job, take_members(task.read.variables, part), settings, treat)


def _right(models: Read, problem: TrainSpec, variables: Variables, part: Part | None, options: Options) -> np.ndarray:
    """(N, n) 1 where a model is right; (N, 1) NaN without examples."""
    members = max(models.members, 1)
    if part is None:
        return np.full((members, 1), np.nan)
    data, width = Stored(part.inputs, jnp.asarray(part.targets)), chunk_width(members, options)
    return evaluate(problem.model, problem.task, variables, data, width=width, axis=options.axis).correct


def _warn(method: str, variables: Variables, before: np.ndarray, after: np.ndarray) -> None:
    """Warn of weights that are not finite, and of accuracy that fell by more than chance."""
    floats = [np.asarray(x) for x in jax.tree.leaves(variables) if jnp.issubdtype(x.dtype, jnp.floating)]
    finite = np.all([np.isfinite(x).reshape(len(x), -1).all(axis=1) for x in floats], axis=0)
    if not finite.all():
        warnings.warn(
            f"{method} left weights that are not finite in {(~finite).sum()} of {len(finite)} models: lower its rate.",
            stacklevel=3,
        )
    if not finite.any() or np.isnan(before).any():
        return
    lost = (before - after)[finite].mean(axis=0)
    if lost.mean() > FALL * lost.std() / np.sqrt(len(lost)):
        was, now = (100 * x[finite].mean() for x in (before, after))
        warnings.warn(
            f"{method} lowered validation accuracy from {was:.1f}% to {now:.1f}%: try milder settings, or another "
            f"method.",
            stacklevel=3,
        )


def _settings(task: _Task) -> dict[str, Any]:
    """Every hyperparameter of the method as it was used."""
    static, numeric = settings_at(METHODS[task.name], task.scale)
    if task.name == "retrain":
        numeric = {"lr": task.problem.recipe.lr, "weight_decay": task.problem.recipe.weight_decay}
    return {**static, **numeric, **task.hp}
