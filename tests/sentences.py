"""Bad input is refused in one sentence."""

import pytest

from unlearn_jax.errors import InputError


def one_sentence(said, call):
    """The call is refused in one sentence that ``said`` matches; the sentence."""
    with pytest.raises(InputError, match=said) as caught:
        call()
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text
    return text
