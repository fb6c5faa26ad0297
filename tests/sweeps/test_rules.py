"""The choice of settings: by held-out figures alone, whatever the oracle says; words of --hp; studies to run next."""

import numpy as np
import pytest

from unlearn_jax.errors import InputError
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.sweeps.rules import SEEN, choose_settings, grouped, hp_words, regret, standings

# setting -> (accuracy drop, its lower bound, margin error, request gap, residual distance)
SCRUB = {
    "alpha=0.1": (0.1, -0.2, 0.5, 3.0, 0.9),  # forgets little
    "alpha=0.5": (0.2, -0.1, 1.0, -1.0, 0.4),
    "alpha=1": (0.4, 0.0, 2.0, -4.0, 0.2),  # nearest the oracle
    "alpha=2": (2.0, 1.5, 0.1, -9.0, 0.1),  # costs too much
}


def rows(method="scrub", remedy="", settings=None, **more):
    found = []
    for setting, (drop, low, error, gap, distance) in (settings or SCRUB).items():
        keys = {"method": method, "remedy": remedy, "setting": setting, "reference": ""}
        put = lambda metric, mean, low="", keys=keys, **w: found.append(
            keys | {"metric": metric, "value": str(mean), "ci_low": str(low)} | w
        )
        put("heldout_accuracy_drop", drop, low)
        put("heldout_margin_error", error)
        put("request_margin_gap", gap)
        put("n_diverged", more.get("diverged", 0.0))
        put("residual_distance", distance, reference="oracle")
        put("price_accuracy", 1.0, reference="oracle")
    return found


def test_the_rule_takes_what_it_says():
    (chosen,) = choose_settings(rows())
    assert (chosen.setting, chosen.candidates, chosen.allowed) == ("alpha=0.5", 4, 3)
    assert chosen.seen["heldout_margin_error"] == 1.0
    assert choose_settings(rows(), "heldout")[0].setting == "alpha=0.1"
    assert choose_settings(rows(), "request")[0].setting == "alpha=1"


def test_a_rule_whose_figure_is_not_known_chooses_nothing():
    known = [r for r in rows() if r["metric"] != "request_margin_gap"]  # too few held-out examples to expect a margin
    assert choose_settings(known)[0].setting == choose_settings(known, "heldout")[0].setting == "alpha=0.1"
    lone = {name: (*own[:2], np.nan, *own[3:]) for name, own in SCRUB.items()}  # one member a request
    for rule, found in (("request", known), ("heldout", rows(settings=lone))):
        with pytest.raises(InputError, match=f"'{rule}' cannot tell settings of scrub apart"):
            choose_settings(found, rule)


@pytest.mark.parametrize("rule", ["margins", "request", "heldout"])
def test_without_the_oracles_rows_the_choice_is_the_same(rule):
    every = rows() + rows("prmq", "expand", {f"lr={v}": (0.1, 0.0, v, -1.0, 1 - v) for v in (0.1, 0.2)})
    hidden = [r for r in every if not r["reference"]]
    turned = [r | ({"value": "0.0"} if r["metric"] not in SEEN else {}) for r in every]
    assert choose_settings(every, rule) == choose_settings(hidden, rule) == choose_settings(turned, rule)
    assert all(np.isnan(r.gap) for r in regret(hidden, choose_settings(hidden, rule)))


def test_regret_is_against_the_best_allowed_setting():
    (found,) = regret(rows(), choose_settings(rows()))
    assert found.best == "alpha=1" and found.gap == pytest.approx(0.2)
    (none,) = regret(rows(), choose_settings(rows(), "heldout"))
    assert none.gap == pytest.approx(0.7)


def test_where_nothing_is_allowed_the_least_harm_is_taken():
    bad = {"alpha=1": (3.0, 2.0, 0.1, 0.0, 0.1), "alpha=2": (2.0, 1.0, 5.0, 0.0, 0.3)}
    (chosen,) = choose_settings(rows(settings=bad))
    assert chosen.setting == "alpha=2" and chosen.allowed == 0
    (lost,) = choose_settings(rows(diverged=1.0))
    assert lost.allowed == 0
    assert regret(rows(settings=bad), [chosen])[0].gap == pytest.approx(0.2)


def test_references_are_not_chosen_but_retraining_with_a_remedy_is():
    found = choose_settings(rows() + rows("oracle", settings={"": (0, 0, 0, 0, 0)}) + rows("retrain", "expand"))
    assert [(c.method, c.remedy) for c in found] == [("scrub", ""), ("retrain", "expand")]


def test_rows_that_cannot_be_chosen_from_are_refused():
    with pytest.raises(InputError, match="run unlearn-jax study again"):
        choose_settings([r for r in rows() if r["metric"] == "residual_distance"])
    with pytest.raises(InputError, match="unknown rule"):
        choose_settings(rows(), "oracle")


def test_words_are_those_that_a_study_takes():
    assert hp_words("scrub", "", "") == []
    words = hp_words("scrub", "expand", "lr=0.01,decay=5+8,expand.k=4,expand.same_class=true")
    assert words == ["scrub.lr=0.01", "scrub.decay=5,8", "expand.k=4", "expand.same_class=true"]
    config = StudyConfig(methods="scrub", remedies="expand", hp=tuple(words))
    assert resolve(config).settings == {
        "scrub": {"lr": [0.01], "decay": [(5, 8)]},
        "expand": {"k": [4], "same_class": [True]},
    }


def test_few_studies_hold_every_choice():
    one = lambda setting: {setting: (0.0, 0.0, 0.0, 0.0, 0.0)}
    every = rows(settings=one("lr=0.1")) + rows("prmq", settings=one(""))
    assert grouped(choose_settings(every)) == [(["scrub", "prmq"], "", ["scrub.lr=0.1"])]
    same = rows("scrub", "expand", one("lr=0.1,expand.k=4")) + rows("prmq", "expand", one("expand.k=4"))
    assert grouped(choose_settings(every + same)) == [(["scrub", "prmq"], "expand", ["expand.k=4", "scrub.lr=0.1"])]
    apart = rows("scrub", "expand", one("lr=0.2,expand.k=4")) + rows("prmq", "expand", one("expand.k=8"))
    assert grouped(choose_settings(every + apart)) == [
        (["scrub", "prmq"], "", ["scrub.lr=0.1"]),
        (["scrub"], "expand", ["expand.k=4", "scrub.lr=0.2"]),
        (["prmq"], "expand", ["expand.k=8"]),
    ]


def test_standings_rank_the_allowed_first_and_know_the_favourable_end():
    found = standings(rows())["scrub", ""]
    assert sorted(found, key=lambda s: found[s].rank) == ["alpha=0.5", "alpha=1", "alpha=0.1", "alpha=2"]
    assert [found[s].allowed for s in SCRUB] == [True, True, True, False]
    assert found["alpha=2"].rank == (1, 2.0) and found["alpha=2"].best == (1, 1.5)
    assert found["alpha=1"].rank == (0, 0.5) == found["alpha=1"].best  # no bounds are known


def test_rules_of_sweeps_need_their_figures():
    for rule, metric in (("attack", "attack_advantage"), ("retain", "retained_accuracy_drop")):
        with pytest.raises(InputError, match="unlearn-jax sweep alone measures"):
            choose_settings(rows(), rule)
        keys = {"method": "scrub", "remedy": "", "reference": "", "metric": metric, "ci_low": ""}
        more = [keys | {"setting": s, "value": str(v)} for s, v in zip(SCRUB, (0.4, 0.3, 0.1, 0.0))]
        assert choose_settings(rows() + more, rule)[0].setting == "alpha=1"  # the best one is not allowed
