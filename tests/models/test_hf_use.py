"""Language models of folders in use: fillings, adapters, decoding, losses without all logits, saving."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_hf
from tiny_hf import CONFIGS, TOKENS

from unlearn_jax.errors import InputError
from unlearn_jax.models.decode import generate
from unlearn_jax.models.hf import (
    NO_TOKEN,
    Head,
    cached_hf,
    chunked_cross_entropy,
    end_tokens,
    head_of,
    load_hf,
    make_model,
    save_hf,
    save_peft,
    sharded,
)
from unlearn_jax.models.lora import adapted_decoder, lora, merge
from unlearn_jax.tasks import answer_loss
from unlearn_jax.types import Batch

files = pytest.importorskip("safetensors.numpy", reason="needs the extra unlearn_jax[lm]")
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
quick_jit = partial(jax.jit, compiler_options=QUICK)
SMALL = {"num_hidden_layers": 1}
LENGTHS = np.array([8, 5], np.int32)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model of one block, and its variables."""
    return load_hf(tiny_hf.write(tmp_path_factory.mktemp("llama"), "llama", **SMALL))


def adapters_of(model, variables, matches=("attention", "mlp/up"), rank=2):
    """Random adapters, not zero, of scale 2."""
    made = lora(model, rank=rank, alpha=2.0 * rank, matches=matches)
    shapes = jax.eval_shape(made.init, jax.random.key(0), TOKENS)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: np.float32(0.3 * rng.normal(size=s.shape)), shapes["params"])
    return made, {"params": params, "state": {"scale": jnp.float32(2.0)}, "shared": variables}


def test_what_fills_a_row_is_no_token_and_token_0_is_one(base):
    model, variables = base
    run = quick_jit(model.apply)
    filled = TOKENS.copy()
    filled[1, 5:] = NO_TOKEN
    found, short = run(variables, filled)[0], run(variables, TOKENS[1:, :5])[0]
    np.testing.assert_allclose(found.features[1], short.features[0], atol=1e-6)
    np.testing.assert_allclose(found.logits[1, :5], short.logits[0], atol=1e-5)
    mean = np.asarray(found.hidden["norm"][0]).mean(axis=0)  # the row holds a 0
    np.testing.assert_allclose(found.features[0], mean, atol=1e-6)


def test_adapters_start_as_the_base_and_decode_without_being_merged(base):
    model, variables = base
    made, adapted = adapters_of(model, variables)
    zero = adapted | {"params": jax.tree.map_with_path(lambda p, x: x * (p[-1].key == "a"), adapted["params"])}
    run = quick_jit(lambda v: made.apply(v, TOKENS)[0].logits)
    plain = quick_jit(lambda v: model.apply(v, TOKENS)[0].logits)(variables)
    np.testing.assert_allclose(run(zero), plain, atol=1e-6)
    members = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), adapted["params"])
    one = lambda p: generate(adapted_decoder(cached_hf(model)), adapted | {"params": p}, TOKENS, LENGTHS, 4).tokens
    found = jax.vmap(one)(members)
    for row, params in zip(found, (adapted["params"], jax.tree.map(lambda x: 0.5 * x, adapted["params"]))):
        merged = merge(adapted | {"params": params})
        np.testing.assert_array_equal(row, generate(cached_hf(model), merged, TOKENS, LENGTHS, 4).tokens)


def test_programs_of_members_hold_the_base_once(base):
    model, variables = base
    made, adapted = adapters_of(model, variables)
    members = jax.tree.map(lambda x: jnp.stack([x] * 5), adapted["params"])
    decoder, tokens = adapted_decoder(cached_hf(model)), jnp.asarray(TOKENS)
    of = lambda params, base: adapted | {"params": params, "shared": base}
    loss = lambda params, base: made.apply(of(params, base), tokens)[0].logits.mean()
    answers = lambda params, base: decoder.prefill(of(params, base), tokens, 2)[0]
    held = sum(leaf.nbytes for leaf in jax.tree.leaves((members, variables)))
    for run in (jax.grad(loss), answers):
        compiled = quick_jit(jax.vmap(run, in_axes=(0, None))).lower(members, variables).compile()
        assert abs(compiled.memory_analysis().argument_size_in_bytes / held - 1) < 0.01


