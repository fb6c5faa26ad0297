import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit

from unlearn_jax.errors import InputError
from unlearn_jax.models import layers, pooling


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(7), (2, 7, 6, 3))


CASES = [(k, s, p) for k in ((3, 3), (1, 1)) for s in ((1, 1), (2, 2)) for p in ("SAME", "VALID")]


def test_both_convolutions_equal_flax_forward_and_backward(images):
    rng = np.random.default_rng(0)

    def run(make, variables, weights, x):
        loss = lambda v, x: (make.apply(v, x) * weights).sum()
        return make.apply(variables, x), jax.grad(loss, argnums=(0, 1))(variables, x)

    def build(kernel_size, strides, padding):
        ours = [layers.Conv(5, kernel_size, strides, padding, impl=impl) for impl in ("conv", "im2col")]
        return [nn.Conv(5, kernel_size, strides, padding), *ours]

    inputs = []
    for case in CASES:
        shapes = [jax.eval_shape(m.init_with_output, jax.random.key(0), images) for m in build(*case)]
        assert shapes[1] == shapes[0] and shapes[2] == shapes[0]
        inputs.append(jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes[0]))

    @quick_jit
    def everything(inputs, x):
        return [[run(m, v, w, x) for m in build(*case)] for case, (w, v) in zip(CASES, inputs, strict=True)]

    for theirs, *ours in everything(inputs, images):
        for mine in ours:
            for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
                scale = max(1.0, abs(np.asarray(b)).max())
                np.testing.assert_allclose(a / scale, b / scale, atol=1e-5)


def test_auto_is_im2col_on_cpu_and_goes_by_width_elsewhere(monkeypatch, images):
    assert layers.resolve_conv("auto", 512, 512) == "im2col"
    assert layers.resolve_conv("conv", 3, 3) == "conv"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert layers.resolve_conv("auto", 64, 64) == "im2col"
    assert layers.resolve_conv("auto", 64, 65) == "conv"
    with pytest.raises(InputError, match="choose one of auto, conv, im2col"):
        layers.resolve_conv("winograd", 3, 3)


def test_only_the_chosen_convolution_is_in_the_program_and_fresh_kernels_equal_those_of_flax(images):
    a, b = (m.init(jax.random.key(0), images) for m in (nn.Conv(5, (3, 3)), layers.Conv(5)))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    for impl, present in (("conv", True), ("im2col", False), ("auto", False)):
        module = layers.Conv(4, impl=impl)
        jaxpr = jax.make_jaxpr(lambda x, m=module: m.init_with_output(jax.random.key(0), x)[0])(images)
        assert ("conv_general_dilated" in str(jaxpr)) is present


def test_max_pool_equals_reduce_window_and_stops_at_one_pixel(images):
    @jax.jit
    def pairs(x):
        theirs = [nn.max_pool(x, (w, w), (w, w), padding="VALID") for w in (2, 3)]
        return [*theirs, x.max((1, 2))], [*(pooling.max_pool(x, w) for w in (2, 3)), pooling.global_max_pool(x)]

    for expected, ours in zip(*pairs(images), strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert pooling.max_pool(images[:, :1]).shape == (2, 1, 6, 3)


def test_max_pool_gradient_goes_to_one_entry_of_each_tile():
    x = np.array([[1.0, 5.0, 2.0, 2.0], [3.0, 0.0, 2.0, 2.0]], np.float32).reshape(1, 2, 4, 1)
    slope = lambda pool: jax.jit(jax.grad(lambda x: pool(x).sum()))(x).reshape(2, 4)
    np.testing.assert_array_equal(slope(pooling.max_pool), [[0, 1, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(slope(pooling.global_max_pool), [[0, 1, 0, 0], [0, 0, 0, 0]])


def test_group_norm_equals_flax():
    groups = {64: 8, 16: 2, 48: 6, 7: 1, 8: 1, 512: 32, 5: 1, 96: 12, 1: 1}
    assert {channels: layers.norm_groups(channels) for channels in groups} == groups
    x = 3.0 + 2.0 * jax.random.normal(jax.random.key(0), (2, 4, 4, 64))
    theirs, ours = nn.GroupNorm(8, epsilon=layers.NORM_EPS), layers.GroupNorm()
    a, b = (jax.jit(m.init_with_output)(jax.random.key(0), x)[0] for m in (theirs, ours))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_statistics_stay_float32_under_bfloat16():
    x = (300.0 + jax.random.normal(jax.random.key(0), (4, 8, 8, 8))).astype(jnp.bfloat16)
    for norm in (layers.GroupNorm(jnp.bfloat16), layers.BatchNorm(jnp.bfloat16)):
        y, _ = jax.jit(lambda x, m=norm: m.init_with_output(jax.random.key(0), x, train=True))(x)
        assert y.dtype == jnp.bfloat16
        y = np.asarray(y, np.float32)
        # statistics rounded to bfloat16 (steps of 2 at 300) would be off by up to one unit
        assert abs(y.mean()) < 0.01 and abs(y.std() - 1) < 0.05


def test_batch_norm_running_statistics():
    x = 2.0 + 3.0 * jax.random.normal(jax.random.key(0), (16, 4, 4, 2))
    norm = layers.BatchNorm()
    variables = norm.init(jax.random.key(1), x, train=True)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.zeros(2))
    y, changed = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    values = np.asarray(x)
    np.testing.assert_allclose(changed["batch_stats"]["mean"], 0.1 * values.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(changed["batch_stats"]["var"], 0.9 + 0.1 * values.var((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(y).std((0, 1, 2)), np.ones(2), atol=1e-4)
    np.testing.assert_allclose(norm.apply(variables, x), values / np.sqrt(1 + layers.NORM_EPS), rtol=1e-5)


def test_layer_norm_has_zero_mean_and_unit_variance_per_position():
    x = 5.0 + 3.0 * jax.random.normal(jax.random.key(0), (2, 3, 64))
    y = np.asarray(jax.jit(layers.LayerNorm().init_with_output)(jax.random.key(1), x)[0])
    np.testing.assert_allclose(y.mean(-1), np.zeros((2, 3)), atol=1e-5)
    np.testing.assert_allclose(y.std(-1), np.ones((2, 3)), atol=1e-4)


def test_bad_names_list_the_valid_ones():
    with pytest.raises(InputError, match="choose one of bfloat16, float32"):
        layers.compute_dtype("float16")
    with pytest.raises(InputError, match="choose one of batch, group"):
        layers.make_norm("instance", jnp.float32, "norm")
