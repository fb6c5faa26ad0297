"""Which way of running members is the fastest on these devices: measured once, and remembered beside the store.

Members side by side or one after another, convolutions native or as matrix products: which is faster depends on the
device, the network's widths and the number of members, and the rules in `sharding.choose_axis` and
`models.layers.resolve_conv` are those of two machines. Here every way trains for a few updates. It changes nothing that
a member becomes beyond rounding, so the choice is no part of what a study is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.population import checkpoint
from unlearn_jax.population.folders import mine
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.plans import Plan
from unlearn_jax.population.program import Fold, Stored
from unlearn_jax.population.run import Options, chunk_width, run_population
from unlearn_jax.runtime import disk, multihost
from unlearn_jax.runtime.archives import read_json
from unlearn_jax.runtime.platform import made_for
from unlearn_jax.types import Model

NAME = "ways.json"  # in the store
CONVS = ("", "conv", "im2col")
UPDATES = 4  # that are timed, after as many that are not


class Way(NamedTuple):
    """How members are run."""

    axis: str  # vmap | map
    conv: str  # conv | im2col | '' where the network has no convolution that is left to the library


def ways(model: Model, example: jax.ShapeDtypeStruct) -> list[Way]:
    """The ways that differ for a model: twice as many where it convolves as the library chooses."""
    convs = ("im2col", "conv") if _text(model, example, "im2col") != _text(model, example, "conv") else ("",)
    return [Way(axis, conv) for axis in ("vmap", "map") for conv in convs]


def seconds_of(way: Way, fold: Fold, plan: Plan, hp: dict[str, float], data: Stored, width: int, options) -> float:
    """Seconds of ``plan`` for ``width`` members after compiling; infinity where they do not fit into memory."""
    rows = [np.arange(len(data.targets), dtype=np.int32)] * width
    every = {name: np.full(width, value) for name, value in hp.items()}
    options = Options(
        chunk=options.chunk, axis=way.axis, conv=way.conv, loop=options.loop, data_devices=options.data_devices
    )
    call = lambda seed: run_population(
        fold, plan, data, make_tables(rows), member_keys(seed, "measured", width), {}, hp=every, options=options
    )
    try:
        call(0)
        return width * call(1).seconds
    except (InputError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, InputError) or "RESOURCE_EXHAUSTED" in str(error):
            return float("inf")
        raise


def fastest(
    model: Model,
    example: jax.ShapeDtypeStruct,
    training: tuple[Fold, Plan, dict[str, float]],
    data: Stored,
    members: int,
    options: Options,
    say: Callable[[str], None] = lambda text: None,
) -> Options:
    """The options with the fastest way of training ``members`` members in them.

    Args:
        model: the network, for the ways that there are.
        example: inputs of a batch of one.
        training: (fold, plan, numeric settings) of a training from scratch; its first updates are run.
        data: examples to train on.
        members: as many as a study has; as many as one program takes are run.
        options: chunk, loop, data devices; a store, if the choice is to be remembered.
        say: called with what was measured.

    Returns:
        ``options`` with `Options.axis` and `Options.conv` set.

    Raises:
        InputError: not one way fits into memory.
    """
    fold, plan, hp = training
    plan, width = plan.first(UPDATES), chunk_width(members, options)
    device = jax.devices()[0]
    circumstances = [device.device_kind, jax.device_count(), jax.__version__, width, options.loop, options.data_devices]
    key = checkpoint.digest_of(json.dumps([*circumstances, str(plan.retain_batch)]), _text(model, example))[:32]
    path = None if options.store is None else Path(options.store) / NAME
    choice = multihost.from_process_zero(lambda: _earlier_choices(path).get(key))
    if choice is None:
        seconds = {way: seconds_of(way, fold, plan, hp, data, width, options) for way in ways(model, example)}
        best = Way(*multihost.from_process_zero(lambda: list(min(seconds, key=lambda way: seconds[way]))))
        if seconds[best] == float("inf"):
            raise InputError("no way of running members fits into memory: give a smaller --chunk, --batch or model.")
        say(
            "measured: " + ", ".join(f"{_name(way)} {1e3 * t / UPDATES:.3g} ms an update" for way, t in seconds.items())
        )
        choice = {"axis": best.axis, "conv": best.conv, "width": width, "device": device.device_kind}
        choice |= {"seconds": {_name(way): t for way, t in seconds.items()}}
        multihost.from_process_zero(lambda: _remember(path, key, choice))
    return options._replace(axis=choice["axis"], conv=choice["conv"])


def _name(way: Way) -> str:
    return " ".join(part for part in way if part)


def _text(model: Model, example: jax.ShapeDtypeStruct, conv: str = "") -> str:
    """The network's program, which says what it computes, with convolutions of one kind."""
    with made_for("", conv):
        variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), example)
        return jax.jit(lambda v, x: model.apply(v, x)[0].logits).lower(variables, example).as_text()


def _earlier_choices(path: Path | None) -> dict:
    """What was measured before; nothing where the file is not there or cannot be read."""
    try:
        choices = read_json(path) if path is not None and path.exists() else {}
    except (OSError, ValueError):
        return {}
    fit = lambda one: isinstance(one, dict) and one.get("axis") in ("vmap", "map") and one.get("conv") in CONVS
    return {key: one for key, one in choices.items() if fit(one)} if isinstance(choices, dict) else {}


def _remember(path: Path | None, key: str, choice: dict) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_earlier_choices(path) | {key: choice}, indent=1)
        disk.write_whole(path, lambda part: part.write_text(text, encoding="utf-8"), mine())
