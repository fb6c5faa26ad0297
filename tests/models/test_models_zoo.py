import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from compiling import quick_jit

from unlearn_jax import models
from unlearn_jax.errors import InputError
from unlearn_jax.models.vit import patchify

SHAPE, CLASSES, BATCH, MEMBERS = (8, 8, 2), 5, 4, 3
CASES = {
    "linear": ("linear", {}, 128),
    "mlp": ("mlp", dict(widths=(12, 6)), 6),
    "convnet": ("convnet", dict(widths=(8, 16)), 16),
    "convnet-batch": ("convnet", dict(widths=(8, 16), norm="batch"), 16),
    "resnet9": ("resnet9", dict(width=4, conv_impl="conv"), 16),
    "resnet18-batch": ("resnet18", dict(width=2, norm="batch", conv_impl="conv"), 16),
    "vit": ("vit", dict(width=16, depth=2, heads=2), 16),
}


def random_variables(model, rng):
    """Variables of three members, drawn without compiling ``init``; running variances are positive."""
    x = jax.ShapeDtypeStruct((BATCH, *SHAPE), jnp.float32)
    abstract = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    scaled = lambda s: rng.normal(size=(MEMBERS, *s.shape)) / np.sqrt(np.prod(s.shape[:-1]))
    variables = {
        "params": jax.tree.map(scaled, abstract["params"]),
        "state": jax.tree.map(lambda s: rng.uniform(0.5, 1.5, (MEMBERS, *s.shape)), abstract["state"]),
    }
    return jax.tree.map(np.float32, variables)


def checks_of(model):
    """One program: three members by vmap (forward, gradient), then one after another in a scan."""

    def loss(params, state, x):
        trained, moved = model.apply({"params": params, "state": state}, x, train=True)
        return trained.logits[:, 0].sum(), (trained, moved)

    def member(variables, x):
        slope, aux = jax.grad(loss, has_aux=True)(variables["params"], variables["state"], x)
        return aux, model.apply(variables, x), slope

    def forward(_, args):
        variables, x = args
        return None, model.apply(variables, x, train=True)

    @quick_jit
    def program(variables, x):
        return jax.vmap(member)(variables, x), jax.lax.scan(forward, None, (variables, x))[1]

    rng = np.random.default_rng(0)
    variables = random_variables(model, rng)
    x = rng.normal(size=(MEMBERS, BATCH, *SHAPE)).astype(np.float32)
    return variables, *jax.device_get(program(variables, x))


QUICKLY = ("linear", "mlp", "convnet-batch", "vit")


@pytest.mark.parametrize("case", toy.some(sorted(CASES, key=QUICKLY.__contains__, reverse=True), 4))
def test_model(case):
    name, options, width = CASES[case]
    variables, together, alone = checks_of(models.build_model(name, CLASSES, SHAPE, **options))
    (trained, moved), (evaluated, state), slope = together
    for outputs in (trained, evaluated):
        assert outputs.logits.shape == (MEMBERS, BATCH, CLASSES)
        assert outputs.features.shape == (MEMBERS, BATCH, width)
        assert outputs.hidden is None
    for a, b in zip(jax.tree.leaves(together[0]), jax.tree.leaves(alone), strict=True):
        scale = max(1.0, abs(b).max())
        np.testing.assert_allclose(a / scale, b / scale, atol=1e-5)
    slopes = jax.tree.leaves(slope)
    assert all(np.isfinite(s).all() for s in slopes)
    assert all(abs(s).max() > 1e-7 for s in slopes)
    assert models.count_parameters(variables) == sum(s.size for s in slopes)
    start = jax.tree.leaves(variables["state"])
    assert bool(start) == ("batch" in case) == bool(abs(trained.logits - evaluated.logits).max() > 1e-3)
    assert all((a == b).all() for a, b in zip(start, jax.tree.leaves(state), strict=True))
    assert all((a != b).any() for a, b in zip(start, jax.tree.leaves(moved), strict=True))


