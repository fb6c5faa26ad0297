"""What a call refuses, in a line."""

from collections.abc import Callable

import pytest

from unlearn_jax.errors import InputError


def refuses(words: str, call: Callable, /, *given, **settings) -> None:
    """The call ends with an `InputError` in which these words are found."""
    with pytest.raises(InputError, match=words):
        call(*given, **settings)
