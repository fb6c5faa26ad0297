"""The two tracks of an attribution study: models, and what removal really changes.

The exact track is softmax regression on the inputs, fitted to its optimum: removal is a refit, and nothing is noise.
The network track is a population: what removal changes is the difference of means of networks trained with and
without, given with its standard error.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.attribution.config import AttributionConfig
from unlearn_jax.attribution.ground import Ground
from unlearn_jax.influence import (
    leave_out_effects,
    leave_out_masks,
    logistic_fit,
    logistic_removal,
    outputs_of,
    removal_effects,
    subset_masks,
    train_subsets,
)
from unlearn_jax.influence.per_example import batch_of
from unlearn_jax.models import build_model, count_parameters
from unlearn_jax.population.run import Stored
from unlearn_jax.studies.setup import SILENT, Watch
from unlearn_jax.tasks import classification
from unlearn_jax.trees import take_members
from unlearn_jax.types import Batch, Model, Task, Variables

EXPLICIT = 8000  # weights up to which a curvature matrix is made
GROUPED = 1500  # and up to which one is made for every group
RELATIVE = 0.1  # damping of networks, as a share of the mean curvature


class Truth(NamedTuple):
    """n times the actual fall of the margins when a group is removed."""

    value: np.ndarray  # (groups, q)
    error: np.ndarray  # (groups, q) standard errors, 0 where removal is exact


class Subsets(NamedTuple):
    """Models of random subsets: the first half fits datamodels, the other half judges every estimator."""

    masks: np.ndarray  # (M, n) bool
    margin: np.ndarray  # (M, q)
    correct: np.ndarray  # (M, q)
    own_correct: np.ndarray  # (M, n) on the training examples

    @property
    def fitted(self) -> slice:
        """Members that estimators may use."""
        return slice(0, len(self.masks) // 2)

    @property
    def judging(self) -> slice:
        """Members that they are judged by."""
        return slice(len(self.masks) // 2, None)


class Track(NamedTuple):
    """Models trained on everything, with the truth about removals."""

    name: str
    model: Model
    task: Task
    members: list[Variables]
    train: Batch
    queries: Batch
    l2: float
    solving: dict  # solver, curvature and damping of influence functions
    stepping: dict  # the same for steps without a group, of which each solves equations of its own
    damped: dict  # l2 and damping of Kronecker-factored ones
    kernel: dict  # what is added to the kernel of TRAK
    singles: Truth  # of each target alone
    clusters: Truth
    subsets: Subsets
    accuracy: float  # of the models on the test queries
    seconds: dict[str, float]


def exact_track(config: AttributionConfig, ground: Ground, watch: Watch = SILENT) -> Track:
    """Softmax regression and its refits without each target, without each cluster, and on random halves."""
    x, z = regression_inputs(ground), regression_inputs(ground, ground.queries)
    shown, query_inputs = x[:, :-1], z[:, :-1]
    labels, truths = ground.labels(ground.train), ground.labels(ground.queries)
    classes, (n, width) = ground.setup.problem.num_classes, shown.shape
    setting = {"l2": config.l2, "classes": classes}
    watch.say("exact track: refits")
    whole = logistic_fit(x, labels, **setting)
    without = lambda groups: logistic_removal(x, labels, groups, start=whole, **setting)
    effects = lambda after: removal_effects(whole, after, z, truths, rows=n, quantity="margin")
    singles, clusters = (effects(without(groups)) for groups in ([[t] for t in ground.targets], ground.clusters))
    masks = subset_masks(n, config.subsets, seed=config.seed)
    halves = without([np.flatnonzero(~mask) for mask in masks])
    margins, right, own_right = _answers(halves, x, z, labels, truths)
    model = build_model("linear", classes, (width,))
    variables = {
        "params": {
            "head": {"kernel": jnp.asarray(whole[:-1], jnp.float32), "bias": jnp.asarray(whole[-1], jnp.float32)}
        },
        "state": {},
    }
    batch = lambda inputs, y: batch_of(inputs.astype(np.float32), y.astype(np.int32))
    solving = {"solver": "explicit", "curvature": "hessian", "l2": config.l2, "damping": config.damping}
    test = ground.asked < 0
    damped = {"l2": config.l2, "damping": config.damping}
    kernel = {"lam": n * (config.l2 + config.damping), "relative": 0.0}
    return Track(
        "exact", model, classification(), [variables], batch(shown, labels), batch(query_inputs, truths), config.l2,
        solving, solving, damped, kernel,
        Truth(singles, np.zeros_like(singles)), Truth(clusters, np.zeros_like(clusters)),
        Subsets(masks, margins, right, own_right),
        float(((z @ whole).argmax(axis=1) == truths)[test].mean()), {},
    )  # fmt: skip


def regression_inputs(ground: Ground, rows: np.ndarray | None = None) -> np.ndarray:
    """(k, d + 1) inputs of stored rows (by default the training rows) for a regression, the last column ones.

    Centred, in units of the mean standard deviation of an input, over the training set.
    """
    flat = lambda at: ground.setup.bench.inputs[at].reshape(len(at), -1).astype(np.float64)
    base = flat(ground.train)
    inputs = (flat(ground.train if rows is None else rows) - base.mean(axis=0)) / max(base.std(axis=0).mean(), 1e-12)
    return np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)


def _answers(fits: np.ndarray, x, z, labels, truths) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Margins and correctness on queries, and correctness on training rows, of every refit."""
    from unlearn_jax.metrics import margin

    on_queries, on_train = z @ fits, x @ fits
    return (
        margin(on_queries, truths),
        (on_queries.argmax(-1) == truths).astype(float),
        (on_train.argmax(-1) == labels).astype(float),
    )