@pytest.mark.parametrize("name", toy.some(["linear", "convnet", "vit"], 1))
def test_init_depends_on_the_key_and_vmaps(name):
    model = models.build_model(name, CLASSES, SHAPE)
    keys = jax.random.split(jax.random.key(0), MEMBERS)
    x = np.zeros((BATCH, *SHAPE), np.float32)
    kernel = quick_jit(jax.vmap(lambda key: model.init(key, x)["params"]["head"]["kernel"]))(keys)
    assert kernel.shape[0] == MEMBERS and kernel.shape[2] == CLASSES
    assert abs(np.asarray(kernel[0] - kernel[1])).max() > 1e-3


def _build_both(name):
    options = {"resnet9": dict(width=4), "resnet18": dict(width=2), "vit": dict(width=16, depth=1)}.get(name, {})
    return [models.build_model(name, CLASSES, SHAPE, dtype=d, **options) for d in ("float32", "bfloat16")]


IMAGES = [name for name in models.MODELS if "images" in models.READS.get(name, ("images",))]


@pytest.mark.parametrize("name", toy.some(sorted(IMAGES, key=("convnet", "vit").__contains__, reverse=True), 2))
def test_bfloat16_keeps_parameters_and_results_in_float32(name):
    exact, rough = _build_both(name)

    def program(x):
        variables = rough.init(jax.random.key(0), x)
        loss = lambda params: rough.apply({**variables, "params": params}, x, train=True)[0].logits.sum()
        return variables, rough.apply(variables, x)[0], jax.grad(loss)(variables["params"])

    x = jax.ShapeDtypeStruct((BATCH, *SHAPE), jnp.float32)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(jax.eval_shape(program, x))} == {"float32"}
    for model, present in ((exact, False), (rough, name != "linear")):
        forward = lambda x, m=model: m.apply(m.init(jax.random.key(0), x), x)[0].logits
        assert ("bf16" in str(jax.make_jaxpr(forward)(x))) is present  # the hidden layers do run in bfloat16


def test_the_size_of_a_vocabulary_comes_from_the_data():
    model = models.build_model("encoder", CLASSES, (6,), vocab=20, width=8, heads=2, depth=1)
    tokens = jnp.ones((BATCH, 6), jnp.int32)
    assert jax.eval_shape(lambda x: model.init(jax.random.key(0), x), tokens)["params"]["embed"].shape == (20, 8)
    assert "vocab" not in models.model_options("encoder")


@pytest.mark.parametrize("name", toy.some(["mlp", "convnet", "vit"], 1))
def test_bfloat16_is_near_float32(name):
    exact, rough = _build_both(name)

    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda v: v[0], random_variables(rough, rng))
    x = rng.normal(size=(BATCH, *SHAPE)).astype(np.float32)
    a, b = jax.device_get(quick_jit(lambda v, x: [m.apply(v, x)[0].logits for m in (exact, rough)])(variables, x))
    assert 0 < abs(a - b).max() < 0.15


@pytest.mark.parametrize(
    "name, shape",
    [(name, (1, 1, 1)) for name in ("linear", "mlp", "convnet", "resnet9", "resnet18")]
    + [("convnet", (3, 5, 1)), ("linear", (7,)), ("mlp", (7,))]
    + toy.some([(name, (3, 5, 1)) for name in ("linear", "mlp", "resnet9", "resnet18")], 0),
)
def test_odd_and_tiny_images_and_vectors(name, shape):
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    model = models.build_model(name, 3, shape)
    outputs, _ = jax.eval_shape(lambda x: model.apply(model.init(jax.random.key(0), x), x), x)
    assert outputs.logits.shape == (2, 3)


def test_convolution_forms_give_the_same_model():
    x = jax.random.normal(jax.random.key(6), (BATCH, *SHAPE))
    a, b = (models.build_model("convnet", CLASSES, SHAPE, widths=(8, 8), conv_impl=i) for i in ("conv", "im2col"))

    @quick_jit
    def program(x):
        variables = a.init(jax.random.key(0), x)
        return a.apply(variables, x)[0].logits, b.apply(variables, x)[0].logits

    np.testing.assert_allclose(*program(x), atol=1e-5)


