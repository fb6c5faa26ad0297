"""Variables -> a folder that transformers loads, and adapters -> a folder that PEFT loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.models.hf.folder import INDEX
from unlearn_jax.models.hf.load import HFModel
from unlearn_jax.models.hf.module import abstract_params
from unlearn_jax.models.hf.tensors import Tensor, join, leaf_of, tensors_of
from unlearn_jax.types import Variables

SHARD_BYTES = 4_000_000_000  # about as much as a file holds
BESIDE = (  # what goes with the weights, copied where the original's folder has it
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
)


def save_hf(model: HFModel, variables: Variables, folder: str | Path, *, shard_bytes: int = SHARD_BYTES) -> Path:
    """Write one member's weights as safetensors with config.json, and the tokenizer's files of the folder it is from.

    Args:
        model: of `load_hf`.
        variables: of one member with all weights; of adapters: `lora.merge` them first.
        folder: made if need be; files of the same names are replaced.
        shard_bytes: about as much as one file holds; more is written as shards with an index.

    Returns:
        The folder.

    Raises:
        InputError: variables of another model, of adapters or with an axis of members.
    """
    folder, params = _made(folder), variables["params"]
    shapes = abstract_params(model.spec, np.float32)
    for path, leaf in jax.tree.flatten_with_path(shapes)[0]:
        found = leaf_of(params, tuple(entry.key for entry in path))
        if found is None or isinstance(found, dict) or np.shape(found) != leaf.shape:
            name = "/".join(entry.key for entry in path)
            raise InputError(
                f"the variables have no {name} of shape {leaf.shape}: give one member's whole weights, lora.merge of "
                f"adapters."
            )
    dtype = str(leaf_of(params, ("embed",)).dtype)
    config = {name: entry for name, entry in model.config.items() if name not in ("torch_dtype", "dtype")}
    _write_json(folder / "config.json", config | {"dtype": dtype})
    if model.folder and model.folder.resolve() != folder.resolve():
        for name in BESIDE:
            if (model.folder / name).is_file():
                shutil.copyfile(model.folder / name, folder / name)
    _write_tensors(folder, tensors_of(model.spec, shapes), params, shard_bytes)
    return folder


def _write_tensors(folder: Path, tensors: list[Tensor], params, shard_bytes: int) -> None:
    """The weights in as many files as they need, one file in memory at a time."""
    shards, size = [[]], 0
    for tensor in tensors:
        more = sum(leaf_of(params, path).nbytes for path in tensor.parts)
        if shards[-1] and size + more > shard_bytes:
            shards, size = [*shards, []], 0
        shards[-1].append(tensor)
        size += more
    (folder / INDEX).unlink(missing_ok=True)
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    names = names if len(shards) > 1 else ["model.safetensors"]
    for name, shard in zip(names, shards):
        arrays = {t.name: join(t, [np.asarray(leaf_of(params, path)) for path in t.parts]) for t in shard}
        _save(arrays, folder / name)
    if len(shards) > 1:
        (folder / "model.safetensors").unlink(missing_ok=True)
        where = {tensor.name: name for name, shard in zip(names, shards) for tensor in shard}
        total = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})


def save_peft(model: HFModel, adapters: Variables, folder: str | Path) -> Path:
    """Write one member's adapters in PEFT's format.

    Adapters of layers that the family keeps in one tensor become one adapter of it, of the sum of their ranks.

    Args:
        model: the base, of `load_hf`.
        adapters: of one member, variables of ``lora.lora(model, ...)``; a ``shared`` is not read.
        folder: made if need be.

    Returns:
        The folder.

    Raises:
        InputError: no adapters, an axis of members, or layers that were trained whole.
    """
    folder, params = _made(folder), adapters["params"]
    check_adapters(params)
    scale = float(adapters["state"]["scale"])
    shapes, arrays, ranks = abstract_params(model.spec, np.float32), {}, {}
    for tensor in tensors_of(model.spec, shapes):
        pairs = [leaf_of(params, (*path[:-1],)) for path in tensor.parts if path[-1] == "kernel"]
        if not any(pairs):
            continue
        a, b = _joined(tensor, pairs, [leaf_of(shapes, path).shape[-1] for path in tensor.parts])
        layer = tensor.name.removesuffix(".weight")
        ranks[layer] = len(a)
        arrays |= {
            f"base_model.model.{layer}.lora_{n}.weight": np.ascontiguousarray(x) for n, x in (("A", a), ("B", b))
        }
    rank = max(ranks.values())
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(model.folder) if model.folder else None,
        "r": rank,
        "lora_alpha": scale * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": model.spec.family == "gpt2",
        "inference_mode": True,
        "target_modules": sorted(ranks),
        "rank_pattern": {layer: r for layer, r in ranks.items() if r != rank},
        "alpha_pattern": {layer: scale * r for layer, r in ranks.items() if r != rank},
    }
    _write_json(folder / "adapter_config.json", config)
    _save(arrays, folder / "adapter_model.safetensors")
    return folder


def check_adapters(params) -> None:
    """Raise `InputError` unless these are one member's adapters and nothing else."""
    leaves = jax.tree.flatten_with_path(params)[0]
    whole = sorted({"/".join(e.key for e in path) for path, _ in leaves if path[-1].key not in ("a", "b")})
    if whole or not leaves:
        has = f"{whole[0]} is" if whole else "there are none"
        raise InputError(f"only adapters can be saved for PEFT and {has}: use save_hf of lora.merge for whole layers.")
    if any(leaf.ndim != 2 for _, leaf in leaves):
        raise InputError("the adapters have an axis of members: give one member's, jax.tree.map(lambda x: x[0], ...).")


def _joined(tensor: Tensor, pairs: list[dict | None], widths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """A (R, in) and B (out, R) of a tensor whose layers have these adapters; R is the sum of their ranks."""
    ranks = [pair["a"].shape[1] if pair else 0 for pair in pairs]
    a = np.concatenate([np.asarray(pair["a"]).T for pair in pairs if pair])
    parts = [np.zeros((sum(ranks), width), np.float32) for width in widths]
    for part, pair, stop, rank in zip(parts, pairs, np.cumsum(ranks), ranks):
        if pair:
            part[stop - rank : stop] = np.asarray(pair["b"])
    return a, join(tensor._replace(transposed=True), parts)


def _made(folder: str | Path) -> Path:
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _save(arrays: dict[str, np.ndarray], path: Path) -> None:
    """A safetensors file."""
    try:
        from safetensors.numpy import save_file  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError("folders of weights need the package safetensors: pip install 'unlearn_jax[lm]'.") from None
    save_file(arrays, path, metadata={"format": "pt"})
