"""What `audit` tells of a model: figures that can be computed by hand, and comparisons with retrained models."""

import jax
import nets
import numpy as np
import pytest
from flax import nnx

from unlearn_jax import InputError, audit, unlearn
from unlearn_jax.metrics import margin
from unlearn_jax.metrics.roc import auc

PLAIN = nets.Plain()
EACH = [nets.drawn(PLAIN, seed) for seed in range(4)]


def margins(params, pair):
    return margin(np.asarray(PLAIN.apply(params, pair[0]))[None], pair[1])[0]


def test_figures_of_one_model_are_those_made_by_hand():
    found = audit(PLAIN, EACH[0], **nets.ALL)
    for name, pair in nets.ALL.items():
        right = np.mean(np.argmax(PLAIN.apply(EACH[0], pair[0]), axis=1) == pair[1])
        assert found[f"accuracy_{name}"].value == pytest.approx(right)
    one, two = margins(EACH[0], nets.FORGET), margins(EACH[0], nets.VALIDATION)
    assert found["margin_forget"].value == pytest.approx(one.mean(), abs=1e-5)
    assert found["attack_auc"].value == pytest.approx(auc(one, two))
    assert set(found) == {*(f"accuracy_{name}" for name in nets.ALL), "margin_forget", "attack_auc"}


def test_the_interval_of_the_attack_is_that_of_placement_values():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(240, 4)).astype(np.float32), rng.integers(0, 3, 240)
    forget, validation = (x[:80], y[:80]), (x[80:], y[80:])
    found = audit(PLAIN, EACH[0], forget=forget, validation=validation)["attack_auc"]
    one, two = margins(EACH[0], forget), margins(EACH[0], validation)
    above = one[:, None] > two[None]
    error = np.sqrt(above.mean(axis=1).var(ddof=1) / 80 + above.mean(axis=0).var(ddof=1) / 160)  # DeLong et al. 1988
    assert (found.high - found.low) / (2 * 1.96 * error) == pytest.approx(1.0, abs=0.15)


def test_a_population_is_its_mean_and_a_list_is_a_stack():
    found = audit(PLAIN, EACH, **nets.ALL)
    each = [audit(PLAIN, own, **nets.ALL) for own in EACH]
    for name, figure in found.items():
        assert figure.value == pytest.approx(np.mean([own[name].value for own in each]), abs=1e-6)
    assert audit(PLAIN, nets.stacked(EACH), members=4, **nets.ALL) == found


def test_a_population_against_itself_shows_no_distance():
    found = audit(PLAIN, EACH, retrained=nets.stacked(EACH), **nets.ALL)
    gaps = [figure.value for name, figure in found.items() if name.endswith("_gap")]
    assert len(gaps) == 5 and np.allclose(gaps, 0.0) and found["rank_effect"].value == pytest.approx(0.5)
    assert found["energy_distance"].value <= 0.0  # unbiased, and twins lie nearer than two draws do
    assert found["energy_distance"].null_low < found["energy_distance"].null_high


def test_models_that_memorised_the_request_are_told_from_models_that_never_saw_it():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(120, 4)).astype(np.float32), rng.integers(0, 3, 120)
    forget, retain, validation = ((x[i], y[i]) for i in np.split(np.arange(120), [40, 60]))
    learn = {"method": "finetune", "epochs": 200, "lr": 1.0}
    whole = tuple(np.concatenate(pair) for pair in zip(forget, retain))
    knew = unlearn(PLAIN, EACH, forget=validation, retain=whole, **learn)
    never = unlearn(PLAIN, EACH, forget=forget, retain=retain, **learn)
    sets = {"forget": forget, "validation": validation, "retain": retain}
    found = audit(PLAIN, knew, retrained=never, **sets)
    assert found["attack_auc"].low > 0.5 and found["attack_auc_gap"].low > 0 and found["accuracy_forget_gap"].low > 0
    assert found["energy_distance"].value > found["energy_distance"].null_high
    assert audit(PLAIN, never, **sets)["attack_auc"].low < 0.5 < audit(PLAIN, never, **sets)["attack_auc"].high + 0.1


def test_one_model_against_one_retrained_tells_gaps_and_no_more():
    found = audit(PLAIN, EACH[0], retrained=EACH[1], **nets.ALL)
    gap = np.mean(margins(EACH[0], nets.FORGET)) - np.mean(margins(EACH[1], nets.FORGET))
    assert found["margin_forget_gap"].value == pytest.approx(gap, abs=1e-5)
    assert np.isnan(found["energy_distance"].value)


def test_nnx_modules_are_audited_too():
    modules = [nets.Nnx(nnx.Rngs(seed)) for seed in range(3)]
    found = audit(modules[0], retrained=[nnx.state(m) for m in modules[1:]], **nets.ALL)
    modules[0].eval()
    right = np.mean(np.argmax(modules[0](nets.FORGET[0]), axis=1) == nets.FORGET[1])
    assert found["accuracy_forget"].value == pytest.approx(right) and "attack_auc_gap" in found


def test_what_cannot_be_audited_is_refused():
    with pytest.raises(InputError, match="retrained models have params of other names or shapes"):
        audit(PLAIN, EACH[0], retrained=jax.tree.map(lambda x: x[..., :2], EACH[1]), **nets.ALL)
    with pytest.raises(InputError, match="validation has no example"):
        audit(PLAIN, EACH[0], forget=nets.FORGET, validation=(nets.X[:0], nets.Y[:0]))


def test_printed_it_is_a_line_for_each_figure_with_the_band_where_there_is_one():
    found = audit(PLAIN, EACH, **nets.ALL, retrained=EACH)
    lines = dict(line.split(None, 1) for line in str(found).splitlines())
    assert list(lines) == list(found)
    assert "null" in lines["margin_forget_gap"] and "null" not in lines["margin_forget"]
    assert float(lines["margin_forget"].split()[0]) == pytest.approx(found["margin_forget"].value, abs=5e-4)
