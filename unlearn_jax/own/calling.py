"""How a model is called: in training or evaluation mode, with which random streams, and what it answers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax

from unlearn_jax.errors import InputError
from unlearn_jax.types import Array, Model, Outputs

MODES = {  # arguments by which modules take their mode, and their values in training
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}
KEYS = ("key", "rng", "rngs")  # names by which a function is given its random key
ASKS = {
    "features": "reads the features before the last layer, which this model does not return: "
    "let it return (logits, features), or choose another method",
    "init": "draws new weights or asks for the order of the layers, which this model cannot tell: "
    "give init= (of an NNX module a function of rngs, of an Equinox module of a key, else of a key and inputs), or "
    "choose another method",
}


class Missing(InputError):
    """What a method asks of a model that the model does not have; ``what`` is a key of `ASKS`."""

    def __init__(self, what: str):
        super().__init__(f"the method {ASKS[what]}.")
        self.what = what


class LogitsOnly(NamedTuple):
    """`Outputs` of a model that returns nothing but logits: asking for features says so."""

    logits: Array

    @property
    def features(self) -> Array:
        """Not there."""
        raise Missing("features")

    @property
    def hidden(self) -> None:
        """None, as of every model without named states."""
        return None


class Call(NamedTuple):
    """Keyword arguments that a model takes beside its inputs."""

    modes: tuple[str, ...]
    key: str = ""  # name of the random key, '' = none

    def given(self, train: bool, key: Array | None = None) -> dict[str, Any]:
        """The keyword arguments of one call."""
        modes = {name: MODES[name] == train for name in self.modes}
        if not self.key or key is None:
            return modes
        return modes | {self.key: {"dropout": key} if self.key == "rngs" else key}


def call_of(function: Callable, positional: int) -> Call:
    """The keyword arguments by which a function takes its mode and a key.

    Args:
        function: of ``positional`` arguments and perhaps these.
        positional: arguments that it is given by place.

    Raises:
        InputError: it takes further arguments that have no default.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return Call(())
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [p for p in parameters if p.kind not in variadic]
    rest = [p for p in named[positional:] if p.kind is not inspect.Parameter.POSITIONAL_ONLY]
    for p in rest:
        if p.name not in (*MODES, *KEYS) and p.default is inspect.Parameter.empty:
            raise InputError(
                f"the model also takes '{p.name}', which unlearning knows nothing of: wrap it in a function of "
                f"(params, inputs)."
            )
    names = [p.name for p in rest]
    return Call(tuple(n for n in names if n in MODES), next((n for n in names if n in KEYS), ""))


def answered(found: Any, features: Array | None = None) -> Outputs:
    """What a model returned as `Outputs`: logits alone, (logits, features), or a dictionary with these names.

    Of logits alone it is `LogitsOnly`, which stands in for them.

    Raises:
        InputError: anything else.
    """
    if isinstance(found, dict) and "logits" in found:
        found = (found["logits"], found["features"]) if "features" in found else found["logits"]
    several: Any = found
    if isinstance(found, (tuple, list)) and found and all(hasattr(x, "shape") for x in found[:2]):
        return Outputs(*several[:2]) if len(several) > 1 else answered(several[0])
    if not hasattr(found, "shape"):
        raise InputError(
            f"the model returns {type(found).__name__}: let it return logits (B, K), or (logits, features (B, D))."
        )
    logits: Any = found
    return cast(Outputs, LogitsOnly(logits)) if features is None else Outputs(logits, features)


@functools.lru_cache(maxsize=32)
def model_of(function: Callable, init: Callable | None, whole: bool, named: bool) -> Model:
    """`Model` of a function; one object for the same function, so that its programs are reused.

    Args:
        function: ``(params, inputs) -> logits``, see `answered`; with a keyword of `MODES` or `KEYS` if it likes.
        init: ``(key, inputs) -> params`` or none.
        whole: it takes all variables, ``{"params", ...}``, of which it changes none.
        named: its params are a dictionary.
    """
    how = call_of(function, 2)

    def params_of(variables):
        if whole:
            return {"params": variables["params"], **variables["state"]}
        return variables["params"] if named else variables["params"]["all"]

    def apply(variables, inputs, key=None, train=False):
        return answered(function(params_of(variables), inputs, **how.given(train, key))), variables["state"]

    def start(key, inputs):
        if init is None:
            raise Missing("init")
        drawn = init(key, inputs)
        if whole:
            drawn = dict(drawn)
            return {"params": drawn.pop("params"), "state": drawn}
        return {"params": drawn if named else {"all": drawn}, "state": {}}

    return Model(start, apply)


def shapes(model: Model, variables: Any, inputs: jax.ShapeDtypeStruct) -> Outputs:
    """Shapes of what a model answers to inputs, in evaluation mode.

    Raises:
        InputError: the model cannot be called with these variables and inputs.
    """
    from flax.errors import FlaxError

    try:
        return jax.eval_shape(lambda v, x: model.apply(v, x)[0], variables, inputs)
    except InputError:
        raise
    except (FlaxError, TypeError, ValueError, KeyError, AttributeError) as wrong:
        reason = " ".join(str(wrong).split("(http")[0].split())[:200].rstrip(" .")
        raise InputError(
            f"the model cannot be applied to inputs {inputs.dtype} {inputs.shape} with these params ({reason}): "
            f"give params and all other collections of the trained model, and inputs as it was trained on."
        ) from None
