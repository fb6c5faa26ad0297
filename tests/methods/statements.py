"""A language model for the tests: a table of next-token logits by token, statements with answers of two tokens.

What a method may move can be read off the table's rows: the gradient of a loss at the logits of a position is that at
the row of the token there.
"""

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods.support.common import Recipe, TrainSpec
from unlearn_jax.tasks import value_task
from unlearn_jax.types import Batch, Model, Outputs

VOCABULARY = 14
VALUES = np.array([[[4, 5], [4, 6], [6, 5]], [[7, 8], [7, 9], [9, 8]]])  # of two attributes, two tokens each
REFUSAL = np.array([12, 13])
CUES = [2, 3]  # the tokens after which an answer is due; 1, 10 and 11 are prompt, 0 is padding
SAID = [*CUES, 4, 6, 7, 9, 12]  # what is said last before a token of an answer, of other answers or of a refusal
STATEMENTS = [
    [1, 10, 2, 4, 5, 0], [10, 1, 3, 7, 8, 0], [1, 2, 4, 6, 0, 0], [11, 10, 1, 3, 9, 8], [11, 2, 6, 5, 0, 0],
    [1, 3, 7, 9, 0, 0],
]  # fmt: skip


def table():
    """The model: logits of the next token by token alone."""
    init = lambda key, inputs: {"params": {"rows": jax.random.normal(key, (VOCABULARY, VOCABULARY))}, "state": {}}

    def apply(variables, inputs, key=None, train=False):
        logits = variables["params"]["rows"][inputs]
        return Outputs(logits, logits.mean(axis=1), {"block0": logits}), variables["state"]

    return Model(init, apply)


PROBLEM = TrainSpec(
    table(), value_task(VALUES, REFUSAL), jax.ShapeDtypeStruct((1, 6), jnp.int32), 3, Recipe(batch=4, steps=4)
)


def batch(rows):
    """Some of the statements."""
    inputs = np.asarray(STATEMENTS, np.int32)[rows]
    targets = np.full_like(inputs, -1)
    for i, row in enumerate(inputs):
        at = int((row != 0).sum()) - 3
        targets[i, at : at + 2] = row[at + 1 : at + 3]
    return Batch(jnp.asarray(inputs), jnp.asarray(targets), jnp.ones(len(rows)), jnp.asarray(rows, jnp.int32))
