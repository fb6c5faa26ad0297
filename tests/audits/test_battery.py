"""The battery on populations whose truth is known: a perfect method is inside the bands, a bad one is not."""

import csv

import numpy as np
import pytest
from panels import LIFTS, MEMBERS, synthetic
from pyarrow import parquet

from unlearn_jax.audits.audit import audited, of_practice
from unlearn_jax.audits.curves import drawn
from unlearn_jax.audits.engine import Precision
from unlearn_jax.audits.figures import Bench
from unlearn_jax.audits.ranking import rankings
from unlearn_jax.audits.records import COLUMNS, write_audit
from unlearn_jax.audits.views import View, views_of
from unlearn_jax.metrics import (
    forgetting_epsilon,
    klom,
    margin,
    residual_distance,
    residual_influence,
    threshold_attack,
    tow,
)

HOW, QUICK = Precision(draws=40, splits=60, resamples=100), Precision(draws=20, splits=10, resamples=40)


def measured(panels, how=QUICK):
    """Figures by (metric, variant, split, reference, population)."""
    bench = Bench(views_of(panels), how)
    figures = audited(bench, panels)
    keyed = {(f.metric, f.variant, f.split, f.reference, f.label): f for f in figures}
    assert len(keyed) == len(figures)  # nothing is told twice
    return bench, figures, keyed


@pytest.fixture(scope="module")
def found():
    panels = synthetic()
    return panels, *measured(panels, HOW)


def raw(panels, name, split="forget", request=0):
    """A population's margins."""
    ground = panels.ground[request]
    return margin(panels.find(name).logits[request][split], ground.labels[split])


def test_a_perfect_method_lies_in_nearly_every_band_and_the_original_in_none_that_sees(found):
    panels, _, figures, keyed = found
    inside = {name: [f.inside for f in figures if f.label == name and f.inside is not None] for name in ("good", "bad")}
    against = lambda name: [
        f.inside for f in figures if f.label == name and f.reference == "oracle" and f.inside is not None
    ]
    assert len(inside["good"]) > 60
    assert np.mean(against("good")) >= 0.85 and np.mean(against("null")) >= 0.8
    seeing = {"klom": "closed", "gaussian_kl": "shared", "energy_distance": "unbiased", "u_lira_auc": "cross-fitted"}
    seeing |= {"forgetting_epsilon": "", "rmia_auc": "offline", "lira_auc": "online", "js_divergence": "excess"}
    for key in seeing.items():
        assert keyed[(*key, "forget", "oracle", "bad")].inside is False
        assert keyed[(*key, "forget", "oracle", "retrain")].inside is False  # it sees what stayed in S


def test_pair_figures_are_the_metric_on_the_margins(found):
    panels, _, _, keyed = found
    u, none, kept = (raw(panels, name) for name in ("half", "oracle", "retrain"))
    assert keyed["klom", "closed", "forget", "oracle", "half"].estimate.value == pytest.approx(klom(u, none).mean())
    assert keyed["klom", "closed", "forget", "retrain", "half"].estimate.value == pytest.approx(klom(u, kept).mean())
    epsilon = keyed["forgetting_epsilon", "", "forget", "oracle", "half"].estimate.value
    assert epsilon == pytest.approx(forgetting_epsilon(u, none).mean())


def test_own_figures_are_told_raw_and_as_signed_gaps(found):
    panels, _, _, keyed = found
    for metric, variant, split in (
        ("accuracy", "", "forget"),
        ("margin", "", "similar"),
        ("threshold_auc", "loss", "forget"),
    ):
        u, r = (keyed[metric, variant, split, "", name].estimate.value for name in ("half", "oracle"))
        gap = keyed[f"{metric}_gap", variant, split, "oracle", "half"].estimate
        assert gap.value == pytest.approx(u - r) and gap.ci_low <= gap.value <= gap.ci_high
    assert keyed["margin", "", "forget", "", "half"].estimate.value == pytest.approx(raw(panels, "half").mean())
    view = View(panels.find("half"), panels.ground[0], 0)
    expected = threshold_attack(np.log(view.sure("forget")), np.log(view.sure("test"))).auc.mean()
    assert keyed["threshold_auc", "loss", "forget", "", "half"].estimate.value == pytest.approx(expected)


