import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit
from flax import nnx

from unlearn_jax.errors import InputError
from unlearn_jax.models import build_model, from_nnx
from unlearn_jax.models.lora import dense_layers, lora, merge
from unlearn_jax.models.transformer import decoder

VOCAB, RANK, MEMBERS = 11, 3, 2
TOKENS = np.array([[3, 1, 4, 1], [2, 7, 10, 0]], np.int32)
BASE = decoder(VOCAB, (4,), width=16, depth=2, heads=2)
ADAPTED = lora(BASE, rank=RANK, alpha=6.0)
ALL = lora(BASE, rank=RANK, alpha=6.0, matches=("attention", "gate_up", "block1/down"))


@pytest.fixture(scope="module")
def frozen():
    return quick_jit(BASE.init)(jax.random.key(0), TOKENS)


@pytest.fixture(scope="module")
def start(frozen):
    return quick_jit(ALL.init)(jax.random.key(1), TOKENS) | {"shared": frozen}


def moved(start, seed=0):
    """Variables whose adapters are all away from 0."""
    rng = np.random.default_rng(seed)
    noise = jax.tree.map(lambda x: x + np.float32(0.2 * rng.normal(size=x.shape)), start["params"])
    return start | {"params": noise}


def test_only_the_named_layers_are_adapted(start):
    layers = jax.eval_shape(ADAPTED.init, jax.random.key(0), TOKENS)["params"]
    assert set(layers) == {"block0", "block1"} and set(layers["block0"]) == {"attention"}
    assert {n: (p["a"].shape, p["b"].shape) for n, p in layers["block1"]["attention"].items()} == {
        "qkv": ((16, RANK), (RANK, 48)),
        "out": ((16, RANK), (RANK, 16)),
    }
    assert set(start["params"]["block0"]) == {"attention", "gate_up"}
    assert set(start["params"]["block1"]) == {"attention", "gate_up", "down"}
    a = np.concatenate([x.ravel() for x in jax.tree.leaves(start["params"]["block0"]["gate_up"]["a"])])
    assert 0.15 < a.std() < 0.35 and len(np.unique(a)) == a.size  # 1 / sqrt(16)


def test_image_models_have_layers_to_adapt_too():
    vit = build_model("vit", 3, (4, 4, 1), width=8, depth=1, heads=2)
    layers = jax.eval_shape(lora(vit, rank=2, alpha=2.0).init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)))["params"]
    assert set(layers["block0attention"]) == {"qkv", "out"}
    mlp = build_model("mlp", 3, (2, 2, 1), widths=(5, 6))
    sizes = {("dense0",): (4, 5), ("dense1",): (5, 6), ("head",): (6, 3)}
    assert dense_layers(mlp, jnp.zeros((1, 2, 2, 1))) == sizes


def test_outputs_start_exactly_as_the_base(start, frozen):
    a, state = quick_jit(ALL.apply)(start, TOKENS)
    b, _ = quick_jit(BASE.apply)(frozen, TOKENS)
    for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
        np.testing.assert_array_equal(x, y)
    assert state.keys() == {"scale"} and float(state["scale"]) == 2.0


def test_merged_weights_give_the_same_logits(start, frozen):
    variables = moved(start)
    whole = merge(variables)
    assert jax.tree.structure(whole) == jax.tree.structure(frozen)
    pair = variables["params"]["block1"]["down"]
    wanted = frozen["params"]["block1"]["down"]["kernel"] + 2.0 * np.asarray(pair["a"]) @ np.asarray(pair["b"])
    np.testing.assert_allclose(whole["params"]["block1"]["down"]["kernel"], wanted, atol=1e-6)
    assert whole["params"]["block0"]["down"]["kernel"] is frozen["params"]["block0"]["down"]["kernel"]
    a, b, c = (
        np.asarray(quick_jit(m.apply)(v, TOKENS)[0].logits)
        for m, v in ((ALL, variables), (BASE, whole), (BASE, frozen))
    )
    np.testing.assert_allclose(a, b, atol=1e-5)
    assert abs(a - c).max() > 0.05


def test_a_training_step_moves_the_adapters_alone(start, frozen):
    before = [np.array(x).tobytes() for x in jax.tree.leaves(frozen)]

    @quick_jit
    def step(variables):
        def loss(params):
            outputs, state = ALL.apply(variables | {"params": params}, TOKENS, train=True)
            return jnp.square(outputs.logits).mean(), state

        slope, state = jax.grad(loss, has_aux=True)(variables["params"])
        params = jax.tree.map(lambda x, g: x - 0.1 * g, variables["params"], slope)
        return variables | {"params": params, "state": state}, slope

    after, slope = step(start)
    for path, g in jax.tree.leaves_with_path(slope):
        assert bool(abs(np.asarray(g)).max() > 1e-7) is (path[-1].key == "b")  # A has no slope while B is 0
    assert [np.array(x).tobytes() for x in jax.tree.leaves(after["shared"])] == before
    assert all(abs(np.asarray(g)).max() > 1e-7 for g in jax.tree.leaves(step(moved(start))[1]))


def test_a_population_holds_the_base_once(start):
    own = [{"params": moved(start, i)["params"], "state": {"scale": np.float32(1 + i)}} for i in range(MEMBERS)]
    members = jax.tree.map(lambda *x: np.stack(x), *own)
    run = lambda v, shared: ALL.apply(v | {"shared": shared}, TOKENS)[0].logits
    together = jax.vmap(run, in_axes=(0, None))
    jaxpr = str(jax.make_jaxpr(together)(members, start["shared"]))
    assert f"f32[{MEMBERS},{RANK},48]" in jaxpr and f"f32[{MEMBERS},16,48]" not in jaxpr
    logits = quick_jit(together)(members, start["shared"])
    for i in range(MEMBERS):
        np.testing.assert_allclose(logits[i], quick_jit(run)(own[i], start["shared"]), atol=1e-5)


def test_bfloat16_adapters_stay_in_float32(start):
    rough = lora(decoder(VOCAB, (4,), width=16, depth=2, heads=2, dtype="bfloat16"), rank=RANK, alpha=6.0)
    attention = {name: {"attention": block["attention"]} for name, block in start["params"].items()}
    variables = {"params": attention, "state": start["state"], "shared": start["shared"]}
    loss = lambda p: rough.apply(variables | {"params": p}, TOKENS)[0].logits.sum()
    leaves = jax.tree.leaves(jax.eval_shape(jax.value_and_grad(loss), variables["params"]))
    assert {x.dtype.name for x in leaves} == {"float32"}


def test_bad_requests_say_what_to_do(start):
    with pytest.raises(InputError, match="rank is 0"):
        lora(BASE, rank=0, alpha=1.0)
    with pytest.raises(InputError, match="no dense layer matches query: .* block0/attention/qkv, block0/attention/out"):
        lora(BASE, rank=1, alpha=1.0, matches=("query",)).init(jax.random.key(0), TOKENS)
    with pytest.raises(InputError, match=r"pass variables \| {'shared': base_variables}"):
        ALL.apply({"params": {}, "state": {}}, TOKENS)

    class Plain(nnx.Module):
        def __init__(self, rngs):
            self.attention = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.attention(x), x

    with pytest.raises(InputError, match="no dense layer matches attention: .* none"):
        lora(from_nnx(Plain), rank=1, alpha=1.0).init(jax.random.key(0), jnp.ones((1, 4)))
