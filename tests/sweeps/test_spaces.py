"""The spaces that ``--hp auto`` sweeps: every method has one, within what its settings may be."""

import numpy as np
import pytest

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, SCALES, has_scale, length_of, settings_at
from unlearn_jax.studies.hyperparameters import SHARES
from unlearn_jax.sweeps.sampling import draw_settings, parse_space
from unlearn_jax.sweeps.spaces import Span, expanded, space_of, space_words

NOTHING = ("do_nothing", "retrain")
UNIT = (*SHARES, "keep", "share", "prune")  # settings that are shares of something


def test_every_method_has_a_space_and_no_other_name_has():
    assert all(entry.space is not None for entry in METHODS.values())
    assert [name for name in METHODS if not space_of(name)] == list(NOTHING)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in NOTHING])
def test_spaces_stay_within_what_settings_may_be(method):
    entry = METHODS[method]
    for span in space_of(method):
        assert span.name in {**entry.numeric, **entry.static} and span.name != length_of(entry)
        assert span.values or span.name in entry.numeric
        assert span.values or (span.low <= 1 <= span.high if span.times else 0 < span.low < span.high <= 1)
    assert len({span.name for span in space_of(method)}) == len(space_of(method)) <= 2
    for scale in (scale for scale in SCALES if has_scale(entry, scale)):
        static, numeric = settings_at(entry, scale)
        for draw, draws in (("grid", 0), ("sobol", 8)):
            words = tuple(space_words(method, scale, draw == "grid").values())
            points = draw_settings(parse_space(method, words), draw, draws)
            assert len(points) >= 2 and all(set(p) == {s.name for s in space_of(method)} for p in points)
            for span in space_of(method):
                drawn = np.asarray([p[span.name] for p in points])
                usual = (numeric | static)[span.name]
                usual = usual if 0 < usual < np.inf else entry.numeric[span.name]
                assert np.isfinite(drawn).all() and (drawn > 0).all() and np.ptp(drawn) > 0
                assert drawn.min() <= usual <= drawn.max() or draw == "sobol"
                assert drawn.max() <= 1 or span.name not in UNIT
                assert span.values or not span.times or (drawn <= usual * span.high * 1.001).all()


def test_other_words_go_before_the_space():
    assert expanded("scrub", ("lr=.1",), "small", False) == ("lr=.1",)
    own = expanded("scrub", ("auto", "scrub.lr=.1,.2"), "small", True)
    assert own == ("alpha=log:0.05:5:3", "scrub.lr=.1,.2")
    with pytest.raises(InputError, match="no hyperparameter that could be swept"):
        expanded("do_nothing", ("auto",), "small", False)


def test_a_method_of_ones_own_is_swept_over_its_rate(monkeypatch):
    entry = METHODS["scrub"]
    for numeric, name in (({"tau": 0.0, "lr": 0.1}, "lr"), ({"tau": 0.0, "rate": 0.1}, "rate"), ({"tau": 0.0}, None)):
        monkeypatch.setitem(METHODS, "own", entry._replace(name="own", numeric=numeric, space=None))
        assert space_of("own") == ((Span(name),) if name else ())