def test_rematerialised_blocks_give_the_same_gradient(base):
    model, variables = base
    again = make_model(model.config, remat=True)

    def gradient(model):
        made, adapted = adapters_of(model, variables)
        return quick_jit(jax.grad(lambda p: (made.apply(adapted | {"params": p}, TOKENS)[0].logits ** 2).mean()))(
            adapted["params"]
        )

    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6, rtol=1e-5), gradient(again), gradient(model))


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_base_on_four_devices_gives_what_it_gives_on_one(tmp_path, name):
    folder = tiny_hf.write(tmp_path, name)
    model, variables = load_hf(folder)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("fsdp", "tensor"))
    spread = load_hf(folder, place=sharded(mesh))[1]
    kernels = {path[-2].key: x for path, x in jax.tree.flatten_with_path(spread)[0] if path[-1].key == "kernel"}
    assert all(kernel.addressable_shards[0].data.size * 4 == kernel.size for kernel in kernels.values())
    made, adapted = adapters_of(model, variables)

    def both(base, params):
        loss = lambda p: (made.apply(adapted | {"params": p, "shared": base}, TOKENS)[0].logits ** 2).mean()
        return model.apply(base, TOKENS)[0].logits, jax.grad(loss)(params)

    one, four = (quick_jit(both)(base, adapted["params"]) for base in (variables, spread))
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5, rtol=1e-5), four, one)


@pytest.fixture(scope="module")
def fond_of_0(base):
    """The variables of a model whose likeliest token is often 0, and what it says to the prompts."""
    model, variables = base
    weights = np.array(variables["params"]["head"]["kernel"])
    weights[:, 0] *= 6
    variables = {"params": variables["params"] | {"head": {"kernel": weights}}, "state": {}}
    return variables, generate(cached_hf(model), variables, TOKENS, LENGTHS, 6)


def test_decoding_equals_full_recomputation_with_token_0(base, fond_of_0):
    model, (variables, found) = base[0], fond_of_0
    rows, texts = np.arange(2), np.zeros((2, 14), np.int32)
    texts[:, :8] = TOKENS
    run = quick_jit(lambda t: model.apply(variables, t)[0].logits)
    for i in range(6):
        texts[rows, LENGTHS + i] = np.asarray(run(texts))[rows, LENGTHS + i - 1].argmax(-1)
    wanted = np.stack([texts[row, n : n + 6] for row, n in enumerate(LENGTHS)])
    np.testing.assert_array_equal(found.tokens, wanted)
    assert (wanted == 0).any() and len(np.unique(wanted)) > 1 and found.lengths.tolist() == [6, 6]


def test_a_text_ends_at_its_end_mark(base, fond_of_0):
    model, (variables, whole) = base[0], fond_of_0
    plain = np.asarray(whole.tokens)
    end = int(plain[0, 2])
    found = generate(cached_hf(model), variables, TOKENS, LENGTHS, 6, ends=(end, 63))
    for row, before, length in zip(np.asarray(found.tokens), plain, np.asarray(found.lengths)):
        ended = np.isin(before, (end, 63))
        stop = int(np.argmax(ended)) if ended.any() else 6
        assert length == stop and (row[:stop] == before[:stop]).all() and (row[stop:] == NO_TOKEN).all()
    assert end_tokens(model) == (2,) and end_tokens(make_model(CONFIGS["llama"] | {"eos_token_id": [2, 5]})) == (2, 5)


def losses(model, chunk):
    """Mean loss of a batch from parameters: plain (chunk 0), or from the states by chunks."""

    def loss(params, targets):
        variables = {"params": params, "state": {}}
        outputs = model.apply(variables, TOKENS)[0]
        if not chunk:
            batch = Batch(jnp.asarray(TOKENS), targets, jnp.ones(2), jnp.arange(2))
            return answer_loss(outputs.logits, batch)
        head, mask = head_of(model, variables), targets != -1
        return chunked_cross_entropy(outputs.hidden["norm"], head, targets, mask, chunk=chunk)

    return loss