def test_residual_figures_and_composites_are_those_of_the_metrics(found):
    panels, _, _, keyed = found
    margins = [raw(panels, name) for name in ("half", "original", "oracle")]
    for metric, function in (("residual_influence", residual_influence), ("residual_distance", residual_distance)):
        assert keyed[metric, "", "forget", "oracle", "half"].estimate.value == pytest.approx(function(*margins).value)
    views = {name: View(panels.find(name), panels.ground[0], 0) for name in ("half", "retrain")}
    right = {
        name: {a: v.correct(b).mean(axis=1) for a, b in (("forget", "forget"), ("retain", "rest"), ("test", "test"))}
        for name, v in views.items()
    }
    assert keyed["tow", "means", "", "retrain", "half"].estimate.value == pytest.approx(
        tow(right["half"], right["retrain"])
    )


def test_what_keeps_more_relearns_sooner(found):
    _, _, _, keyed = found
    ratio = {
        name: keyed["relearning_ratio", "AIN", "forget", "oracle", name].estimate.value
        for name in ("half", "bad", "good")
    }
    assert ratio["bad"] < ratio["half"] < 0.9 < ratio["good"]
    assert keyed["residual_knowledge", "gaussian", "forget", "oracle", "bad"].estimate.value > 2


def test_two_requests_are_the_mean_of_both():
    panels = synthetic(3, requests=2, measured=False, names=("oracle", "retrain", "original", "half"))
    _, _, both = measured(panels)
    alone = [
        measured(
            panels._replace(ground=[g], populations=[p._replace(logits=[p.logits[i]]) for p in panels.populations])
        )[2]
        for i, g in enumerate(panels.ground)
    ]
    for key in (("klom", "closed", "forget", "oracle", "half"), ("accuracy", "", "rest", "", "half")):
        assert both[key].estimate.value == pytest.approx(np.mean([one[key].estimate.value for one in alone]))
    assert both["klom", "closed", "forget", "oracle", "half"].estimate.n == 2 * MEMBERS


def test_a_diverged_member_is_left_out_everywhere():
    panels = synthetic(4, measured=False, names=("oracle", "retrain", "original", "half"))
    spoiled = panels.find("half")
    for table in spoiled.logits[0].values():
        table[3] = np.nan
    clean = spoiled._replace(logits=[{s: np.delete(t, 3, axis=0) for s, t in spoiled.logits[0].items()}])
    others = [p for p in panels.populations if p.name != "half"]
    one, other = (measured(panels._replace(populations=[*others, p]))[2] for p in (spoiled, clean))
    assert one.keys() == other.keys()
    drawing = ("loss_attack", "svc", "entropy_attack", "u_lira", "lira", "cmia", "average", "tow_mia", "neighbour")
    for key in (k for k in one if k[-1] == "half" and not k[0].startswith(drawing)):  # these draw folds or samples
        assert one[key].estimate.value == pytest.approx(other[key].estimate.value), key
        assert one[key].estimate.n == other[key].estimate.n == MEMBERS - 1, key
    assert all(np.isfinite(f.estimate.value) for f in one.values() if f.label == "half")


def test_without_similar_samples_oracle_or_second_population_the_rest_is_still_measured():
    panels = synthetic(5, measured=False, splits=("forget", "rest", "test"), names=("retrain", "half"))
    bench, figures, keyed = measured(panels)
    assert bench.kind == "retrain" and {f.reference for f in figures} == {"", "retrain"}
    assert not {"similar"} & {f.split for f in figures} and not any(f.metric.startswith("residual_i") for f in figures)
    assert keyed["klom", "closed", "forget", "retrain", "half"].band.members == MEMBERS // 2
    assert ("tow", "means", "", "retrain", "half") in keyed
    few = measured(synthetic(5, measured=False, splits=("forget", "test"), names=("retrain", "half")))[2]
    assert ("klom", "closed", "forget", "retrain", "half") in few and ("tow", "means", "", "retrain", "half") not in few


