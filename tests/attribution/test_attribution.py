"""An attribution study in miniature: what its files say against what is computed here by other ways."""

import csv
import dataclasses
import functools
import json
from functools import partial

import numpy as np
import pytest
import toy
from pyarrow import parquet
from refusals import refuses
from sklearn.datasets import load_digits

from unlearn_jax.attribution import AttributionConfig, law, run, run_attribution, tables, tracks
from unlearn_jax.attribution.estimators import ESTIMATORS, chosen
from unlearn_jax.attribution.ground import prepare_ground
from unlearn_jax.attribution.tables import pearson, spearman
from unlearn_jax.influence import (
    datamodels,
    ekfac_self_influence,
    feldman_influence,
    lds,
    logistic_fit,
    memorization,
    self_influence,
)
from unlearn_jax.metrics import bootstrap_interval, margin
from unlearn_jax.metrics.ridge import ridge_fit

CLUSTERS, COPIES, QUERIES, REPEATS, SUBSETS = 3, 2, 6, 2, 16
CONFIG = AttributionConfig(  # small in every way
    train_size=80, num_targets=CLUSTERS, copies=COPIES, queries=QUERIES, subsets=SUBSETS, repeats=REPEATS, ensemble=1,
    steps=20, targets="random", model="mlp", model_options=("widths=8",),
)  # fmt: skip
KINDS = {"target": "singles", "cluster": "clusters"}
FILES = {"removals.parquet", "carriers.parquet", "memorization.parquet", "law.parquet", "summary.csv"}
FILES |= {"gallery.npz", "manifest.json"}


def few_digits(folder):
    """Three digits of 4 x 4 pixels, so that the softmax regression has 51 weights."""
    inputs, targets = load_digits(n_class=3, return_X_y=True)
    inputs = (inputs.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4))[..., None] / 16).astype(np.float32)
    held = {"x_train": inputs[:400], "y_train": targets[:400], "x_test": inputs[400:], "y_test": targets[400:]}
    np.savez(folder / "digits.npz", **held)
    return str(folder / "digits.npz")


SOME = "influence,ekfac,gram,datamodel,feldman"  # one of each kind


@pytest.fixture(scope="module", params=[SOME, pytest.param("all", marks=pytest.mark.slow)])
def study(tmp_path_factory, request):
    """The run folder, its ground and tracks, every population's role, masks and margins on the queries, estimators."""
    folder, seen, told = tmp_path_factory.mktemp("attribution"), {}, {}
    train, say = tracks.train_subsets, tracks.outputs_of

    def trained(problem, data, masks, *, role, **more):
        found = train(problem, data, masks, role=role, **more)
        seen[role] = (np.asarray(masks, bool), found.variables)
        return found

    def asked(model, task, variables, batch, **more):
        found = say(model, task, variables, batch, **more)
        role = next((r for r, (_, mine) in seen.items() if mine is variables), None)
        told[role, len(batch.weight)] = found
        return found

    ground, found = {}, {}
    keep = lambda name, make: lambda *given: found.setdefault(name, make(*given))
    with pytest.MonkeyPatch.context() as patch, toy.quick_programs():
        patch.setattr(tracks, "train_subsets", trained)
        patch.setattr(tracks, "outputs_of", asked)
        patch.setattr(run, "TRACKS", {name: keep(name, make) for name, make in run.TRACKS.items()})
        patch.setattr(run, "prepare_ground", lambda *a, **k: ground.setdefault("it", prepare_ground(*a, **k)))
        patch.setattr(law, "COPIES", (0, 1, 4))
        few = lambda *given, **how: bootstrap_interval(*given, **how | {"resamples": 40})
        patch.setattr(tables, "bootstrap_interval", few)
        patch.setattr(tables, "lds", partial(lds, resamples=40))
        config = dataclasses.replace(CONFIG, dataset=few_digits(folder), estimators=request.param)
        out = run_attribution(config, folder / "run", command="this test")
    populations = {role: (masks, told[role, QUERIES + CLUSTERS]) for role, (masks, _) in seen.items()}
    return out, ground["it"], found, populations, chosen(request.param), config