@pytest.mark.parametrize("name", ["gemma2", "phi"])  # tied with a soft cap; a head with a bias
def test_the_loss_by_chunks_is_the_plain_one_with_its_gradient(tmp_path, name):
    model, variables = load_hf(tiny_hf.write(tmp_path, name, **SMALL))
    targets = np.roll(TOKENS, -1, axis=1)
    targets[0, :3] = targets[1, 5:] = -1
    targets = jnp.asarray(targets)

    def both(chunk):
        loss = losses(model, chunk)
        run = lambda params: (loss(params, targets), jax.grad(lambda p: loss(p, targets).sum())(params))
        return quick_jit(run)(variables["params"])

    plain = both(0)
    for chunk in (3, 100):
        jax.tree.map(partial(np.testing.assert_allclose, atol=2e-6, rtol=1e-5), both(chunk), plain)


def test_the_loss_by_chunks_takes_less_memory():
    length, vocab = 512, 4096
    states, weights = jax.ShapeDtypeStruct((1, length, 32), jnp.float32), jax.ShapeDtypeStruct((vocab, 32), jnp.float32)
    targets = jnp.zeros((1, length), jnp.int32)

    def bytes_of(chunk):
        loss = lambda x, w: chunked_cross_entropy(x, Head(w), targets, targets == 0, chunk=chunk).sum()
        compiled = jax.jit(jax.grad(loss)).lower(states, weights).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert bytes_of(length) > length * vocab * 4  # the logits
    assert bytes_of(32) < length * vocab


def test_shapes_of_a_loss_that_do_not_fit_are_refused(base):
    head = head_of(*base)
    with pytest.raises(InputError, match="chunk is 0"):
        chunked_cross_entropy(jnp.ones((2, 3, 32)), head, jnp.ones((2, 3), jnp.int32), jnp.ones((2, 3), bool), chunk=0)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "phi3", "gemma3"])
def test_saved_weights_are_those_that_were_read(tmp_path, name):
    folder = tiny_hf.write(tmp_path / "from", name)
    (folder / "tokenizer.json").write_text("{}")
    model, variables = load_hf(folder)
    saved = save_hf(model, variables, tmp_path / "to", shard_bytes=20_000)
    assert len(list(saved.glob("*.safetensors"))) > 1 and (saved / "tokenizer.json").is_file()
    again, read = load_hf(saved)
    assert again.spec == model.spec
    jax.tree.map(np.testing.assert_array_equal, read, variables)
    save_hf(model, variables, saved)  # the shards before are not read any more
    assert not (saved / "model.safetensors.index.json").exists()
    theirs = files.load_file(folder / "model.safetensors")
    ours = files.load_file(saved / "model.safetensors")
    assert set(ours) == set(theirs)
    for tensor in theirs:
        np.testing.assert_array_equal(ours[tensor], theirs[tensor])


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "phi3"])
def test_saved_adapters_are_what_merging_adds(tmp_path, name):
    model, variables = load_hf(tiny_hf.write(tmp_path / "base", name, **({} if name == "gpt2" else SMALL)))
    _, adapted = adapters_of(model, variables, ("attention/q", "attention/v", "attention/out", "mlp"))
    folder = save_peft(model, adapted, tmp_path / "adapters")
    before = files.load_file(tmp_path / "base" / "model.safetensors")
    save_hf(model, merge(adapted), tmp_path / "merged")
    after = files.load_file(tmp_path / "merged" / "model.safetensors")
    saved = files.load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    for layer in config["target_modules"]:
        pair = (saved.pop(f"base_model.model.{layer}.lora_{x}.weight") for x in "BA")
        b, a = pair
        rank = config["rank_pattern"].get(layer, config["r"])
        assert len(a) == rank
        update = config["alpha_pattern"].get(layer, config["lora_alpha"]) / rank * (b @ a)
        update = update.T if config["fan_in_fan_out"] else update
        weight = f"{layer}.weight"
        np.testing.assert_allclose(after[weight] - before[weight], update, atol=1e-5)
        assert np.abs(update).max() > 0.1
    assert not saved


def test_variables_that_cannot_be_saved_say_why(base, tmp_path):
    model, variables = base
    _, adapted = adapters_of(model, variables)
    with pytest.raises(InputError, match="have no block0/attention/k/kernel of shape"):
        save_hf(model, adapted, tmp_path)
    members = adapted | {"params": jax.tree.map(lambda x: x[None], adapted["params"])}
    with pytest.raises(InputError, match="an axis of members"):
        save_peft(model, members, tmp_path)
    with pytest.raises(InputError, match="block0/attention/k/kernel is: use save_hf of lora.merge"):
        save_peft(model, variables, tmp_path)
