"""Claims: each estimator and its verdict on studies with a known answer."""

import dataclasses
import importlib
import json
import sys
from pathlib import Path

import claim_runs
import numpy as np
import pytest
from claim_runs import prices, write_run

from unlearn_jax.errors import InputError

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

part = lambda name: importlib.import_module(f"claims.{name}")  # beside this test tree
rules, read, tow = map(part, ("claim", "read", "tow"))
klom_bias, methods_miss, poison, proximity, ssd_partial = map(
    part, ("klom_bias", "methods_miss", "poison", "proximity", "ssd_partial")
)
CLAIMS = importlib.import_module("claims").CLAIMS
OLD, NONE = {"original": 10.0}, {"oracle": 0.0}


def put(claim, folder, made):
    """Estimate a claim on run folders of its studies: {study: (levels, figures)}."""
    runs = {}
    for name, config in CLAIMS[claim].studies().items():
        levels, figures = made[name]
        runs[name] = write_run(folder / name, config, levels, figures)
    found = CLAIMS[claim].estimate(runs)
    return found, {f.name: f for f in found.figures}, rules.verdict(found.figures)


def figure(low, high, claimed="above"):
    """A figure that decides by 0."""
    return rules.Figure("", (low + high) / 2, low, high, null=0.0, claimed=claimed)


def test_a_figure_decides_by_its_whole_interval():
    cases = {
        ("agrees", "above"): (0.1, 0.2), ("disagrees", "above"): (-0.2, -0.1), ("not told", "above"): (-0.1, 0.2),
        ("agrees", "below"): (-0.2, -0.1), ("disagrees", "below"): (0.1, 0.2), ("not told", "below"): (0.0, 0.2),
    }  # fmt: skip
    for (said, claimed), (low, high) in cases.items():
        assert figure(low, high, claimed).verdict == said
    assert figure(np.nan, 0.2).verdict == "not told"


def test_a_claim_needs_all_that_decide_and_falls_with_one():
    good, bad, open_ = figure(0.1, 0.2), figure(-0.2, -0.1), figure(-0.1, 0.1)
    beside = bad._replace(null=None)
    assert rules.verdict([good, good, beside]) == "agrees"
    assert rules.verdict([good, open_]) == "not told"
    assert rules.verdict([good, open_, bad]) == "disagrees"
    assert rules.verdict([beside]) == "not told"


def test_a_study_takes_the_size_that_is_asked_for():
    config = CLAIMS["memorization"].studies()["low"]
    quick = rules.sized(config, None, True, {}, 32)
    assert (quick.members, quick.requests, quick.skip_requests) == (32, 1, 36)
    assert rules.sized(config, 12, True, {"seed": 3}).members == 12
    assert rules.sized(config, None, False, {}) == config
    assert rules.changed(("seed=3", "lr=1e-3", "model=linear")) == {"seed": 3, "lr": 1e-3, "model": "linear"}
    for size in ({"members": 16, "changes": {}}, {"members": None, "changes": {"members": 16}}):
        with pytest.raises(InputError, match="--members is 16: this claim needs at least 32"):
            rules.sized(config, quick=False, least=32, **size)


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ({0: 0, 1: 5, 4: 8, 8: 9}, "agrees"),
        ({0: 0, 1: 9, 4: 8, 8: 9}, "disagrees"),
        ({0: 0, 1: 5, 4: 5, 8: 9}, "not told"),
    ],
)
def test_residual_copies(tmp_path, left, said):
    levels = lambda axis: {(m, None): OLD | NONE | {"retrain": float(left[m])} for m in axis}
    made = {"images": (levels((0, 1, 4, 8)), ()), "facts": (levels((0, 1, 4)), ())}
    _, named, verdict = put("residual_copies", tmp_path, made)
    assert named["images: residual(retrain), 4 copies"].value == pytest.approx(left[4] / 10, abs=0.01)
    assert named["facts: rise from 1 to 4 copies"].value == pytest.approx((left[4] - left[1]) / 10, abs=0.01)
    assert verdict == said


