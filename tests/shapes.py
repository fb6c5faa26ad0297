"""Checks of the array shapes that functions promise in their annotations, by jaxtyping's import hook."""

import functools
from collections.abc import Callable

import jaxtyping
from beartype import beartype

KINDS = ("Float[", "Float64[", "Int[", "Integer[", "Real[", "Bool[", "Shaped[")  # of jaxtyping
CALLS = 50  # of each function that are looked at: simulations make many thousands, all alike


def watch(*modules: str) -> None:
    """Check the functions of these modules and of those under them, which are yet to be imported."""
    jaxtyping.jaxtyped = functools.partial(_few, jaxtyping.jaxtyped)  # which the hook decorates with
    jaxtyping.install_import_hook(list(modules), "shapes.checked")


def checked(function: Callable) -> Callable:
    """The function with its annotations of arrays checked in every call.

    All other annotations are for readers and pyright: what a caller may give wrongly the functions refuse themselves.
    """
    function.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if _of_array(hint)}
    return beartype(function)


def _of_array(hint: object) -> bool:
    """Whether an annotation, or the text of one, speaks of arrays."""
    return any(kind in str(hint) for kind in KINDS)


def _few(jaxtyped: Callable, *, typechecker: Callable) -> Callable:
    """The hook's decorator for functions that speak of arrays, in their first `CALLS` calls."""

    def decorate(function: Callable) -> Callable:
        if isinstance(function, type) or not any(map(_of_array, function.__annotations__.values())):
            return function
        slow, seen = jaxtyped(typechecker=typechecker)(function), [0]

        @functools.wraps(function)
        def call(*args, **named):
            seen[0] += 1
            return (slow if seen[0] <= CALLS else function)(*args, **named)

        return call

    return decorate
