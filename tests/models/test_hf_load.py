"""Folders of weights: equal to transformers, and one sentence for what cannot be."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_hf
from tiny_hf import CONFIGS, TOKENS

from unlearn_jax.errors import InputError
from unlearn_jax.models.hf import FAMILIES, cached_hf, load_hf, make_model, spec_of
from unlearn_jax.models.hf.layers import frequencies
from unlearn_jax.models.hf.module import abstract_params
from unlearn_jax.models.hf.spec import Rope

files = pytest.importorskip("safetensors.numpy", reason="needs the extra unlearn_jax[lm]")
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
quick_jit = partial(jax.jit, compiler_options=QUICK)
FIRST = 3  # tokens of the prompt, the others come one by one


def whole_and_cached(model):
    """Logits of all positions, computed at once and token by token."""
    decoder, length = cached_hf(model), TOKENS.shape[1]

    def run(variables, tokens):
        first, cache = decoder.prefill(variables, tokens[:, :FIRST], length - FIRST)

        def body(carry, token):
            position, cache = carry
            logits, cache = decoder.step(variables, token, jnp.full(len(tokens), position, jnp.int32), cache)
            return (position + 1, cache), logits

        rest = jax.lax.scan(body, (jnp.int32(FIRST), cache), tokens[:, FIRST:].T)[1]
        return model.apply(variables, tokens)[0].logits, jnp.concatenate([first, jnp.moveaxis(rest, 0, 1)], axis=1)

    return quick_jit(run)


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_transformers(tmp_path, name):
    golden = np.load(tiny_hf.GOLDEN)[name]
    model, variables = load_hf(tiny_hf.write(tmp_path, name, shards=1 + len(name) % 2))
    whole, cached = whole_and_cached(model)(variables, jnp.asarray(TOKENS))
    assert whole.dtype == jnp.float32
    np.testing.assert_allclose(whole, golden, atol=1e-5, rtol=0)
    np.testing.assert_allclose(cached, golden, atol=1e-5, rtol=0)


def test_all_families_are_among_the_configurations():
    assert len(CONFIGS) == 12 and {config["model_type"] for config in CONFIGS.values()} == set(FAMILIES)


def test_both_forms_of_a_configuration_mean_the_same():
    old = CONFIGS["gemma3"]
    rope = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    }
    new = {name: entry for name, entry in old.items() if not name.startswith("rope_")} | {"rope_parameters": rope}
    assert spec_of(new) == spec_of(old)
    kinds = {name: entry for name, entry in CONFIGS["gemma2"].items()} | {"num_hidden_layers": 4}
    assert spec_of(kinds).windows == (3, 0, 3, 0)
    assert spec_of(CONFIGS["qwen2"] | {"use_sliding_window": False}).windows == (0, 0)


def test_llama3_scaling_passes_from_slow_to_fast():
    plain, scaled = frequencies(Rope(1e4), 64), frequencies(Rope(1e4, "llama3", 8.0, 1.0, 4.0, 256), 64)
    wavelength = 2 * np.pi / plain
    np.testing.assert_allclose(scaled[wavelength < 64], plain[wavelength < 64])
    np.testing.assert_allclose(scaled[wavelength > 256], plain[wavelength > 256] / 8)
    between = (wavelength > 64) & (wavelength < 256)
    assert between.any() and (scaled <= plain).all() and (np.diff(scaled) < 0).all()


def test_weights_are_read_one_by_one_and_converted_on_the_way(tmp_path):
    held = []
    model, variables = load_hf(
        tiny_hf.write(tmp_path, "phi3"), "bfloat16", place=lambda path, x: held.append(path) or x
    )
    leaves = jax.tree.leaves(variables["params"])
    assert len(held) == len(leaves) and all(isinstance(leaf, np.ndarray) for leaf in leaves)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("bfloat16")}
    outputs = jax.eval_shape(model.apply, variables, TOKENS)[0]
    assert outputs.logits.dtype == jnp.float32 and outputs.hidden["block1"].dtype == jnp.bfloat16
    started = abstract_params(model.spec, jnp.dtype("bfloat16"))
    of = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert of(started) == of(variables["params"])


def test_a_bfloat16_file_is_read(tmp_path):
    folder = tiny_hf.write(tmp_path, "llama")
    tensors = {name: x.astype(jnp.bfloat16) for name, x in files.load_file(folder / "model.safetensors").items()}
    files.save_file(tensors, folder / "model.safetensors")
    params = load_hf(folder)[1]["params"]
    theirs = tensors["model.layers.1.self_attn.q_proj.weight"]
    np.testing.assert_array_equal(params["block1"]["attention"]["q"]["kernel"], np.float32(theirs).T)


def test_names_without_their_first_part_are_found(tmp_path):
    folder = tiny_hf.write(tmp_path, "gpt2")
    whole = load_hf(folder)[1]
    tensors = files.load_file(folder / "model.safetensors")
    files.save_file({n.removeprefix("transformer."): x for n, x in tensors.items()}, folder / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, load_hf(folder)[1], whole)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "mamba"}, "unknown model family 'mamba': choose one of gemma, gemma2"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope scaling 'yarn' is not supported"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope scaling 'dynamic' is not supported"),
        ({"hidden_act": "relu6"}, "unknown activation 'relu6'"),
        ({"quantization_config": {"bits": 4}}, "the weights are quantized"),
        ({"hidden_size": 48}, r"model.embed_tokens.weight of .* has shape \[64, 32\] where .* asks for \[64, 48\]"),
        ({"num_hidden_layers": 3}, "has no tensor model.layers.2.self_attn.q_proj.weight"),
    ],
)
def test_what_cannot_be_loaded_says_why(tmp_path, changes, message):
    folder = tiny_hf.write(tmp_path, "llama")
    (folder / "config.json").write_text(json.dumps(CONFIGS["llama"] | changes))
    with pytest.raises(InputError, match=message):
        load_hf(folder)


def test_an_entry_that_is_needed_is_named():
    with pytest.raises(InputError, match=r"no entry 'hidden_size', which a llama model needs"):
        spec_of({name: entry for name, entry in CONFIGS["llama"].items() if name != "hidden_size"})


def test_files_that_are_missing_or_damaged_are_named(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        load_hf(tmp_path / "none")
    with pytest.raises(InputError, match="there is no config.json in"):
        load_hf(tmp_path)
    folder = tiny_hf.write(tmp_path / "shards", "llama", shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(InputError, match="lacks 1 of the 3 shards that its index names, first model-00002-of-00003"):
        load_hf(folder)
    whole = tiny_hf.write(tmp_path / "whole", "llama")
    (whole / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_hf(whole)
    (whole / "model.safetensors").unlink()
    with pytest.raises(InputError, match="there are no safetensors files"):
        load_hf(whole)
    (whole / "config.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        load_hf(whole)


def test_inputs_that_do_not_fit_say_so():
    model = make_model(CONFIGS["llama"])
    for tokens, message in ((np.zeros((1, 65), np.int32), "at most 64"), (np.zeros((1, 4)), "give token ids")):
        with pytest.raises(InputError, match=message):
            jax.eval_shape(model.init, jax.random.key(0), tokens)
