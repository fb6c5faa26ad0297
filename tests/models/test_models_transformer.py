import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit

from unlearn_jax.errors import InputError
from unlearn_jax.models import count_parameters, transformer
from unlearn_jax.models.transformer import RMSNorm, attend, decoder, encoder, rotate

VOCAB, LENGTH, CLASSES, MEMBERS = 11, 6, 3, 2
SMALL = dict(width=16, depth=2, heads=2)
TOKENS = np.array([[3, 1, 4, 1, 5, 9], [2, 7, 10, 8, 0, 0], [6, 0, 0, 0, 0, 0]], np.int32)


def build(name, **options):
    if name == "decoder":
        return decoder(VOCAB, (LENGTH,), **SMALL | options)
    return encoder(CLASSES, (LENGTH,), vocab=VOCAB, **SMALL | options)


MODELS = {name: build(name) for name in ("decoder", "encoder")}


def abstract(model):
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x), jax.ShapeDtypeStruct((1, LENGTH), jnp.int32))


def random_variables(model, seed=0, members=()):
    """Variables drawn without compiling ``init``; scales near 1."""
    rng = np.random.default_rng(seed)

    def draw(s):
        x = rng.normal(size=(*members, *s.shape))
        return np.float32(x / np.sqrt(s.shape[0]) if len(s.shape) > 1 else 1 + 0.2 * x)

    return jax.tree.map(draw, abstract(model))


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    model = MODELS[request.param]
    run = quick_jit(lambda variables, tokens: model.apply(variables, tokens)[0])
    return request.param, model, random_variables(model), run


def test_rms_norm_divides_by_the_root_mean_square():
    x = jnp.array([[[3.0, 4.0]]])
    y = RMSNorm().apply({"params": {"scale": jnp.array([1.0, 2.0])}}, x)
    np.testing.assert_allclose(y[0, 0], np.array([3.0, 8.0]) / np.sqrt(12.5), rtol=1e-6)


def test_rotary_products_depend_on_distance_only_and_the_first_pair_turns_by_one_radian_a_position():
    rng = np.random.default_rng(1)
    q, k = rng.normal(size=(2, 1, 1, 3, 8)).astype(np.float32)

    def product(m, n):
        turned = [rotate(x, jnp.array([[p]])) for x, p in ((q, m), (k, n))]
        return np.asarray((turned[0] * turned[1]).sum(axis=-1))

    np.testing.assert_allclose(product(9, 5), product(104, 100), atol=1e-4)
    np.testing.assert_allclose(product(0, 0), (q * k).sum(axis=-1), atol=1e-6)
    assert abs(product(9, 5) - product(9, 4)).max() > 1e-2
    assert abs(product(5, 9) - product(9, 5)).max() > 1e-2  # the direction counts
    x = jnp.zeros((1, 1, 1, 4)).at[0, 0, 0, 0].set(1.0)
    np.testing.assert_allclose(rotate(x, jnp.array([[2]]))[0, 0, 0], [np.cos(2), 0, np.sin(2), 0], atol=1e-6)