def test_patches_are_square_tiles_in_reading_order():
    x = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    patches = patchify(x, 2)
    assert patches.shape == (2, 6, 12)
    np.testing.assert_array_equal(patches[1, 4], x[1, 2:4, 2:4].reshape(-1))


def test_vit_patch_defaults_and_learned_positions():
    def count(shape, **options):
        model = models.build_model("vit", 3, shape, **options)
        x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        return jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)["params"]["positions"].shape

    assert count((8, 8, 1)) == (16, 64)
    assert count((32, 32, 3)) == (64, 64)
    assert count((32, 32, 3), patch=8, width=32) == (16, 32)


def test_standard_sizes():
    def size(name, shape):
        model = models.build_model(name, 10, shape)
        x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        return models.count_parameters(jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x))

    assert size("linear", (8, 8, 1)) == 650
    assert size("mlp", (8, 8, 1)) == 64 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10
    assert size("resnet18", (32, 32, 3)) == 11_173_962  # the usual CIFAR ResNet-18 with 10 classes


def test_flops_are_counted_or_taken_from_the_number_of_parameters(monkeypatch):
    model = models.build_model("mlp", 10, (8, 8, 1), widths=(32,))
    products = 64 * 32 + 32 * 10
    assert 2 * products <= models.flops_per_example(model, (8, 8, 1)) < 2.2 * products
    raw = models.build_model("convnet", 10, (8, 8, 1), mean=(0.3,), std=(0.4,))
    assert models.flops_per_example(raw, (8, 8, 1), jnp.uint8) > 2 * 64 * 9 * 16
    monkeypatch.setattr(jax.stages.Lowered, "cost_analysis", lambda self: None)
    model = models.build_model("linear", 10, (8, 8, 1))
    assert models.flops_per_example(model, (8, 8, 1)) == 1300.0


def test_build_model_standardises_when_told():
    raw = jnp.full((2, 4, 4, 1), 255, jnp.uint8)
    model = models.build_model("linear", 3, (4, 4, 1), mean=(0.5,), std=(0.25,))
    outputs, _ = model.apply(model.init(jax.random.key(0), raw), raw)
    np.testing.assert_allclose(outputs.features, np.full((2, 16), 2.0))


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("lenet", {}, "unknown model 'lenet': choose one of convnet, decoder, encoder, linear, minilm, mlp, resnet18"),
        ("mlp", dict(width=3), "unknown mlp option 'width': choose one of dtype, widths"),
        ("linear", dict(num_classes_=3), "unknown linear option"),
        ("mlp", dict(dtype="float16"), "unknown dtype 'float16': choose one of bfloat16, float32"),
        ("mlp", dict(dtype="float64"), "dtype 'float64' needs JAX's 64-bit mode: set the environment variable"),
        ("vit", dict(dtype="float64"), "unknown dtype 'float64': choose one of bfloat16, float32"),
        ("mlp", dict(widths=(0,)), "layer widths"),
        ("convnet", dict(widths=()), "no widths"),
        ("convnet", dict(norm="layer"), "unknown norm 'layer'"),
        ("resnet9", dict(conv_impl="fft"), "unknown conv_impl 'fft'"),
        ("vit", dict(patch=3), "patch 3 does not divide images of 8x8"),
        ("vit", dict(heads=5), "5 heads do not divide width 64"),
        ("vit", dict(mean=(0.5, 0.5)), "mean and std go together"),
        ("convnet", dict(num_classes=1), "at least 2"),
        ("convnet", dict(shape=(8, 8)), "height, width"),
        ("encoder", dict(shape=(6,)), "model 'encoder' reads tokens: give vocab, how many token numbers there are"),
    ],
)
def test_bad_settings_say_what_to_do(name, options, message):
    classes, shape = options.pop("num_classes", CLASSES), options.pop("shape", SHAPE)
    with pytest.raises(InputError, match=message):
        models.build_model(name, classes, shape, **options)