def test_rankings_put_the_perfect_method_first_and_say_who_sees_retraining(found):
    _, bench, figures, _ = found
    methods = [label for label in bench.judged if of_practice(label)]
    assert methods == ["good", "half", "bad"]
    ranked = {r[:4]: r for r in rankings(figures, methods)}
    first = ranked["klom", "closed", "forget", "oracle"]
    assert first.rank.tolist() == [1, 2, 3] and first.sees is True and first.tau == pytest.approx(1.0)
    assert (first.low <= first.rank).all() and (first.rank <= first.high).all()
    other = ranked["klom", "closed", "forget", "retrain"]
    assert other.rank[0] == 3 and other.sees is None and other.tau < 0  # retrain's order is not the oracle's
    assert ranked["accuracy_gap", "", "rest", "oracle"].sees is False


def test_everything_is_written_and_read_back(found, tmp_path):
    panels, bench, figures, keyed = found
    ranked = rankings(figures, ["good", "half", "bad"])
    curves = drawn(bench, panels)
    write_audit(tmp_path, figures, ranked, panels.facts, curves, {"command": "x"})
    with (tmp_path / "audit.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS) and len(rows) == len(figures)
    assert parquet.read_table(tmp_path / "audit.parquet").num_rows == len(figures)
    row = next(
        r
        for r in rows
        if (r["metric"], r["variant"], r["split"], r["reference"], r["method"])
        == ("klom", "closed", "forget", "oracle", "half")
    )
    assert float(row["value"]) == keyed["klom", "closed", "forget", "oracle", "half"].estimate.value
    assert row["dataset"] == "synthetic" and row["inside_null"] == "false"
    with (tmp_path / "ranking.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3 * len(ranked)
    assert set(path.name for path in tmp_path.iterdir()) == {
        "audit.csv",
        "audit.parquet",
        "ranking.csv",
        "curves.npz",
        "audit.json",
    }


def test_curves_hold_values_within_their_bands(found):
    panels, bench, *_ = found
    curves = drawn(bench, panels)
    for name, band in curves.items():
        if name.startswith(("roc/", "relearning/", "noisy/", "distance/")):
            value, low, high = band
            assert ((low <= value + 1e-9) & (value <= high + 1e-9)).all(), name
    np.testing.assert_allclose(curves["klom/half/oracle"], klom(raw(panels, "half"), raw(panels, "oracle")))
    assert (np.diff(curves["roc/bad/oracle"][0]) >= 0).all() and curves["roc/bad/oracle"][0][0] > 0.9
    grid, middle, low, high = curves["klom_null"]
    assert (low <= middle).all() and (middle <= high).all() and middle[-1] == 1.0
    assert curves["distance_centre/half/oracle"].shape == curves["distance/half/oracle"][0].shape == (8,)


def test_the_order_of_members_changes_no_distance():
    panels = synthetic(6, measured=False, names=("oracle", "retrain", "original", "half"))
    half = panels.find("half")
    turned = half._replace(logits=[{s: t[::-1] for s, t in half.logits[0].items()}])
    others = [p for p in panels.populations if p.name != "half"]
    one, other = (measured(panels._replace(populations=[*others, p]))[2] for p in (half, turned))
    for metric in ("klom", "gaussian_kl", "energy_distance", "wasserstein_1", "rank_effect", "forgetting_epsilon"):
        keys = [k for k in one if k[0] == metric and k[-1] == "half"]
        assert keys
        for key in keys:
            assert one[key].estimate.value == pytest.approx(other[key].estimate.value)


def test_every_population_of_the_synthetic_study_is_used():
    assert set(LIFTS) == {p.name for p in synthetic().populations}
