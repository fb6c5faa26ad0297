"""What each remedy must be at the ends of its settings, and its parts against a count by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import plots
import pytest
import toy
from scipy.special import softmax

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS
from unlearn_jax.methods.rfe import adjacent_part
from unlearn_jax.methods.sisa import assign, assign_groups
from unlearn_jax.remedies import REMEDIES, remedy_settings
from unlearn_jax.remedies.cluster_sharding import only_sisa
from unlearn_jax.remedies.corrective import kept_share
from unlearn_jax.remedies.dedup_first import near_groups, representatives
from unlearn_jax.remedies.influence_closure import carry
from unlearn_jax.remedies.likelihood_ratio import ratios
from unlearn_jax.remedies.local_teacher import surroundings
from unlearn_jax.remedies.paraphrase import blanked, turned
from unlearn_jax.remedies.partition import hardness
from unlearn_jax.remedies.project import protecting
from unlearn_jax.remedies.tilt import class_likeness, goal
from unlearn_jax.remedies.weight import weights
from unlearn_jax.trees import tree_add, tree_dot
from unlearn_jax.types import Batch, Batches

WEIGHTS = "grad_diff"


def after(name, original, settings=None, method=WEIGHTS, given=None, **more):
    """Variables that a remedy leaves of the toy study."""
    evidence = plots.evidence(method, name, original, given, **more)
    return REMEDIES[name].apply(evidence, remedy_settings(name, settings)).unlearned.population.variables


@pytest.fixture(scope="module")
def plain(original):
    """`grad_diff` without remedy, by the name whose keys it is given."""
    known = {}

    def get(remedy):
        if remedy not in known:
            evidence = plots.evidence(WEIGHTS, remedy, original)
            known[remedy] = evidence.run(evidence.plain).population.variables
        return known[remedy]

    return get


def one(tree, index=0):
    """A member of a stacked tree, on the device."""
    return jax.tree.map(lambda x: jnp.asarray(x[index]), tree)


# --- weight --------------------------------------------------------------------------------------------------------


def test_a_weight_of_nothing_is_the_method_alone_and_of_one_is_expand(original, plain):
    toy.close(after("weight", original, {"width": 0.0}), plain("weight"))
    evidence = plots.evidence(WEIGHTS, "weight", original)
    whole = REMEDIES["expand"].apply(evidence, remedy_settings("expand")).unlearned.population.variables
    toy.close(after("weight", original, {"width": 1e9}), whole)


def test_weights_fall_with_the_distance_to_where_strangers_begin(original):
    evidence = plots.evidence(WEIGHTS, "weight", original)
    settings = remedy_settings("weight", {"similarity": "inputs", "same_class": False})
    flat = lambda rows: plots.examples()[0][rows].reshape(len(rows), -1)
    unit = lambda x: (x - x.mean(1, keepdims=True)) / np.linalg.norm(x - x.mean(1, keepdims=True), axis=1)[:, None]
    distance = 1 - unit(flat(toy.REQUESTED)) @ unit(flat(toy.KEPT)).T
    begins = np.median(distance[:, :30].min(axis=1))
    expected = np.exp(-np.square(np.maximum(distance[:, 30:].min(axis=0), 0) / begins))
    np.testing.assert_allclose(weights(evidence, 0, plots.PLANTED, settings), expected, rtol=1e-3)
    assert len(weights(evidence, 0, plots.PLANTED[:0], settings)) == 0


# --- who is similar ------------------------------------------------------------------------------------------------


def test_representatives_are_one_of_each_group_and_the_requested_where_there_is_one():
    groups, first = np.array([0, 1, 1, 2, 2, 2, 3]), np.array([0, 0, 1, 0, 0, 0, 1], bool)
    seen = np.zeros(7)
    for seed in range(50):
        stays = representatives(groups, np.random.default_rng(seed))
        np.testing.assert_array_equal(np.bincount(groups[stays]), 1)
        seen += stays
        assert representatives(groups, np.random.default_rng(seed), first)[[0, 2, 6]].all()
    assert (seen[[0, 6]] == 50).all() and (seen[1:6] > 5).all()


def test_random_representatives_drop_a_copy_about_as_often_as_its_target(original):
    evidence = plots.evidence(WEIGHTS, "dedup_first", original)
    rows, groups = near_groups(evidence, 0, 0.97)
    np.testing.assert_array_equal(rows, np.arange(50))
    np.testing.assert_array_equal(groups[30:40], groups[40:50])
    found = REMEDIES["dedup_first"].apply(evidence, remedy_settings("dedup_first")).found
    assert 0 < sum(map(len, found)) < 4 * 10 and np.isin(np.concatenate(found), plots.PLANTED).all()


def test_carriers_are_taken_in_order_until_they_carry_enough():
    theirs = np.array([0.1, 3.0, -2.0, 2.0, 0.0, 1.0])  # 6.1 in all
    settings = {"k": 3, "share": 1.0, "at_least": 0.0}
    assert carry(theirs, 4.0, settings).tolist() == [1, 3, 5]
    assert carry(theirs, 4.0, settings | {"share": 0.5}).tolist() == [1, 3]  # 3 carries less than half
    assert carry(theirs, 4.0, settings | {"at_least": 0.6}).tolist() == [1]
    assert carry(theirs, 4.0, settings | {"k": 8}).tolist() == [1, 3, 5, 0]


def test_density_ratios_equal_means_of_kernels():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, (5, 4)), rng.uniform(-1, 1, (5, 9))
    b[0, :3], a[3], b[4] = -np.inf, -np.inf, -np.inf
    mean = lambda x: np.array(
        [np.exp((row[np.isfinite(row)] - 1) / 0.3).mean() if np.isfinite(row).any() else 0 for row in x]
    )
    found = ratios(a, b, 0.3)
    np.testing.assert_allclose(found[:3], mean(a)[:3] / mean(b)[:3])
    assert found[3] == 0.0 and found[4] > 1e100


def test_the_teachers_surroundings_hold_neither_request_nor_what_was_found(original):
    evidence = plots.evidence(WEIGHTS, "local_teacher", original)
    rows = surroundings(evidence, 0, plots.PLANTED, remedy_settings("local_teacher", {"neighbours": 3}))
    assert not np.isin(rows, [*plots.PLANTED, *toy.REQUESTED, *toy.UNUSED]).any()
    assert 3 <= len(rows) <= 30


@pytest.mark.parametrize(
    "name, settings, said",
    [
        ("expand", {"at_least": 1.5}, "no retained sample comes within a cosine of 1.5"),
        ("partition", {"parts": 11}, "a request of 10 cannot be split into 11 parts"),
        ("dedup_first", {"threshold": 2.0}, "give a cosine in \\(0, 1\\]"),
    ],
)
def test_a_request_that_a_remedy_cannot_follow_is_refused(name, settings, said, original):
    evidence = plots.evidence(WEIGHTS, name, original)
    with pytest.raises(InputError, match=said):
        REMEDIES[name].apply(evidence, remedy_settings(name, settings))


@pytest.mark.parametrize(
    "name, settings", [("influence_closure", {"at_least": 1e9}), ("likelihood_ratio", {"ratio": 1e9})]
)
def test_where_nobody_is_found_the_method_runs_alone(name, settings, original, plain):
    evidence = plots.evidence(WEIGHTS, name, original)
    done = REMEDIES[name].apply(evidence, remedy_settings(name, settings))
    assert all(len(rows) == 0 for rows in done.found)
    toy.same(done.unlearned.population.variables, plain(name))


# --- distilled afterwards ------------------------------------------------------------------------------------------


def test_an_untilted_target_is_the_original_without_the_true_class(original):
    problem, (inputs, targets) = toy.problem(), plots.examples()
    rows = toy.REQUESTED
    batch = Batch(jnp.asarray(inputs[rows]), jnp.asarray(targets[rows]), jnp.ones(10), jnp.asarray(rows))
    likeness = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    kept = {"original": one(original), "classes": jnp.asarray(likeness)}
    logits = np.asarray(problem.model.apply(kept["original"], batch.inputs)[0].logits, np.float64)
    p = softmax(logits, axis=1)
    p[np.arange(10), targets[rows]] = 0.0
    for strength in (0.0, 2.0):
        tilted = p * np.exp(strength * likeness[targets[rows]])
        found = softmax(np.asarray(goal(problem, kept, batch, {"strength": jnp.float32(strength)})), axis=1)
        np.testing.assert_allclose(found, tilted / tilted.sum(1, keepdims=True), atol=1e-5)


def test_classes_are_alike_as_their_mean_logits_are():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(30, 4)), rng.integers(0, 3, 30)  # class 3 has no sample
    means = np.stack([logits[labels == c].mean(0) for c in range(3)])
    means = means - means.mean(0)
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    found = class_likeness(logits, labels)
    np.testing.assert_allclose(found[:3, :3], unit @ unit.T, atol=1e-5)
    assert (found[3] == 0).all() and (found[:, 3] == 0).all()


def test_a_student_follows_its_teacher_on_what_was_found(original):
    evidence = plots.evidence("do_nothing", "local_teacher", original, {})
    settings = {"steps": 60, "batch": 16, "lr": 0.03, "neighbours": 30, "teacher_share": 1.0}
    done = REMEDIES["local_teacher"].apply(evidence, remedy_settings("local_teacher", settings))
    score = lambda v: evidence.context(evidence.plain).margins(v, np.concatenate([toy.REQUESTED, plots.PLANTED]))
    assert score(done.unlearned.population.variables).mean() < score(original).mean() - 1.0
    held = evidence.context(evidence.plain).margins(done.unlearned.population.variables, toy.KEPT[:30])
    assert held.mean() > 1.0


# --- how the method moves ------------------------------------------------------------------------------------------


def test_no_noise_and_no_pose_are_the_method_alone(original, plain):
    toy.close(after("perturb", original, {"radius": 0.0}), plain("perturb"))
    toy.close(after("paraphrase", original, {"strength": 0.0}), plain("paraphrase"), 1e-4)


def test_poses_change_pixels_and_blanks_spare_the_answer():
    rng = np.random.default_rng(0)
    images = Batch(
        jnp.asarray(rng.random((6, 8, 8, 1)), jnp.float32), jnp.zeros(6, jnp.int32), jnp.ones(6), jnp.arange(6)
    )
    moved = np.asarray(turned(jax.random.key(0), images, 1.0))
    assert (np.abs(moved - np.asarray(images.inputs)).reshape(6, -1).max(axis=1) > 1e-2).all()
    assert moved.min() >= -1e-6 and moved.max() <= 1 + 1e-6
    tokens = jnp.asarray(rng.integers(1, 9, (200, 12)), jnp.int32)
    targets = np.full((200, 12), -1, np.int32)
    targets[:, 7:9] = 5  # the positions that predict the answer, tokens 8 and 9
    batch = Batch(tokens, jnp.asarray(targets), jnp.ones(200), jnp.arange(200))
    gone = np.asarray(blanked(jax.random.key(1), batch, 0.3)) != np.asarray(tokens)
    assert not gone[:, [0, *range(7, 12)]].any() and 0.25 < gone[:, 1:7].mean() < 0.35
    whole = np.asarray(blanked(jax.random.key(1), batch._replace(targets=jnp.zeros(200, jnp.int32)), 1.0))
    assert (whole[:, 1:] == 0).all() and (whole[:, 0] == np.asarray(tokens)[:, 0]).all()


def test_a_projected_update_does_not_raise_the_adjacent_loss_to_first_order(original):
    problem, (inputs, targets) = toy.problem(), plots.examples()
    variables = one(original)
    batch = lambda rows: Batch(
        jnp.asarray(inputs[rows]), jnp.asarray(targets[rows]), jnp.ones(len(rows)), jnp.asarray(rows)
    )
    batches = Batches(batch(toy.REQUESTED), batch(toy.KEPT), jnp.int32(0), jnp.int32(0), jnp.float32(1), jnp.float32(0))
    fold, _, hp = toy.method(WEIGHTS, (("epochs", 1), ("batch", 16), ("optimizer", "sgd"), ("lr", 0.1)))
    hp = hp | {"retain_weight": 0.0, "bound": 9.0}  # ascent alone
    method = fold.build(hp, {})
    guarded = protecting(problem, 0.25)(method, {}, hp)
    assert protecting(problem, 0.25) is protecting(problem, 0.25)
    state = guarded.init(jax.random.key(0), variables)
    after, _ = jax.jit(guarded.update)(jax.random.key(1), state, batches)
    bare, _ = jax.jit(method.update)(jax.random.key(1), state.inner, batches)
    weight = jax.jit(lambda: adjacent_part(problem, variables, batches, 0.25)[1])()
    assert weight.sum() == 10  # a quarter of forty

    def spared(params):
        losses = problem.task.loss(
            problem.model.apply(variables | {"params": params}, batches.retain.inputs)[0].logits, batches.retain
        )
        return jnp.sum(losses * weight) / weight.sum()

    slope = jax.jit(jax.grad(spared))(variables["params"])
    rise = lambda state: float(tree_dot(tree_add(state.params, variables["params"], -1.0), slope))
    assert rise(bare) > 1e-4 and abs(rise(after.inner)) < 1e-3 * rise(bare)
    assert set(guarded.finish(after)) == {"params", "state"}


def test_changes_stay_where_the_request_matters_more(original, plain):
    toy.same(after("corrective", original, {"alpha": np.inf, "batch": 16})["params"], original["params"])
    whole, method = after("corrective", original, {"alpha": 0.0, "batch": 16}), plain("corrective")
    live = [
        np.asarray(a) != np.asarray(b) for a, b in zip(*map(jax.tree.leaves, (whole["params"], original["params"])))
    ]
    for mask, a, b in zip(live, jax.tree.leaves(whole["params"]), jax.tree.leaves(method["params"])):
        np.testing.assert_array_equal(np.asarray(a)[mask], np.asarray(b)[mask])
    some = after("corrective", original, {"alpha": 1.0, "batch": 16})
    problem, (inputs, targets), first = toy.problem(), plots.examples(), one(original)

    def squares(rows):
        def single(x, y):
            batch = Batch(x[None], y[None], jnp.ones(1), jnp.zeros(1, jnp.int32))
            loss = lambda p: problem.task.loss(problem.model.apply(first | {"params": p}, x[None])[0].logits, batch)[0]
            return jax.tree.map(jnp.square, jax.grad(loss)(first["params"]))

        found = jax.jit(jax.vmap(single))(jnp.asarray(inputs[rows]), jnp.asarray(targets[rows]))
        return jax.tree.map(lambda g: np.asarray(g).mean(axis=0), found)

    request, full = squares(toy.REQUESTED), squares(np.arange(50))
    trees = request, full, one(original)["params"], one(method)["params"], one(some)["params"]
    for f, d, o, m, found in zip(*map(jax.tree.leaves, trees)):
        clear = np.abs(f - d) > 1e-5 * d
        np.testing.assert_array_equal(np.asarray(found)[clear], np.where(f > d, m, o)[clear])
    share = kept_share(original["params"], some["params"])
    assert (share > 0.1).all() and (share < 0.9).all()


def test_one_part_is_the_method_alone_and_parts_go_from_easy_to_hard(original, plain):
    toy.same(after("partition", original, {"parts": 1}), plain("partition"))
    evidence = plots.evidence(WEIGHTS, "partition", original)
    asked = []

    def run(treat):
        asked.append(treat)
        return evidence.run(treat)

    done = REMEDIES["partition"].apply(evidence._replace(run=run), remedy_settings("partition", {"parts": 2}))
    margins = evidence.context(evidence.plain).margins(original, toy.REQUESTED).mean(axis=0)
    order = toy.REQUESTED[np.argsort(-margins, kind="stable")]
    for treat, rows in zip(asked, (order[:5], order[5:])):
        np.testing.assert_array_equal(treat.requested[0], np.sort(rows))
        np.testing.assert_array_equal(treat.kept[0], toy.KEPT)
    assert asked[0].start is None and asked[0].role != asked[1].role
    assert (toy.gap(done.unlearned.population.variables, asked[1].start) > 1e-3).all()
    entangled = hardness(evidence, remedy_settings("partition", {"by": "entanglement", "k": 3}))
    assert entangled[0].shape == (10,) and (np.abs(entangled[0]) <= 1 + 1e-5).all()


# --- how the data were split ---------------------------------------------------------------------------------------


def test_groups_stay_whole_and_slices_even():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), rng.integers(1, 6, 60))
    where = assign_groups(groups, 4, 2, np.random.default_rng(1))
    for group in range(60):
        assert len(np.unique(where[groups == group], axis=0)) == 1
    sizes = np.bincount(where[:, 0] + 4 * where[:, 1], minlength=8)
    assert sizes.max() - sizes.min() <= 5 and where.max(axis=0).tolist() == [3, 1]
    alone = assign_groups(np.arange(48), 4, 2, np.random.default_rng(1))
    np.testing.assert_array_equal(np.bincount(alone[:, 0] + 4 * alone[:, 1]), 6)
    assert assign(np.arange(48), 4, 2, np.random.default_rng(1)).shape == alone.shape


def test_shards_hold_a_request_with_its_copies_and_only_sisa_has_any(original):
    evidence = plots.evidence("sisa", "cluster_sharding", original, {"shards": [2], "slices": [1]})
    seen = []
    REMEDIES["cluster_sharding"].apply(evidence._replace(run=seen.append), remedy_settings("cluster_sharding"))
    np.testing.assert_array_equal(seen[0].requested[0], [*toy.REQUESTED, *plots.PLANTED])
    groups = seen[0].together[0]
    np.testing.assert_array_equal(groups[plots.PLANTED], groups[toy.REQUESTED])
    assert (groups[toy.UNUSED] == -1).all()
    where = assign_groups(groups[:50], 2, 1, np.random.default_rng([0, 0, 9]))[:, 0]
    np.testing.assert_array_equal(where[plots.PLANTED], where[toy.REQUESTED])
    assert [name for name, entry in METHODS.items() if not only_sisa(entry)] == ["sisa"]