@pytest.mark.parametrize(("near", "said"), [(1, "agrees"), (2, "disagrees")])
def test_methods_miss(tmp_path, near, said):
    far = dict.fromkeys(("scrub", "salun", "finetune")[: 3 - near], 6.0)
    close = dict.fromkeys(("prmq", "ssd")[:near], 0.5)
    level = OLD | NONE | {"retrain": 8.0, "do_nothing": 10.0, "oracle_matching": 0.1} | far | close
    made = {"catalogue": ({(4, None): level}, prices(level, 4))}
    found, named, verdict = put("methods_miss", tmp_path, made)
    assert named["share of 3 methods at a distance above 0.2"].value == pytest.approx((3 - near) / 3)
    assert named["distance of retraining"].value == pytest.approx(0.8, abs=0.01)
    assert {name for name, _ in found.tables[0].rows[:near]} == set(close) and verdict == said
    assert methods_miss.NEAR == 0.2


def test_a_method_of_which_nothing_is_known_is_neither_the_nearest_nor_the_first(tmp_path):
    lost = np.full((claim_runs.MEMBERS, sum(claim_runs.SPLITS.values())), np.nan)
    level = OLD | NONE | {"retrain": 8.0, "prmq": 2.0, "gradient_ascent": lost}
    found, named, _ = put("methods_miss", tmp_path, {"catalogue": ({(4, None): level}, prices(level, 4))})
    assert any(name.startswith("distance of prmq, whose interval ends lowest") for name in named)
    assert [name for name, _ in found.tables[0].rows] == ["prmq", "gradient_ascent"]
    assert ssd_partial.chosen({"ssd@alpha=1": np.nan, "ssd@alpha=2": 3.0}) == "ssd@alpha=2"


def requests(lost):
    """A level at 0 copies where retraining no longer recognises a share of the targets."""
    half = np.where(np.arange(claim_runs.TARGETS) < lost, -4.0, 4.0)
    names = ("original", "do_nothing", "finetune", "scrub", "salun", "neggrad_plus", "random_label", "l1_sparse")
    return {(0, None): NONE | {"retrain": {"forget": half}} | dict.fromkeys(names, 4.0)}


@pytest.mark.parametrize(("lost", "said"), [((0, 6), "agrees"), ((2, 2), "not told")])
def test_random_requests(tmp_path, lost, said):
    made = {name: (requests(n), ()) for name, n in zip(("random", "atypical"), lost)}
    _, named, verdict = put("random_requests", tmp_path, made)
    assert named["atypical: points of the request that retraining loses"].value == pytest.approx(
        100 * lost[1] / claim_runs.TARGETS
    )
    assert named["random: tug of war of doing nothing"].value == pytest.approx(1 - lost[0] / claim_runs.TARGETS)
    assert verdict == said


@pytest.mark.parametrize(("lost", "said"), [((8, 4, 0), "agrees"), ((1, 1, 1), "not told")])
def test_memorization(tmp_path, lost, said):
    made = {name: (requests(n), ()) for name, n in zip(("high", "middle", "low"), lost)}
    found, named, verdict = put("memorization", tmp_path, made)
    assert named["high: memorization"].value == pytest.approx(lost[0] / claim_runs.TARGETS)
    assert named["mean tug of war, low less high"].value == pytest.approx((lost[0] - lost[2]) / claim_runs.TARGETS)
    assert verdict == said and len(found.tables[0].rows) == 7


def test_the_tug_of_war_is_the_mean_of_the_products():
    near, far = (1.0, 1.0, 0.9, 0.9, 0.8, 0.8), (1.0, 0.5, 0.9, 0.9, 0.8, 0.6)
    assert tow.scores(*near) == 1.0 and tow.scores(*far) == pytest.approx(0.4) and tow.scores(*near, *far) == 0.7


def test_the_error_near_is_told_from_the_error_far():
    rng = np.random.default_rng(0)
    draw = lambda level: np.clip(level + 0.01 * rng.normal(size=(8, 40)), 0, 1)
    near = np.arange(40) < 8
    retrain, control, far = draw(0.9), draw(0.9), np.arange(40) >= 32
    unlearned = draw(np.where(near, 0.5, 0.8))
    found = proximity.nearer_less_farther(unlearned, retrain, control, near, far, resamples=50)
    assert found.value == pytest.approx(0.3, abs=0.02) and 0.2 < found.ci_low < found.value < found.ci_high
    alike = proximity.nearer_less_farther(draw(0.9), retrain, control, near, far, resamples=50)
    assert alike.ci_low < 0 < alike.ci_high