@pytest.fixture(scope="module")
def columns(study):
    """Columns of a table where columns have values: (name, **where) -> dict of arrays."""
    read = {}

    def of(name, **where):
        if name not in read:
            table = parquet.read_table(study[0] / f"{name}.parquet")
            read[name] = {c: table.column(c).to_numpy(zero_copy_only=False) for c in table.column_names}
        keep = np.logical_and.reduce([read[name][k] == v for k, v in where.items()] or [np.bool_(True)])
        return {k: v[keep] if where else v for k, v in read[name].items()}

    return of


@pytest.fixture(scope="module")
def figures(study):
    """Rows of summary.csv by (track, removed, estimator, metric)."""
    with (study[0] / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    keys = ("track", "removed", "estimator", "metric")
    found = {tuple(r[k] for k in keys): {k: float(r[k]) for k in ("value", "ci_low", "ci_high", "n")} for r in rows}
    assert len(found) == len(rows)
    return found


def removals(columns, track, kind, name):
    """(groups, queries) predicted, actual and its error."""
    mine = columns("removals", track=track, removed=kind, estimator=name)
    return tuple(mine[c].reshape(CLUSTERS, -1) for c in ("predicted", "actual", "error"))


@pytest.fixture(scope="module")
def scores_of(study):
    """(n, q) scores of an estimator on a track, made again."""

    @functools.cache
    def of(name, track):
        with toy.quick_programs():
            return ESTIMATORS[name].scores(study[2][track])

    return of


def test_the_folder_is_whole_and_says_what_was_asked(study):
    out, ground, _, _, names, config = study
    assert {path.name for path in out.iterdir()} == FILES
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["kind"] == "attribution" and manifest["command"] == "this test"
    assert manifest["config"] == json.loads(json.dumps(dataclasses.asdict(config)))
    sizes = {"train": 80 + COPIES * CLUSTERS, "queries": QUERIES + CLUSTERS, "clusters": CLUSTERS}
    assert manifest["examples"] == sizes
    assert list(manifest["estimators"]) == names and set(manifest["seconds"]) == {"exact", "network"}
    roles = {"without singles", "without clusters", "halves", "everything"}
    assert set(manifest["training_seconds"]["network"]) == roles


def test_clusters_are_a_target_and_its_copies(study):
    ground = study[1]
    bench = ground.setup.bench
    for g, cluster in enumerate(ground.clusters):
        rows = ground.train[cluster]
        assert (
            len(rows) == COPIES + 1
            and ground.targets[g] in cluster
            and ground.queries[g] == ground.train[ground.targets[g]]
        )
        assert len(set(bench.cluster[rows])) == 1 and sorted(bench.copy[rows]) == list(range(COPIES + 1))
    assert (ground.asked == [*range(CLUSTERS), *[-1] * QUERIES]).all()
    assert (bench.origin[ground.queries[CLUSTERS:]] == 2).all()


def test_exact_truth_is_that_of_refits_made_here(study, columns):
    ground = study[1]
    inputs = lambda rows: ground.setup.bench.inputs[rows].reshape(len(rows), -1).astype(np.float64)
    x, z = inputs(ground.train), inputs(ground.queries)
    middle, scale = x.mean(axis=0), x.std(axis=0).mean()
    ones = lambda a: np.concatenate([(a - middle) / scale, np.ones((len(a), 1))], axis=1)
    x, z, y, t = ones(x), ones(z), ground.labels(ground.train), ground.labels(ground.queries)
    fit = lambda weight: margin(z @ logistic_fit(x, y, l2=CONFIG.l2, classes=3, weight=weight), t)
    whole = fit(np.ones(len(x)))
    for kind, group in (("target", ground.targets[[1]]), ("cluster", ground.clusters[2])):
        weight = np.ones(len(x))
        weight[group] = 0.0
        _, actual, error = removals(columns, "exact", kind, "influence")
        np.testing.assert_allclose(actual[{"target": 1, "cluster": 2}[kind]], whole - fit(weight), atol=1e-7)
        assert (error == 0).all()


def test_network_truth_is_the_fall_of_mean_margins_of_the_stored_populations(study, columns):
    ground = study[1]
    for kind, role in KINDS.items():
        masks, said = study[3][f"without {role}"]
        whole = masks.all(axis=1)
        for g, group in enumerate([[t] for t in ground.targets] if kind == "target" else ground.clusters):
            without = (~masks).sum(axis=1) == len(group)
            without &= ~masks[:, group].any(axis=1)
            assert without.sum() == REPEATS
            fall = said.margin[whole].mean(axis=0, dtype=np.float64) - said.margin[without].mean(
                axis=0, dtype=np.float64
            )
            _, actual, error = removals(columns, "network", kind, "influence")
            np.testing.assert_allclose(actual[g], fall, atol=1e-5)
            assert (error[g] > 0).all()


@pytest.mark.parametrize("track", ["exact", "network"])
def test_what_is_said_of_a_group_is_the_sum_of_what_is_said_of_its_members(study, scores_of, columns, track):
    ground = study[1]
    n = len(ground.train)
    for name in study[4]:
        scores = scores_of(name, track) / n
        single, _, _ = removals(columns, track, "target", name)
        group, _, _ = removals(columns, track, "cluster", name)
        near = {"rtol": 1e-5, "atol": 1e-6 * np.abs(scores).max() + 1e-12}
        np.testing.assert_allclose(single, scores[ground.targets], **near)
        np.testing.assert_allclose(group, [scores[c].sum(axis=0) for c in ground.clusters], **near)


def test_own_rows_are_of_the_removed_target(study, columns):
    ground = study[1]
    mine = columns("removals", own=True)
    assert len(mine["own"]) == 2 * 2 * (len(study[4]) + 1) * CLUSTERS
    assert (mine["query"] == ground.queries[mine["cluster"].astype(int)]).all()


def test_a_newton_step_is_nearer_to_the_truth_than_the_sum(columns, figures):
    for kind in KINDS:
        newton, actual, _ = removals(columns, "exact", kind, "newton")
        summed, _, _ = removals(columns, "exact", kind, "influence")
        assert np.abs(newton - actual).sum() < 0.5 * np.abs(summed - actual).sum()
    value = lambda kind, name: figures["exact", kind, name, "own_ratio"]["value"]
    assert value("cluster", "influence") < 0.8 * value("target", "influence")  # near-duplicates hide from gradients
    assert abs(value("cluster", "newton") - 1) < 0.2


@pytest.mark.parametrize("track", ["exact", "network"])
def test_summary_figures_are_those_of_the_removals(study, columns, figures, track):
    for kind in KINDS:
        for name in (*study[4], "newton"):
            predicted, actual, _ = removals(columns, track, kind, name)
            p, a = np.diagonal(predicted), np.diagonal(actual)
            expected = {
                "own_ratio": p.sum() / a.sum(),
                "own_error": np.abs(p - a).sum() / np.abs(a).sum(),
                "correlation": np.corrcoef(predicted.ravel(), actual.ravel())[0, 1] if predicted.any() else np.nan,
            }
            for metric, value in expected.items():
                if metric.startswith("own") and name != "newton" and not ESTIMATORS[name].scaled:
                    assert (track, kind, name, metric) not in figures
                    continue
                found = figures[track, kind, name, metric]
                assert found["n"] == CLUSTERS
                np.testing.assert_allclose(found["value"], value, rtol=1e-6)
                assert np.isnan(value) or np.isnan(found["ci_low"]) or found["ci_low"] <= found["ci_high"]


def test_correlations_are_numpys_and_scipys_and_nan_where_nothing_varies():
    from scipy.stats import spearmanr

    a, b = np.random.default_rng(0).normal(size=(2, 9))
    b[:4] = 1.0
    assert pearson(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1]) and spearman(a, b) == pytest.approx(
        spearmanr(a, b)[0]
    )
    assert np.isnan(pearson(a, np.ones(9))) and np.isnan(spearman(np.ones(9), b))