def network_track(config: AttributionConfig, ground: Ground, watch: Watch = SILENT) -> Track:
    """Networks trained on everything, without each target, without each cluster, and on random halves."""
    setup, n = ground.setup, len(ground.train)
    problem, options = setup.problem, watch.on(setup.options)
    rows = jnp.asarray(ground.train)
    data = Stored(setup.stored.inputs[rows], setup.stored.targets[rows])
    queries, train = ground.batch(ground.queries), ground.batch(ground.train)
    seconds = {}

    def trained(role: str, masks: np.ndarray):
        watch.stage(role, len(masks))
        labelled = options._replace(label=role)
        population = train_subsets(problem, data, masks, role=role, seed=config.seed, options=labelled)
        seconds[role] = population.seconds * len(masks)
        return population.variables

    answers = lambda variables, batch: outputs_of(problem.model, problem.task, variables, batch, options=setup.options)
    truths = {}
    kinds = [("singles", [ground.targets[[g]] for g in range(len(ground.targets))]), ("clusters", ground.clusters)]
    for role, groups in kinds if ground.copied else kinds[:1]:
        plan = leave_out_masks(n, groups, repeats=config.repeats)
        effects = leave_out_effects(answers(trained(f"without {role}", plan.masks), queries).margin, plan)
        truths[role] = Truth(effects.value, effects.error)
    masks = subset_masks(n, config.subsets, seed=config.seed)
    halves = trained("halves", masks)
    judged = answers(halves, queries)
    subsets = Subsets(masks, judged.margin, judged.correct, answers(halves, train).correct)
    whole = trained("everything", np.ones((config.ensemble, n), bool))
    members = [
        jax.tree.map(lambda x: jnp.asarray(x[0]), take_members(whole, slice(i, i + 1))) for i in range(config.ensemble)
    ]
    weights = count_parameters(members[0])
    solver = lambda most: {"solver": "explicit" if weights <= most else "cg"}
    damping = {"damping": config.damping} if config.damping else {"relative_damping": RELATIVE}
    common = {"curvature": "ggn", "l2": 0.0, **damping}
    solving, stepping = common | solver(EXPLICIT), common | solver(GROUPED)
    damped = {"l2": 0.0, **damping}
    kernel = {"lam": n * config.damping, "relative": 0.0} if config.damping else {"relative": RELATIVE}
    accuracy = float(answers(whole, queries).correct[:, ground.asked < 0].mean())
    return Track(
        "network", problem.model, problem.task, members, train, queries, 0.0, solving, stepping, damped,
        kernel, truths["singles"], truths.get("clusters", truths["singles"]), subsets, accuracy, seconds,
    )  # fmt: skip
