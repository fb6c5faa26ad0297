"""The battery on populations whose truth is known: a perfect method is inside the bands, a bad one is not."""

import csv

import numpy as np
import panels as made
import pytest
from panels import MEMBERS, synthetic
from pyarrow import parquet

from unlearn_jax.audits.audit import _notes, audited, of_practice
from unlearn_jax.evaluation.curves import drawn
from unlearn_jax.evaluation.engine import Precision
from unlearn_jax.evaluation.figures import AuditData
from unlearn_jax.evaluation.ranking import rankings
from unlearn_jax.evaluation.records import COLUMNS, write_audit
from unlearn_jax.evaluation.views import View, views_of
from unlearn_jax.metrics import (
    forgetting_epsilon,
    klom,
    margin,
    residual_distance,
    residual_influence,
    threshold_attack,
    tow,
)

HOW, QUICK = Precision(draws=20, splits=40, resamples=60), Precision(draws=8, splits=6, resamples=20)


def measured(panels, how=QUICK):
    """Figures by (metric, variant, split, reference, population)."""
    bench = AuditData(views_of(panels), how)
    figures = audited(bench, panels)
    keyed = {(f.metric, f.variant, f.split, f.reference, f.label): f for f in figures}
    assert len(keyed) == len(figures)  # nothing is told twice
    return bench, figures, keyed


@pytest.fixture(scope="module")
def found():
    panels = synthetic()
    return panels, *measured(panels, HOW)


def raw(panels, name, split="forget", request=0):
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
    expected = threshold_attack(np.log(view.true_label_prob("forget")), np.log(view.true_label_prob("test"))).auc.mean()
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


@pytest.mark.slow
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


KEPT = ("oracle", "retrain", "null", "retrain_b", "retrain_c", "kept", "half")


def test_bands_against_retrain_are_of_retrained_models_and_of_the_sizes_compared():
    panels = synthetic(7, measured=False, names=KEPT, splits=("forget", "rest", "test"))
    few = [p._replace(logits=[{s: t[:5] for s, t in p.logits[0].items()}]) if p.name == "half" else p
           for p in panels.populations]  # fmt: skip
    bench, figures, keyed = measured(panels._replace(populations=few), Precision(draws=8, splits=30, resamples=20))
    assert bench.alike("retrain") == ["retrain", "retrain_b", "retrain_c"] and bench.alike("oracle") == [
        "oracle",
        "null",
    ]
    inside = [f.inside for f in figures if f.label == "kept" and f.reference == "retrain" and f.inside is not None]
    assert len(inside) > 30 and np.mean(inside) >= 0.8
    mine, others = (keyed["wasserstein_1", "", "forget", "retrain", name].band for name in ("half", "kept"))
    assert (mine.members, others.members) == (5, MEMBERS) and mine.centre > others.centre  # fewer lie further apart
    assert keyed["accuracy_gap", "", "forget", "retrain", "half"].band.members == 5
    assert keyed["tow", "means", "", "retrain", "half"].band.members == 5


def test_ratios_to_noise_are_not_told():
    panels = synthetic(8, measured=False, names=("oracle", "retrain", "original", "half"), members=4)
    bench, figures, keyed = measured(panels)
    assert np.isnan(keyed["residual_influence", "", "forget", "oracle", "half"].estimate[:5]).all()
    assert "not identifiable" in " ".join(_notes(bench, panels)) and "fewer than 8 members" in " ".join(
        _notes(bench, panels)
    )
    ranked = {r[:4]: r for r in rankings(figures, ["half"])}
    assert np.isnan(ranked["residual_distance", "", "forget", "oracle"].rank).all()
    names, splits = ("oracle", "retrain", "null", "half"), ("forget", "test")
    alike = synthetic(8, measured=False, names=names, splits=splits)
    original = alike.find("null")._replace(name="original", role="original")
    bench, _, keyed = measured(alike._replace(populations=[*alike.populations, original]))
    assert np.isnan(keyed["residual_distance", "", "forget", "oracle", "half"].estimate.value)
    assert "within the noise" in " ".join(_notes(bench, alike))


def test_two_classes_go_without_the_attack_on_the_other_classes(monkeypatch):
    monkeypatch.setattr(made, "CLASSES", 2)
    keyed = measured(synthetic(9, measured=False, names=("retrain", "half")))[2]
    metrics = {key[0] for key in keyed}
    assert "klom" in metrics and "cmia_accuracy" not in metrics


def test_relearning_that_never_gets_there_is_not_told_as_a_time():
    panels = synthetic(10, names=("oracle", "retrain", "original", "good", "bad"))
    for panel in panels.populations:
        if panel.name in ("oracle", "good"):
            panel.measured["benign_relearning"][:] = np.linspace(0.1, 0.5 if panel.name == "good" else 0.6, 30)
    keyed = measured(panels)[2]
    for metric, variant in (("benign_relearning_steps_gap", "on similar samples"), ("relearning_ratio", "benign")):
        key = (metric, variant, "forget", "oracle")
        assert np.isnan(keyed[(*key, "good")].estimate.value) and np.isfinite(keyed[(*key, "bad")].estimate.value)
    area = keyed["benign_relearning_area_gap", "on similar samples", "forget", "oracle", "good"].estimate
    assert area.value == pytest.approx(-0.05)  # the mean of both lines differs by a twentieth