@pytest.mark.parametrize("track", ["exact", "network"])
def test_estimators_of_populations_are_fitted_on_one_half_and_judged_on_the_other(study, scores_of, figures, track):
    subsets = study[2][track].subsets
    half = SUBSETS // 2
    assert len(subsets.masks) == SUBSETS and subsets.masks.sum(axis=0).tolist() == [half] * subsets.masks.shape[1]
    if track == "network":
        masks, said = study[3]["halves"]
        np.testing.assert_array_equal(subsets.masks, masks)
        np.testing.assert_array_equal(subsets.margin, said.margin)
    first = datamodels(subsets.masks[:half], subsets.margin[:half]).scores
    np.testing.assert_allclose(scores_of("datamodel", track), first)
    found = feldman_influence(subsets.correct[:half], subsets.masks[:half]).value
    np.testing.assert_allclose(scores_of("feldman", track), len(found) * np.nan_to_num(found))
    for name in ("datamodel", "influence"):
        scores = scores_of(name, track)
        told = lds(scores, subsets.masks[half:], subsets.margin[half:], resamples=40)
        row = figures[track, "half", name, "lds"]
        np.testing.assert_allclose([row["value"], row["ci_low"], row["n"]], [told.value, told.ci_low, half], rtol=1e-5)


def test_examples_that_no_fitting_model_saw_say_nothing_by_feldman(study):
    track = study[2]["exact"]
    masks = track.subsets.masks.copy()
    masks[: SUBSETS // 2, 0] = False
    scores = ESTIMATORS["feldman"].scores(track._replace(subsets=track.subsets._replace(masks=masks)))
    assert (scores[0] == 0).all() and np.isfinite(scores).all()


@pytest.mark.parametrize("track", ["exact", "network"])
def test_what_carries_a_target_adds_up_to_the_whole_column(study, scores_of, columns, figures, track):
    ground = study[1]
    for name in study[4]:
        scores = scores_of(name, track) / len(ground.train)
        mine = columns("carriers", track=track, estimator=name)
        every = mine["own"] + mine["similar"] + mine["rest"]
        near = {"rtol": 1e-5, "atol": 1e-5 * np.abs(scores).sum(axis=0).max() + 1e-12}
        np.testing.assert_allclose(every, scores[:, :CLUSTERS].sum(axis=0), **near)
        np.testing.assert_allclose(mine["own"], scores[ground.targets, range(CLUSTERS)], **near)
        share = mine["similar"].sum() / (mine["similar"].sum() + mine["own"].sum()) if mine["own"].any() else np.nan
        np.testing.assert_allclose(figures[track, "", name, "carried_by_similar"]["value"], share)
        np.testing.assert_allclose(figures[track, "", name, "similar_found"]["value"], mine["recall"].mean())
    mine = columns("carriers", track="exact", estimator="influence")
    scores = scores_of("influence", "exact")
    for g, cluster in enumerate(ground.clusters):
        others = np.delete(np.arange(len(scores)), ground.targets[g])
        best = others[np.argsort(scores[others, g])[-COPIES:]]
        assert mine["recall"][g] == np.isin(best, cluster).mean()


def test_memorization_is_told_of_every_example_beside_its_self_influence(study, columns, figures):
    ground, made = study[1], study[2]["network"]
    for track in ("exact", "network"):
        for name in ("influence", "ekfac", "gradient"):
            mine = columns("memorization", track=track, estimator=name)
            np.testing.assert_array_equal(mine["row"], ground.train)
            kinds = dict(zip(*np.unique(mine["kind"], return_counts=True)))
            assert kinds == {"target": CLUSTERS, "copy": CLUSTERS * COPIES, "rest": 80 - CLUSTERS}
            assert (mine["row"][mine["kind"] == "target"] == np.sort(ground.queries[:CLUSTERS])).all()
            subsets = study[2][track].subsets
            known = memorization(subsets.own_correct, subsets.masks)
            np.testing.assert_allclose(mine["memorization"], known.value)
            value = spearman(mine["score"], mine["memorization"])
            told = figures[track, "", name, "memorization_correlation"]
            np.testing.assert_allclose(told["value"], value)
            clusters = CLUSTERS + np.arange(len(mine["score"]))  # draws follow the order of the numbers
            for g, cluster in enumerate(ground.clusters):
                clusters[cluster] = g
            assert len(np.unique(clusters)) == len(clusters) - CLUSTERS * COPIES
            drawn = bootstrap_interval(
                lambda a, b: spearman(a.ravel(), b.ravel()), mine["score"][None], mine["memorization"][None],
                clusters=clusters, roles=("one", "one"), method="percentile", resamples=40, seed=CONFIG.seed,
            )  # fmt: skip
            np.testing.assert_allclose([told["ci_low"], told["ci_high"]], [drawn.low, drawn.high])
    given = (made.model, made.task, made.members[0], made.train)
    with toy.quick_programs():
        own = self_influence(*given, **made.solving)
        near = ekfac_self_influence(*given, labels="exact", **made.damped)
    for name, scores in (("influence", own), ("ekfac", near)):
        told = columns("memorization", track="network", estimator=name)["score"]
        np.testing.assert_allclose(told, scores, rtol=1e-4, atol=1e-6)


def test_the_law_of_ridge_is_what_refits_do(study, columns):
    ridge, softmax = (columns("law", model=model) for model in ("ridge", "softmax"))
    np.testing.assert_allclose(ridge["effect"], ridge["law"], rtol=1e-6)
    assert np.isnan(softmax["law"]).all() and (softmax["effect"] > 0).all()
    for rows in (ridge, softmax):
        assert rows["cluster"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2] and rows["copies"].tolist() == [0, 1, 4] * 3
        assert (np.diff(np.abs(rows["effect"]).reshape(3, 3)) < 0).all()
    ground = study[1]
    x, labels, penalty = tracks.regression_inputs(ground), ground.labels(ground.train), None
    plain = np.setdiff1d(np.arange(len(x)), np.concatenate(ground.clusters))
    own, penalty = x[ground.targets[0]], len(plain) * CONFIG.l2
    said = []
    for count in (2, 1):  # of one target that is there twice, one is deleted
        more = np.concatenate([x[plain], np.repeat(own[None], count, axis=0)])
        y = np.concatenate([labels[plain] == labels[ground.targets[0]], np.ones(count)]).astype(float)
        said.append(own @ ridge_fit(more, y, np.ones(len(y)), penalty))
    assert ridge["effect"][1] == pytest.approx(said[0] - said[1], rel=1e-6)


def test_the_gallery_shows_the_most_helpful_examples(study, scores_of):
    out, ground, *_ = study
    with np.load(out / "gallery.npz") as stored:
        held = {name: stored[name] for name in stored.files}
    assert (str(held["estimator"]), str(held["track"])) == ("influence", "network")
    scores = scores_of("influence", "network") / len(ground.train)
    for k in range(CLUSTERS):
        order = np.argsort(-scores[:, k])[: run.NEAREST]
        np.testing.assert_allclose(held["scores"][k], scores[order, k], rtol=1e-4)
        assert set(held["rows"][k]) == set(ground.train[order])
        np.testing.assert_array_equal(held["own"][k], np.isin(held["rows"][k], ground.train[ground.clusters[k]]))
    bench = ground.setup.bench
    np.testing.assert_array_equal(held["images"], bench.inputs[held["rows"]])
    np.testing.assert_array_equal(held["images_target"], bench.inputs[ground.queries[:CLUSTERS]])
    np.testing.assert_array_equal(held["labels"], bench.labels[held["rows"]])


def test_another_run_in_the_same_folder_is_refused(study):
    before = {path.name: path.read_bytes() for path in study[0].iterdir()}
    other = dataclasses.replace(study[5], seed=1)
    refuses("holds another run: give another --out folder", run_attribution, other, study[0])
    assert {path.name: path.read_bytes() for path in study[0].iterdir()} == before
