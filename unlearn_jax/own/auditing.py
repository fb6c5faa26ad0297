"""`audit`: what can be measured of a model without a study, by the metrics and the engine of audits."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.own.brought import parts_of
from unlearn_jax.own.examples import Part
from unlearn_jax.own.reading import Read, one, read
from unlearn_jax.population.evaluate import predict
from unlearn_jax.population.program import Stored
from unlearn_jax.population.run import DEFAULTS, Options, chunk_width

SPLITS = {"forget": "forget", "retain": "rest", "validation": "test"}  # names here -> those of audits
DISTANCES = ("energy_distance", "rank_effect", "js_divergence")  # of audits, those that few members can show


class Finding(NamedTuple):
    """A figure with its 95% interval; the null band is where two sets of retrained models lie from each other."""

    value: float
    low: float
    high: float
    null_low: float = float("nan")
    null_high: float = float("nan")

    def __str__(self) -> str:
        """The figure, its interval and, where it has one, its null band."""
        band = "" if math.isnan(self.null_low) else f", null [{self.null_low:.3f}, {self.null_high:.3f}]"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]{band}"


class Findings(dict):
    """`Finding` by name; printed, a line for each."""

    def __str__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:<{width}} {finding}" for name, finding in self.items())


def audit(
    model: Any,
    params: Any = None,
    *,
    forget: tuple,
    validation: tuple,
    retain: tuple | None = None,
    retrained: Any = None,
    members: int = 0,
    seed: int = 0,
    options: Options = DEFAULTS,
) -> Findings:
    """What can be measured of a model, or a population, without a study.

    Args:
        model: as of `unlearn`.
        params: weights of one model, or of a population, as of `unlearn`.
        forget: (inputs, labels) that were to be forgotten.
        validation: (inputs, labels) that were never trained on.
        retain: (inputs, labels) of what stays; none = no figures of it.
        retrained: weights of models of the same kind trained without ``forget``: one model, a leading axis on every
            array, or a list; for a module its state, another module, or a list of either. None = no comparison.
        members: number of models on the leading axis of ``params``; 0 = a single model.
        seed: of the resamples.
        options: how many models are evaluated side by side.

    Returns:
        A `Finding` by name; to print them is to see a table. ``accuracy_forget``, ``accuracy_retain``,
        ``accuracy_validation`` (shares); ``margin_forget`` (mean log-odds of the true label, nats); ``attack_auc``,
        P(margin on forget > margin on validation): .5 = a threshold cannot tell them apart, which a model that never
        saw ``forget`` shows only where both are equally hard. With ``retrained`` also ``accuracy_..._gap``,
        ``margin_forget_gap`` and ``attack_auc_gap``, minus those of the retrained models, and distances to them,
        ``energy_distance``, ``rank_effect`` (.5 = alike) and ``js_divergence``, see docs/audits.md. Intervals are
        over models and examples; of a single model over examples alone. What too few models cannot show is NaN.

    Raises:
        InputError: as of `unlearn`; retrained models of another kind.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(size=(90, 4)).astype(np.float32), rng.integers(0, 3, 90)
        >>> w = rng.normal(size=(4, 3)).astype(np.float32)
        >>> found = audit(lambda w, x: x @ w, w, forget=(x[:30], y[:30]), validation=(x[30:], y[30:]))
        >>> sorted(found), found["attack_auc"].low < 0.5 < found["attack_auc"].high
        (['accuracy_forget', 'accuracy_validation', 'attack_auc', 'margin_forget'], True)
    """
    from unlearn_jax.evaluation.engine import Precision

    pairs = {"forget": forget, "retain": retain, "validation": validation}
    audited = read(model, params, members=members)
    parts, _, _ = parts_of(audited, pairs)
    logits = {"unlearned": _logits(audited, parts, options)}
    if retrained is not None:
        other = _retrained(model, retrained, audited)
        logits["retrain"] = _logits(other, parts, options)
    return _figures(_views(parts, logits), Precision(seed=seed))


def _retrained(model: Any, retrained: Any, like: Read) -> Read:
    """Retrained models, one or several, shaped as those that are audited."""
    if isinstance(retrained, list):
        other = read(model, retrained)
    else:
        other = read(model, retrained)
        shapes = jax.tree.leaves(one(other.variables))
        wanted = jax.tree.leaves(one(like.variables))
        if len(shapes) == len(wanted) and all(x.ndim == y.ndim + 1 for x, y in zip(shapes, wanted)):
            other = read(model, retrained, members=shapes[0].shape[0])
    shapes_of = lambda r: jax.tree.map(lambda x: x.shape, one(r.variables))
    if shapes_of(other) != shapes_of(like):
        raise InputError(
            "the retrained models have params of other names or shapes: give models like the audited one, several on "
            "a leading axis of every array."
        )
    return other


def _logits(models: Read, parts: dict[str, Part], options: Options) -> dict[str, np.ndarray]:
    width = chunk_width(max(models.members, 1), options)
    run = lambda part: predict(
        models.model, models.variables, Stored(part.inputs, jnp.asarray(part.targets)), width=width, axis=options.axis
    )
    return {SPLITS[name]: np.asarray(run(part), np.float32) for name, part in parts.items()}


def _views(parts: dict[str, Part], logits: dict[str, dict]) -> dict[str, list]:
    """The populations as audits look at them."""
    from unlearn_jax.evaluation.panels import EvalSplits, Panels, PopulationOutputs
    from unlearn_jax.evaluation.views import views_of

    labels = {SPLITS[name]: part.targets for name, part in parts.items()}
    clusters = {split: np.arange(len(x)) for split, x in labels.items()}
    role = {"unlearned": "original", "retrain": "retrain"}
    populations = [PopulationOutputs(name, "", role[name], [outputs]) for name, outputs in logits.items()]
    return views_of(Panels([EvalSplits(labels, clusters, {})], populations, {}, {}))


def _figures(views: dict[str, list], how: Any) -> Findings:
    from unlearn_jax.evaluation.engine import member_draws, plain
    from unlearn_jax.evaluation.figures import AuditData, own_figures, pair_figures
    from unlearn_jax.evaluation.metric import ModelMetric, PopulationMetric
    from unlearn_jax.evaluation.table import rows_of

    view, names = views["unlearned"][0], {split: name for name, split in SPLITS.items()}
    wanted = [(metric, split) for metric, splits in (("accuracy", names), ("margin", ("forget",))) for split in splits]
    specs = [spec for spec in rows_of(ModelMetric) if (spec.metric, spec.split) in wanted and view.has(spec.split)]
    findings = Findings()
    for spec in specs:
        values = spec.values(view)
        assert values is not None  # the view has the split
        draws = member_draws([values], "original", None, how)
        findings[f"{spec.metric}_{names[spec.split]}"] = Finding(*plain(draws, spec.low, spec.high)[:3])
    findings["attack_auc"] = _attack(views["unlearned"], None, how)
    if "retrain" not in views:
        return findings
    bench = AuditData(views, how)
    for spec in specs:
        gap = next(f for f in own_figures(bench, spec) if f.reference)
        findings[f"{spec.metric}_{names[spec.split]}_gap"] = Finding(*gap.estimate[:3], *gap.band[:2])
    findings["attack_auc_gap"] = _attack(views["unlearned"], views["retrain"], how)
    for spec in rows_of(PopulationMetric):
        if spec.metric in DISTANCES and spec.split == "forget":
            for figure in pair_figures(bench, spec):
                findings[spec.metric] = Finding(*figure.estimate[:3], *figure.band[:2])
    return findings


def _attack(views: list, reference: list | None, how: Any) -> Finding:
    """Area under the curve of a threshold on margins, requested against held-out; or minus that of a reference."""
    from unlearn_jax.metrics import subset_draws_pooled, t_estimate
    from unlearn_jax.metrics.roc import auc

    both = [views[0]] if reference is None else [views[0], reference[0]]
    tables = [_finite_members(view.margin("forget"), view.margin("test")) for view in both]
    roles = ["original", "retrain"][: len(both)]

    def area(*sides) -> float:
        each = [float(np.mean(auc(sides[i], sides[i + 1]))) for i in range(0, len(sides), 2)]
        return each[0] - (each[1] if len(each) > 1 else 0.0)

    draws = subset_draws_pooled(
        area,
        *(side for table in tables for side in table),
        examples=["forget", "validation"] * len(both),
        roles=[role for role in roles for _ in range(2)],
        seed=how.seed,
        resamples=how.draws,
    )
    draws = draws._replace(n=min(len(table[0]) for table in tables))
    scale, low = ("logit", 0.0) if reference is None else ("plain", -1.0)
    return Finding(*t_estimate(draws, low=low, high=1.0, scale=scale)[:3])


def _finite_members(*tables: np.ndarray) -> list[np.ndarray]:
    """The members whose every value is finite, alike in all tables."""
    good = np.all([np.isfinite(table).all(axis=1) for table in tables], axis=0)
    return [table[good] for table in tables]