def test_attention_is_a_weighted_mean_over_what_the_mask_shows():
    q, k, v = np.random.default_rng(2).normal(size=(3, 1, 2, 1, 4)).astype(np.float32)
    mask = np.array([[[True, False], [True, True]]])
    mixed = np.asarray(attend(*map(jnp.asarray, (q, k, v, mask))))
    weights = np.exp(k[0, :, 0] @ q[0, 1, 0] / 2.0)
    np.testing.assert_allclose(mixed[0, 0, 0], v[0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(mixed[0, 1, 0], weights @ v[0, :, 0] / weights.sum(), rtol=1e-5)


def test_only_the_encoder_sees_later_tokens(case):
    name, _, variables, run = case
    changed = TOKENS.copy()
    changed[0, 3] = 2
    a, b = (np.asarray(run(variables, t).hidden["block1"][0]) for t in (TOKENS, changed))
    assert abs(a[3:] - b[3:]).max(axis=-1).min() > 1e-4
    if name == "decoder":
        np.testing.assert_array_equal(a[:3], b[:3])
        a, b = (np.asarray(run(variables, t).logits[0]) for t in (TOKENS, changed))
        np.testing.assert_array_equal(a[:3], b[:3])
    else:
        assert abs(a[:3] - b[:3]).max(axis=-1).min() > 1e-4


def test_padding_at_the_end_changes_nothing_and_the_order_of_earlier_tokens_counts(case):
    name, _, variables, run = case
    swapped = TOKENS[:, [1, 0, 2, 3, 4, 5]]
    a, b = (np.asarray(run(variables, t).hidden["block0"][0, 5]) for t in (TOKENS, swapped))
    assert abs(a - b).max() > 1e-3  # one block without positions would see a set
    padded, cut = run(variables, TOKENS), run(variables, TOKENS[1:2, :4])
    np.testing.assert_allclose(padded.features[1], cut.features[0], atol=1e-5)
    logits = padded.logits[1, :4] if name == "decoder" else padded.logits[1]
    np.testing.assert_allclose(logits, cut.logits[0], atol=1e-5)


def test_features_are_the_live_mean_of_the_normed_stream_and_the_output_layer_is_tied(case):
    name, _, variables, run = case
    outputs, params = jax.device_get(run(variables, TOKENS)), variables["params"]
    assert list(outputs.hidden) == ["block0", "block1"]
    stream = outputs.hidden["block1"]
    normed = stream / np.sqrt((stream**2).mean(-1, keepdims=True)) * params["norm"]["scale"]
    for row, count in enumerate((6, 4, 1)):
        np.testing.assert_allclose(outputs.features[row], normed[row, :count].mean(axis=0), atol=1e-4)
    if name == "decoder":
        assert "head" not in params
        np.testing.assert_allclose(outputs.logits, normed @ params["embed"].T, atol=1e-4)
    else:
        head = params["head"]
        np.testing.assert_allclose(outputs.logits, outputs.features @ head["kernel"] + head["bias"], atol=1e-4)


def test_a_text_of_padding_alone_gives_finite_gradients():
    model, variables = MODELS["encoder"], random_variables(MODELS["encoder"])
    loss = lambda p: model.apply({"params": p, "state": {}}, TOKENS * 0)[0].logits.sum()
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(quick_jit(jax.grad(loss))(variables["params"])))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_vmapped_members_in_a_loop_equal_single_ones(name):
    model = build(name, depth=1)
    params = random_variables(model, members=(MEMBERS,))["params"]
    tokens = np.stack([TOKENS, (TOKENS * 3) % VOCAB])

    def train(params, tokens):
        loss = lambda p: jnp.square(model.apply({"params": p, "state": {}}, tokens, train=True)[0].logits).mean()
        step = lambda _, p: jax.tree.map(lambda x, g: x - 0.05 * g, p, jax.grad(loss)(p))
        return jax.lax.fori_loop(0, 3, step, params)

    run = quick_jit(lambda p, t: (jax.vmap(train)(p, t), jax.lax.map(lambda a: train(*a), (p, t))))
    both, alone = run(params, tokens)
    for start, a, b in zip(*map(jax.tree.leaves, (params, both, alone)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
        assert abs(np.asarray(a) - start).max() > 1e-6  # every parameter is trained


def test_bfloat16_keeps_parameters_and_results_in_float32(case):
    name, _, variables, run = case
    rough = build(name, dtype="bfloat16")
    loss = lambda p: rough.apply({"params": p, "state": {}}, TOKENS)[0].logits.sum()
    slope = jax.eval_shape(jax.grad(loss), variables["params"])
    outputs = quick_jit(lambda v: rough.apply(v, TOKENS)[0])(variables)
    leaves = jax.tree.leaves((abstract(rough)["params"], outputs, slope))
    assert {leaf.dtype.name for leaf in leaves} == {"float32"}
    assert 0 < abs(outputs.logits - run(variables, TOKENS).logits).max() < 0.2


def test_init_starts_near_the_uniform_distribution():
    model = decoder(300, (8,))
    run = quick_jit(lambda key: (v := model.init(key, TOKENS), model.apply(v, TOKENS)[0].logits))
    variables, logits = run(jax.random.key(0))
    assert 0.8 < np.asarray(logits).std() < 1.3
    kernel = np.asarray(variables["params"]["block0"]["down"]["kernel"])
    np.testing.assert_allclose(kernel.std(), 0.5 / np.sqrt(176), rtol=0.05)  # 2 blocks add 4 terms


@pytest.mark.parametrize(
    "size, width, depth, inner", [("tiny", 64, 2, 176), ("small", 128, 4, 352), ("base", 384, 6, 1024)]
)
def test_sizes(size, width, depth, inner):
    block = 4 * width**2 + 3 * width * inner + 2 * width
    count = VOCAB * width + depth * block + width
    assert count_parameters(abstract(decoder(VOCAB, (LENGTH,), size=size))) == count
    smaller = abstract(decoder(VOCAB, (LENGTH,), size=size, depth=1, heads=1))
    assert count_parameters(smaller) == count - (depth - 1) * block


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(size="huge"), "unknown size 'huge': choose one of base, small, tiny"),
        (dict(width=20), "width 20, depth 2 and heads 4 do not fit"),
        (dict(heads=0), "heads 0 do not fit"),
        (dict(depth=0), "depth 0"),
        (dict(dtype="float64"), "unknown dtype"),
    ],
)
def test_bad_settings_say_what_to_do(options, message):
    with pytest.raises(InputError, match=message):
        decoder(VOCAB, (LENGTH,), **options)


def test_bad_shapes_say_what_to_do():
    with pytest.raises(InputError, match="give \\(length,\\)"):
        decoder(VOCAB, (8, 8, 1))
    with pytest.raises(InputError, match="at least 2"):
        encoder(1, (LENGTH,), vocab=VOCAB)
    with pytest.raises(InputError, match="token ids .* as int32"):
        transformer.decoder(VOCAB, (LENGTH,)).init(jax.random.key(0), jnp.ones((2, LENGTH)))
