"""The language models' methods: one step of plain descent against the gradient that the rule has at the logits.

On a table of next-token logits, by NumPy in double precision, see `rules`; then what one method is the limit of, and
what is a method's own.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rules import GIVEN, Rules, answer, followed, gathered, requested, started, stepped, tables
from statements import PROBLEM, REFUSAL, batch

from unlearn_jax.errors import InputError
from unlearn_jax.methods import ceu, dpo_idk, npo, pdu, prepare
from unlearn_jax.population.plans import Sizes
from unlearn_jax.tasks import free_text


@pytest.mark.parametrize("name", GIVEN)
def test_a_step_is_the_rules_gradient_at_the_logits(name):
    expected = getattr(Rules(PROBLEM.task.refuse(requested()[0])), name)()
    assert np.abs(expected).max() > 0.02
    np.testing.assert_allclose(followed(name, GIVEN[name]), expected, rtol=1e-4, atol=2e-6)


# --- limits --------------------------------------------------------------------------------------------------------


def test_npo_tends_to_ascent_on_summed_log_probabilities_as_beta_goes_to_0():
    rules = Rules()
    ascent = gathered(rules.asked, rules.rise, mean=False)
    gaps = [np.abs(followed("npo", {"beta": b, "retain_weight": 0.0}) - ascent).max() for b in (1e-1, 1e-2, 1e-3)]
    assert gaps[0] > 4 * gaps[1] > 16 * gaps[2] and gaps[2] < 2e-3
    before = started("npo", {})._replace(params={"rows": jnp.asarray(tables()[0])})  # p = p_original: at any beta
    at_start = [followed("npo", {"beta": b, "retain_weight": 0.0}, state=before) for b in (0.1, 5.0)]
    np.testing.assert_allclose(*at_start, atol=1e-6)


def test_npos_pull_is_between_0_and_2_and_finite_at_any_ratio():
    ratios = jnp.array([-1e4, -50.0, 0.0, 50.0, 1e4])
    pull = jax.vmap(jax.grad(npo.repulsion), in_axes=(0, None))(ratios, 0.5)
    np.testing.assert_allclose(pull, [0.0, 0.0, 1.0, 2.0, 2.0], atol=1e-6)
    assert np.isfinite(npo.repulsion(ratios, 0.5)).all()


@pytest.mark.parametrize(
    "name, hp, other, same",
    [
        ("wga", {"beta": 0.0, "retain_weight": 0.4}, "grad_diff", {"retain_weight": 0.4, "bound": np.inf}),
        ("satimp", {"beta1": 0.5, "beta2": 0.0, "forget_weight": 1.0}, "wga", {"beta": 0.5}),
        ("undial", {"beta": 1e6}, "delete", {}),
        ("ceu", {}, "delete", {}),  # where student and original are equal
        (
            "kl_retain",
            {"bound": np.inf},
            "gradient_ascent",
            {"bound": np.inf},
        ),  # there too: it has not moved on retained data
    ],
)
def test_one_method_is_anothers_limit(name, hp, other, same):
    start = lambda of, own: started(of, own)._replace(params={"rows": jnp.asarray(tables()[name in ("wga", "satimp")])})
    steps = [followed(of, own, state=start(of, own)) for of, own in ((name, hp), (other, same))]
    assert np.abs(steps[0]).max() > 0.01
    np.testing.assert_allclose(*steps, rtol=1e-4, atol=1e-6)


def test_satimp_leaves_what_is_certain_and_what_is_forgotten():
    original, _ = tables()
    for shift in (60.0, -60.0):  # of the true tokens' logits
        asked, _ = requested()
        sure = original.copy()
        for i, t in np.argwhere(np.asarray(asked.targets) >= 0):
            sure[asked.inputs[i, t], asked.targets[i, t]] += shift
        before = started("satimp", {})._replace(params={"rows": jnp.asarray(sure)})
        assert np.abs(followed("satimp", {"retain_weight": 0.0}, state=before)).max() < 1e-6


# --- CE-U's first tokens -------------------------------------------------------------------------------------------


def test_ceu_leaves_out_the_first_tokens_of_answers():
    asked, _ = requested()
    assert (np.asarray(ceu.skipped(asked, 1).targets) >= 0).sum(axis=1).tolist() == [1, 0, 1]
    assert ceu.skipped(asked, 0) is asked and (np.asarray(ceu.skipped(asked, 2).targets) == -1).all()
    found = followed("ceu", {}, static=(("skip", 1),))
    second = int(asked.inputs[0, 3])  # of the first statement, whose second token alone is left
    assert np.flatnonzero(np.abs(found).max(axis=1)).tolist() == [second]
    classes = asked._replace(targets=asked.targets[:, 0])
    with pytest.raises(InputError, match="ceu.skip leaves nothing of a class"):
        ceu.skipped(classes, 1)


# --- DPO's winners -------------------------------------------------------------------------------------------------


def test_a_refusal_stands_in_inputs_and_targets():
    asked, _ = requested()
    winner = dpo_idk.preferred(PROBLEM, "refusal", None, asked)
    due = np.asarray(winner.targets) >= 0
    assert (np.asarray(winner.targets)[due].reshape(-1, 2) == REFUSAL).all()
    assert ((np.asarray(winner.inputs) == REFUSAL[0]).sum(axis=1) == 1).all()


@pytest.mark.slow
def test_the_other_answer_is_one_for_each_example_and_follows_the_members_key():
    asked, kept = batch([0, 1, 2, 3, 4, 5]), batch([3])
    program = jax.jit(lambda key, some: dpo_idk.preferred(PROBLEM, "other", jax.random.key_data(key), some).targets)
    answers = lambda key, some: np.asarray(program(key, some))
    first = answers(jax.random.key(0), asked)
    assert (first != np.asarray(asked.targets)).any(axis=1).all()
    np.testing.assert_array_equal(answers(jax.random.key(0), kept)[0], first[3])  # whatever stands beside it
    assert any((answers(jax.random.key(k), asked) != first).any() for k in range(1, 5))
    static = (("winner", "other"),)
    before, after, _ = stepped("dpo_idk", {"beta": 0.6, "retain_weight": 0.4}, static=static)
    rules = Rules(dpo_idk.preferred(PROBLEM, "other", before.extra["key"], requested()[0]))
    moved = np.asarray(before.params["rows"], np.float64) - np.asarray(after.params["rows"])
    np.testing.assert_allclose(moved, rules.dpo_idk(), rtol=1e-4, atol=2e-6)
    np.testing.assert_array_equal(after.extra["key"], before.extra["key"])


def test_without_refusals_another_answer_wins_and_other_names_are_refused():
    plain = PROBLEM._replace(task=PROBLEM.task._replace(refuse=None))
    key, asked = jax.random.key_data(jax.random.key(0)), batch([0, 1])
    winner = dpo_idk.preferred(plain, "refusal", key, asked)
    np.testing.assert_array_equal(winner.targets, dpo_idk.preferred(PROBLEM, "other", key, asked).targets)
    with pytest.raises(ValueError, match="unknown winner 'loser': choose one of other, refusal"):
        dpo_idk.preferred(PROBLEM, "loser", key, asked)
    assert free_text().refuse is None


# --- PDU's dual variable -------------------------------------------------------------------------------------------


def test_the_dual_rests_in_the_warm_up_and_then_follows_the_violation():
    rules, hp = Rules(), {"dual": 3.0, "dual_lr": 2.0, "eps": 0.2}
    losses = [-np.divide(*answer(rules.student, rules.kept, i)) for i in range(3)]
    before, warm, _ = stepped("pdu", hp, phase=pdu.WARM)
    _, moved, _ = stepped("pdu", hp, phase=pdu.DUAL)
    assert float(before.extra) == float(warm.extra) == 3.0
    assert float(moved.extra) == pytest.approx(3.0 + 2.0 * (np.mean(losses) - 0.2), rel=1e-5)
    np.testing.assert_array_equal(moved.params["rows"], warm.params["rows"])  # by the dual before the step
    _, none, _ = stepped("pdu", hp | {"eps": 50.0}, phase=pdu.DUAL)
    assert float(none.extra) == 0.0  # never below


def test_pdu_warms_up_for_its_epochs_and_flat_logits_are_its_goal():
    _, plan, _ = prepare("pdu", PROBLEM, {"epochs": 4, "warmup": 3, "batch": 8, "pieces": 0}, Sizes(20, 40))
    np.testing.assert_array_equal(plan.phase, [pdu.WARM] * 9 + [pdu.DUAL] * 3)
    assert (prepare("pdu", PROBLEM, {"epochs": 2, "warmup": 3}, Sizes(20, 40))[1].phase == pdu.WARM).all()
    assert float(pdu.flatness(jnp.full((1, 5), 3.0))[0]) == 0.0
    assert float(pdu.flatness(jnp.array([[4.0, 0.0, -1.0]]))[0]) == pytest.approx(9.0)