@pytest.mark.slow
def test_requests_of_one_cluster_each_and_figures_of_models_have_intervals():
    panels = synthetic(11, requests=3, measured=False, names=("oracle", "retrain", "original", "half"))
    grounds = [g._replace(clusters=g.clusters | {"forget": 0 * g.clusters["forget"]}) for g in panels.ground]
    keyed = measured(panels._replace(ground=grounds))[2]
    told = keyed["klom", "closed", "forget", "oracle", "half"].estimate
    assert told.ci_low < told.ci_members_low < told.value < told.ci_members_high < told.ci_high
    models = keyed["threshold_auc", "loss", "forget", "", "half"].estimate
    assert (models.ci_low, models.ci_high) == (models.ci_members_low, models.ci_members_high)
    one = measured(panels._replace(ground=[g._replace(clusters=g.clusters | {"forget": 0 * g.clusters["forget"]})
                   for g in panels.ground[:1]], populations=[p._replace(logits=p.logits[:1]) for p in
                   panels.populations]))[2]["klom", "closed", "forget", "oracle", "half"].estimate  # fmt: skip
    assert (one.ci_low, one.ci_high) == (one.ci_members_low, one.ci_members_high)


@pytest.mark.slow
def test_test_examples_that_requests_share_are_drawn_once():
    """Of examples that differ, four requests on the same ones say no more than one request does."""
    panels = synthetic(12, requests=4, measured=False, names=("oracle", "retrain", "original", "half"))
    rng, populations, shape = np.random.default_rng(0), [], (MEMBERS, 40, made.CLASSES)
    base, moved = rng.normal(0, 2, shape[1:]), 3.0 * np.eye(made.CLASSES)[0] * (np.arange(40)[:, None] % 2)
    for panel in panels.populations:
        centre = base + (moved if panel.name == "half" else 0.0)
        logits = [t | {"test": (centre + rng.normal(0, 0.1, shape)).astype(np.float32)} for t in panel.logits]
        populations.append(panel._replace(logits=logits))
    labels = panels.ground[0].labels["test"]
    grounds = [g._replace(labels=g.labels | {"test": labels}) for g in panels.ground]
    first = [p._replace(logits=p.logits[:1]) for p in populations]
    whole, alone = (
        measured(panels._replace(ground=g, populations=p))[2] for g, p in ((grounds, populations), (grounds[:1], first))
    )
    for key in (("accuracy", "", "test", "", "half"), ("klom", "closed", "test", "oracle", "half")):
        width = [one[key].estimate.ci_high - one[key].estimate.ci_low for one in (whole, alone)]
        assert width[0] > 0.7 * width[1], key


def test_rankings_put_the_perfect_method_first_and_say_who_sees_retraining(found):
    _, bench, figures, _ = found
    methods = [label for label in bench.judged if of_practice(bench.views[label][0].panel)]
    assert methods == ["good", "half", "bad"]
    ranked = {r[:4]: r for r in rankings(figures, methods)}
    first = ranked["klom", "closed", "forget", "oracle"]
    assert first.rank.tolist() == [1, 2, 3] and first.detects is True and first.tau == pytest.approx(1.0)
    assert (first.low <= first.rank).all() and (first.rank <= first.high).all()
    other = ranked["klom", "closed", "forget", "retrain"]
    assert other.rank[0] == 3 and other.detects is None and other.tau < 0  # retrain's order is not the oracle's
    assert ranked["accuracy_gap", "", "rest", "oracle"].detects is False


def test_everything_is_written_and_read_back(found, tmp_path):
    panels, bench, figures, keyed = found
    ranked = rankings(figures, ["good", "half", "bad"])
    curves = drawn(bench, panels)
    write_audit(tmp_path, figures, ranked, panels.facts, curves, {"command": "x"})
    with (tmp_path / "audit.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS) and len(rows) == len(figures)
    assert parquet.read_table(tmp_path / "audit.parquet").num_rows == len(figures)
    named = {(r["metric"], r["variant"], r["split"], r["reference"], r["method"]): r for r in rows}
    key = ("klom", "closed", "forget", "oracle", "half")
    row = named[key]
    assert float(row["value"]) == keyed[key].estimate.value
    assert row["dataset"] == "synthetic" and row["inside_null"] == "false"
    with (tmp_path / "ranking.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3 * len(ranked)
    written = {"audit.csv", "audit.parquet", "ranking.csv", "curves.npz", "audit.json"}
    assert {path.name for path in tmp_path.iterdir()} == written


@pytest.mark.slow
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


def test_curves_hold_values_within_their_bands(found):
    panels, bench, *_ = found
    curves = drawn(bench, panels)
    for name, band in curves.items():
        if name.startswith(("roc/", "relearning/", "noisy/", "distance/")):
            value, low, high = band
            assert ((low <= value + 1e-9) & (value <= high + 1e-9)).all(), name
    np.testing.assert_allclose(curves["klom/half/oracle"], klom(raw(panels, "half"), raw(panels, "oracle")))
    assert (np.diff(curves["roc/bad/oracle"][0]) >= 0).all() and curves["roc/bad/oracle"][0][0] > 0.9
    grid, middle, low, high = curves["klom_null/oracle"]
    assert (low <= middle).all() and (middle <= high).all() and middle[-1] == 1.0
    assert curves["distance_centre/half/oracle"].shape == curves["distance/half/oracle"][0].shape == (8,)