def test_distances_are_to_the_nearest_target(tmp_path):
    config = dataclasses.replace(CLAIMS["proximity"].studies()["class"], dataset="digits", methods="none")
    run = write_run(tmp_path / "run", config, {(0, None): OLD})
    level = read.read_level(run)
    index = level.index | {"dataset_id": level.index["dataset_id"].copy()}
    index["dataset_id"][claim_runs.TARGETS] = index["dataset_id"][2]  # a retained image that is a target
    columns, away = proximity.distances(level._replace(index=index))
    assert columns.tolist() == list(range(claim_runs.TARGETS, 28))
    assert away[0] == pytest.approx(0.0, abs=1e-5) and (away[1:] > 0.01).all()


@pytest.mark.parametrize(
    ("kept", "said"), [((8.0, 2.0), "agrees"), ((8.0, 9.0), "disagrees"), ((2.0, 2.0), "disagrees")]
)
def test_ssd_partial(tmp_path, kept, said):
    names = [f"ssd@alpha={a}" for a in (1, 2, 4, 8)]
    populations = OLD | NONE | {"retrain": kept[0]} | dict.fromkeys(names, 9.5) | {"ssd@alpha=2": kept[1]}
    levels = {(4, share): populations for share in ssd_partial.SHARES}
    figures = []
    for share in ssd_partial.SHARES:
        figures += prices([*names, "retrain"], 4, share)
        drop = {"metric": "heldout_accuracy_drop", "split": "validation", "reference": ""}
        figures += prices(names[:1], 4, share, value=3.0, **drop) + prices(names[1:], 4, share, value=0.5, **drop)
    _, named, verdict = put("ssd_partial", tmp_path, dict.fromkeys(("poison", "copies"), (levels, figures)))
    assert named["poison, 20% identified: residual of SSD, alpha=2"].value == pytest.approx(kept[1] / 10, abs=0.01)
    assert named["copies, 100% identified: residual of retraining"].null is None and verdict == said


def test_the_setting_of_ssd_is_the_strongest_that_is_allowed():
    lost = {"ssd@alpha=1": 9.0, "ssd@alpha=2": 0.9, "ssd@alpha=8": 0.0}
    assert ssd_partial.chosen(lost) == "ssd@alpha=2"
    assert ssd_partial.chosen({"ssd@alpha=1": 9.0, "ssd@alpha=2": 3.0}) == "ssd@alpha=2"


def test_the_poisoned_images_are_the_targets_that_the_study_chooses():
    from unlearn_jax.data.targets import choose_targets

    made = poison.digits_poisoned()
    (chosen,) = choose_targets(made, "distant", poison.POISONED, 1, 0)
    marked = (made.train.inputs[:, :3, -3:] == 1.0).all(axis=(1, 2, 3))
    assert marked.sum() == poison.POISONED and marked[chosen].all() and (made.train.targets[chosen] == 0).all()


@pytest.mark.parametrize(("fall", "said"), [(2.0, "agrees"), (6.0, "not told")])
def test_graddiff_cancels(tmp_path, fall, said):
    level = lambda own: OLD | {"grad_diff@lr=0.0003": 10.0 - own, "gradient_ascent@lr=0.0003": 2.0}
    made = {"exact": ({(0, None): level(6.0), (4, None): level(fall)}, ()), "paraphrase": ({(4, None): level(4.0)}, ())}
    _, named, verdict = put("graddiff_cancels", tmp_path, made)
    assert named["no copies: share of the ascent that is left"].value == pytest.approx(0.75, abs=0.01)
    assert named["4 exact copies: share of the ascent that is left"].value == pytest.approx(fall / 8, abs=0.01)
    assert named["4 paraphrases: fall by GradDiff, nats"].value == pytest.approx(4.0, abs=0.1) and verdict == said


