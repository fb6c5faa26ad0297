"""Against transformers itself; needs the extra ``lm-test``. With REMAKE=1 the golden logits are written anew."""

import os

import jax
import numpy as np
import pytest
import tiny_hf

from unlearn_jax.models.hf import load_hf, save_hf, save_peft
from unlearn_jax.models.lora import lora

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def their_logits(folder):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model, told = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    with torch.no_grad():
        return model.eval()(torch.tensor(tiny_hf.TOKENS, dtype=torch.long)).logits.numpy()


def ours(model, variables):
    return np.asarray(jax.jit(lambda v: model.apply(v, tiny_hf.TOKENS)[0].logits)(variables))


def changed(variables):
    """Other weights of the same shapes."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + np.float32(0.05 * rng.normal(size=x.shape)), variables)


@pytest.mark.parametrize("name", tiny_hf.CONFIGS)
def test_transformers_loads_what_is_saved(tmp_path, name):
    model, variables = load_hf(tiny_hf.write(tmp_path / "from", name))
    variables = changed(variables)
    theirs = their_logits(save_hf(model, variables, tmp_path / "to"))
    difference = np.abs(theirs - ours(model, variables)).max()
    print(f"{name}: saved and loaded by transformers, largest difference of logits {difference:.1e}")
    assert difference <= 1e-5


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "phi3", "gemma3"])
def test_peft_loads_the_adapters_that_are_saved(tmp_path, name):
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    folder = tiny_hf.write(tmp_path / "base", name)
    model, variables = load_hf(folder)
    made = lora(model, rank=2, alpha=6.0, matches=("attention/q", "attention/v", "attention/out", "mlp"))
    adapted = changed(made.init(jax.random.key(0), tiny_hf.TOKENS)) | {"shared": variables}
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    theirs = peft.PeftModel.from_pretrained(base, str(save_peft(model, adapted, tmp_path / "adapters"))).eval()
    with torch.no_grad():
        logits = theirs(torch.tensor(tiny_hf.TOKENS, dtype=torch.long)).logits.numpy()
    difference = np.abs(logits - ours(made, adapted)).max()
    print(f"{name}: adapters loaded by PEFT, largest difference of logits {difference:.1e}")
    assert difference <= 1e-5 and np.abs(logits - np.load(tiny_hf.GOLDEN)[name]).max() > 0.1


def test_golden_logits_are_those_of_transformers(tmp_path):
    made = {name: their_logits(tiny_hf.write(tmp_path / name, name)) for name in tiny_hf.CONFIGS}
    if os.environ.get("REMAKE"):
        np.savez_compressed(tiny_hf.GOLDEN, **made)
    golden = np.load(tiny_hf.GOLDEN)
    assert set(golden) == set(made)
    for name in made:
        np.testing.assert_allclose(golden[name], made[name], atol=2e-6, rtol=0, err_msg=name)
