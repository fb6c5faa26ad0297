"""experiments/defaults.py: a line a method, marks, correlations, and what it refuses; nothing is trained."""

import numpy as np
import pytest

from unlearn_jax.sweeps import defaults
from unlearn_jax.sweeps.defaults import Effect


@pytest.fixture
def ran(script, monkeypatch):
    """Words and effects -> exit code, output, errors, and the configurations that were asked for."""

    def call(*words, found=()):
        asked = []
        monkeypatch.setattr(defaults, "effects", lambda config, *, store: asked.append(config) or iter(found))
        return *script("defaults", *words), asked

    return call


def test_it_marks_what_does_not_keep_the_rest_and_correlates_the_request_length_family(ran):
    rng = np.random.default_rng(0)
    made = lambda name, rest, shift, **more: Effect(name, 30, rest, rest - 1, 50.0, 1.5, 0.25, shift, **more)
    shift = rng.normal(size=30)
    found = [
        made("finetune", 99.0, shift),
        made("scrub", 80.0, shift),
        made("npo", 98.0, 2.0 * shift),
        made("simnpo", 98.0, -shift),
        made("unsir", np.nan, np.zeros(0), refused="unsir is for whole classes"),
    ]
    code, output, _, asked = ran("--sizes", "30", found=found)
    lines = output.splitlines()
    assert not code and [line.split()[1] for line in lines[:5]] == ["finetune", "scrub", "npo", "simnpo", "unsir"]
    assert ["below 95%" in line for line in lines[:5]] == [False, True, False, False, False]
    assert lines[4].endswith("unsir is for whole classes") and "correlation" in lines[5]
    table = {line.split()[1]: line.split()[2:] for line in lines[6:]}
    assert set(table) == {"scrub", "npo", "simnpo"} and table["npo"] == ["1.00", "1.00", "-1.00"]
    assert asked[0].targets == "random" and asked[0].copies == "4" and asked[0].seed == 7


def test_sizes_are_studies_of_their_own(ran):
    code, _, _, asked = ran("--targets", "atypical", "--skip-requests", "4")
    assert not code and [one.num_targets for one in asked[:2]] == [30, 150]
    assert [one.targets for one in asked] == ["atypical", "atypical", "whole_class"]
    assert [one.copies for one in asked] == ["4", "2", "0"] and [one.skip_requests for one in asked] == [4, 4, 0]


@pytest.mark.parametrize("words", [("--sizes=0",), ("--sizes=many",), ("--sizes=-3",), ("--members=0",)])
def test_sizes_and_members_that_are_none_are_refused(words, ran):
    code, _, errors, asked = ran(*words)
    assert code == 2 and not asked and errors.strip()


def test_it_says_which_setting_the_rule_takes_and_at_which_size_none_does(ran, monkeypatch):
    import unlearn_jax.sweeps as sweeping
    from unlearn_jax.sweeps import Seen

    near, far, wrecked = Seen("lr=0.1", 99.0, 0.4, 0.5), Seen("lr=0.3", 99.0, 0.4, -2.0), Seen("lr=1", 40.0, 9.0, -9.0)
    asked = []

    def seen_at(config, grids, *, store):
        asked.append((config, grids))
        whole = config.targets == "whole_class"
        yield "scrub", [one._replace(gap=np.nan) if whole else one for one in (far, near, wrecked)]
        yield "npo", [wrecked, wrecked]
        yield "fisher", "fisher does not run here" if not whole else [near]

    monkeypatch.setattr(sweeping, "seen_at", seen_at)
    words = ("--choose", "--methods", "scrub,npo,fisher", "--hp", "scrub.lr=.3,.1,1", "npo.lr=.1,1")
    code, output, *_ = ran(*words)
    chosen = {line.split()[1]: line.split()[2:] for line in output.splitlines() if line.startswith("chosen")}
    assert not code and chosen["scrub"] == ["lr=0.1"] and chosen["npo"][0] == "none"
    assert chosen["fisher"][-1] == "here"
    assert [config.targets for config, _ in asked] == ["random", "random", "whole_class"]
    assert asked[0][1]["scrub"] == [{"lr": 0.3}, {"lr": 0.1}, {"lr": 1.0}] and len(asked[0][1]["fisher"]) == 4


@pytest.mark.parametrize("words", [("--hp", "scrub.lr=.1"), ("--choose", "--methods", "npo", "--hp", "scrub.lr=.1")])
def test_settings_that_nothing_would_try_are_refused(words, ran):
    code, _, errors, asked = ran(*words)
    assert code == 2 and "--hp" in errors and not asked
