import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit

from unlearn_jax.errors import InputError
from unlearn_jax.models.decode import cached_decoder, greedy
from unlearn_jax.models.transformer import decoder

VOCAB, PROMPT, NEW, MEMBERS = 13, 5, 6, 2
SMALL = dict(width=16, depth=2, heads=2)
MODEL, CACHED = decoder(VOCAB, (PROMPT,), **SMALL), cached_decoder(VOCAB, (PROMPT,), **SMALL)
TOKENS = np.array([[3, 1, 4, 1, 5], [2, 7, 0, 0, 0], [6, 12, 11, 0, 0]], np.int32)
LENGTHS = np.array([5, 2, 3], np.int32)


@pytest.fixture(scope="module")
def members():
    """Two members whose likeliest token would often be the padding."""
    shapes = jax.eval_shape(lambda x: MODEL.init(jax.random.key(0), x), jnp.asarray(TOKENS))
    rng = np.random.default_rng(0)
    draw = lambda s: np.float32(rng.normal(size=(MEMBERS, *s.shape)) * (1.5 / np.sqrt(s.shape[0])))
    variables = jax.tree.map(draw, shapes)
    variables["params"]["embed"][:, 0] *= 4
    return variables


all_members = jax.vmap(lambda v, tokens: greedy(CACHED, v, tokens, LENGTHS, NEW), in_axes=(0, None))


@pytest.fixture(scope="module")
def found(members):
    return np.asarray(all_members(members, TOKENS))


def test_greedy_equals_full_recomputation(members, found):
    run = quick_jit(jax.vmap(lambda v, t: MODEL.apply(v, t)[0].logits))
    rows, texts = np.arange(len(TOKENS)), np.zeros((MEMBERS, len(TOKENS), PROMPT + NEW), np.int32)
    texts[:, :, :PROMPT], wanted, padding_first = TOKENS, [], False
    for i in range(NEW):
        logits = np.asarray(run(members, texts))[:, rows, LENGTHS + i - 1]
        padding_first |= bool((logits.argmax(-1) == 0).any())
        top = np.sort(logits[..., 1:], axis=-1)
        assert (top[..., -1] - top[..., -2]).min() > 1e-4  # no ties that rounding could turn
        wanted.append(logits[..., 1:].argmax(-1) + 1)
        texts[:, rows, LENGTHS + i] = wanted[-1]
    assert padding_first and len(np.unique(wanted)) > 3
    assert found.shape == (MEMBERS, len(TOKENS), NEW) and found.dtype == np.int32
    np.testing.assert_array_equal(found, np.stack(wanted, axis=-1))


def test_rows_and_members_are_independent_and_what_follows_a_prompt_is_not_read(members, found):
    other = TOKENS.copy()
    other[0], other[1, 2:] = 9, 8
    again = np.asarray(all_members(members, other))
    np.testing.assert_array_equal(again[:, 1:], found[:, 1:])
    assert (again[:, 0] != found[:, 0]).any()
    one = greedy(CACHED, jax.tree.map(lambda x: x[1], members), TOKENS, LENGTHS, 1)
    np.testing.assert_array_equal(one, found[1, :, :1])


def test_the_same_settings_give_the_same_decoder():
    assert cached_decoder(VOCAB, [PROMPT], **SMALL) is cached_decoder(VOCAB, (PROMPT,), **SMALL)
    with pytest.raises(InputError, match="unknown decoder option 'layers': choose one of depth, dtype"):
        cached_decoder(VOCAB, (PROMPT,), layers=2)


@pytest.mark.parametrize(
    "lengths, new, message",
    [
        ([5, 2], 1, "one length a prompt"),
        ([5, 2, 3], 0, "at least 1"),
        ([6, 2, 3], 1, "lengths go from 2 to 6: give 1 to 5"),
    ],
)
def test_bad_requests_say_what_to_do(lengths, new, message):
    with pytest.raises(InputError, match=message):
        greedy(CACHED, {}, TOKENS, np.array(lengths), new)
