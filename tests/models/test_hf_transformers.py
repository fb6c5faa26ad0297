"""Against transformers itself; needs the extra ``lm-test``. With REMAKE=1 the golden logits are written anew."""

import os

import numpy as np
import pytest
import tiny_hf

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


def test_golden_logits_are_those_of_transformers(tmp_path):
    made = {name: their_logits(tiny_hf.write(tmp_path / name, name)) for name in tiny_hf.CONFIGS}
    if os.environ.get("REMAKE"):
        np.savez_compressed(tiny_hf.GOLDEN, **made)
    golden = np.load(tiny_hf.GOLDEN)
    assert set(golden) == set(made)
    for name in made:
        np.testing.assert_allclose(golden[name], made[name], atol=2e-6, rtol=0, err_msg=name)