def test_klom_bias(tmp_path):
    rng = np.random.default_rng(0)
    draw = lambda: rng.normal(0.0, 1.0, (128, sum(claim_runs.SPLITS.values())))
    made = {"references": ({(4, None): {"oracle": draw(), "retrain": draw() + 5.0}}, ())}
    found, named, verdict = put("klom_bias", tmp_path, made)
    assert 5.0 < named["KLOM of two like populations of 8"].value < 8.0 and verdict == "agrees"
    assert named["KLOM of two like populations of 64"].value < 1.2 and len(found.tables[0].rows) == 4
    manifest, other = tmp_path / "references" / "manifest.json", draw()
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(told | {"asked": told["asked"] | {"requests": 2}}))
    other[1::2] += 50.0  # members of the second request, who know the targets of the first
    np.save(tmp_path / "references" / "margins" / "oracle.npy", other)
    two = CLAIMS["klom_bias"].estimate({"references": tmp_path / "references"})
    assert two.figures[0].value == pytest.approx(named["KLOM of two like populations of 8"].value, abs=1.0)
    fair = klom_bias.bands(draw(), lambda u, o: (u - o.mean(axis=0)).mean(axis=0), (8, 200))
    assert list(fair) == [8] and fair[8].low < 0 < fair[8].high


def test_headline(tmp_path):
    names = CLAIMS["headline"].studies()["vision-copies"].methods.split(",")
    made = {}
    for number, (name, (_, copies, _)) in enumerate(part("headline").SETS.items()):
        main = OLD | NONE | {"retrain": 8.0, "placebo": 8.0} | dict.fromkeys(names, 5.0)
        ours = OLD | NONE | {"brief_retrain": 7.0, "brief_retrain+expand": 1.0 if number else 9.0}
        for study, level in ((name, main), (f"{name}-remedy", ours)):
            lost = 9.0 if name == "text-natural" else 1.0
            rest = prices(level, copies, split="rest", value=lost)
            rows = prices(level, copies) + [r | {"ci_low": lost - 0.5, "ci_high": lost + 0.5} for r in rest]
            rows += prices(level, copies, metric="cost_share", split="", reference="", value=0.1)
            made[study] = ({(copies, None): level}, rows)
    found, named, verdict = put("headline", tmp_path, made)
    assert [len(t.rows) for t in found.tables] == [12] * 5
    assert CLAIMS["headline"].studies()["vision-copies-far"].similarity == "far"
    assert named["vision-copies-far: points that brief_retrain+expand loses on rest"].verdict == "agrees"
    assert named["text-natural: points that brief_retrain+expand loses on rest"].verdict == "disagrees"
    assert named["facts-paraphrase: brief_retrain+expand less retraining"].value == pytest.approx(-0.7, abs=0.01)
    assert named["vision-copies: brief_retrain+expand less retraining"].verdict == "disagrees"
    assert verdict == "disagrees"


def test_a_level_that_a_study_does_not_have(tmp_path):
    config = CLAIMS["residual_copies"].studies()["images"]
    run = write_run(tmp_path / "run", config, {(m, None): OLD for m in (0, 1, 4, 8)})
    with pytest.raises(InputError, match="has no level of 3 copies"):
        read.read_level(run, copies=3)


def test_members_of_several_requests_stand_by_their_own_targets():
    table = np.arange(12.0).reshape(4, 3)
    index = {"split": np.array(["forget", "forget", "test"]), "request": np.array([0, 1, -1]), "cluster": np.arange(3)}
    level = read.StoredLevel({"original": table, "scrub": table, "sisa": table}, index, 2, 0, 20, Path())
    forget, test = read.values(level, "original"), read.values(level, "original", "test")
    assert [b.tolist() for b in forget.blocks] == [[[0.0], [6.0]], [[4.0], [10.0]]]
    assert [b.tolist() for b in test.blocks] == [[[2.0], [8.0]], [[5.0], [11.0]]] and test.shared
    alone = read.first_request(level)
    assert alone.margins["scrub"].tolist() == [[0.0, 2.0], [6.0, 8.0]] and alone.index["cluster"].tolist() == [0, 2]
    assert read.values(alone, "original").blocks[0].tolist() == forget.blocks[0].tolist() and alone.requests == 1
    assert [read.role_in(n) for n in ("scrub@lr=1", "retrain", "sisa", "retrain+expand", "brief_retrain+expand")] == [
        "original", "retrain", "sisa", "retrain+expand", "brief_retrain+expand",
    ]  # fmt: skip
