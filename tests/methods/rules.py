"""One step of a language model's method on the table of `statements`, and each rule's gradient there by NumPy.

The requested batch has an answer cut to one token, so that sums over tokens, means over an answer and means over
examples differ, and a dead slot.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, log_softmax, softmax
from statements import PROBLEM, VOCABULARY, batch

from unlearn_jax.methods import METHODS
from unlearn_jax.types import Batches

SGD = (("momentum", 0.0), ("optimizer", "sgd"))
WEIGHTS = {"forget_weight": 0.7, "retain_weight": 0.4}


@functools.cache
def programs(name, static=()):
    """A method's jitted ``init`` and ``update``, numeric hyperparameters traced."""
    entry = METHODS[name]
    build = lambda hp: entry.build(PROBLEM, entry.static | dict(SGD + static), hp)
    return jax.jit(lambda hp, *given: build(hp).init(*given)), jax.jit(lambda hp, *given: build(hp).update(*given))


def settings(name, hp):
    """The method's numeric settings as arrays, the rate 1."""
    return {k: jnp.float32(v) for k, v in (METHODS[name].numeric | {"lr": 1.0} | hp).items()}


def tables():
    """Logits of the original and of a student some way off."""
    rng = np.random.default_rng(0)
    original = 2.0 * rng.normal(size=(VOCABULARY, VOCABULARY))
    return original.astype(np.float32), (original + rng.normal(size=original.shape)).astype(np.float32)


def requested():
    """Three statements, the second cut to one token, the third dead; then three retained ones."""
    asked, kept = batch([0, 1, 2]), batch([3, 4, 5])
    short = jnp.asarray(np.where(np.asarray(asked.inputs) == 7, -1, np.asarray(asked.targets)))  # no second token
    return asked._replace(targets=short, weight=jnp.array([1.0, 1.0, 0.0])), kept


def started(name, hp, static=(), key=1):
    """The method's state from the original, moved to the student."""
    original, student = tables()
    init, _ = programs(name, static)
    state = init(settings(name, hp), jax.random.key(key), {"params": {"rows": jnp.asarray(original)}, "state": {}})
    return state._replace(params={"rows": jnp.asarray(student)})


def stepped(name, hp, *, static=(), phase=0, state=None, given=None, key=1):
    """(state before, after, loss) of one update."""
    before = started(name, hp, static, key) if state is None else state
    asked, kept = requested() if given is None else given
    now = Batches(asked, kept, jnp.int32(phase), jnp.int32(0), jnp.float32(1.0), jnp.float32(0.0))
    return before, *programs(name, static)[1](settings(name, hp), jax.random.key(0), before, now)


def followed(name, hp, **given):
    """The gradient that one update of plain descent has followed; rows of the table by next tokens."""
    before, after, _ = stepped(name, hp, **given)
    return np.asarray(before.params["rows"], np.float64) - np.asarray(after.params["rows"], np.float64)


# --- the rules at the logits ---------------------------------------------------------------------------------------


def gathered(some, at_token, whole=None, mean=True):
    """(V, V) mean over live examples of ``whole(i) x (mean or sum over answer tokens of at_token(token, true))``."""
    found, inputs, targets = np.zeros((VOCABULARY, VOCABULARY)), np.asarray(some.inputs), np.asarray(some.targets)
    live = np.flatnonzero(np.asarray(some.weight))
    for i in live:
        due = np.flatnonzero(targets[i] >= 0)
        share = (1.0 if whole is None else whole(i)) / len(live) / (len(due) if mean else 1.0)
        for t in due:
            found[inputs[i, t]] += share * at_token(inputs[i, t], targets[i, t])
    return found


def answer(table, some, i):
    """Log-probability of an answer's tokens together."""
    inputs, targets = np.asarray(some.inputs)[i], np.asarray(some.targets)[i]
    due = np.flatnonzero(targets >= 0)
    return sum(log_softmax(table[inputs[t]])[targets[t]] for t in due), len(due)


class Rules:
    """Gradients of each method's loss at the student's logits, by hand."""

    def __init__(self, winner=None):
        self.original, self.student = (x.astype(np.float64) for x in tables())
        self.asked, self.kept = requested()
        self.winner = winner

    def p(self, token):
        return softmax(self.student[token])

    def rise(self, token, true):
        """Of log p(true)."""
        return np.eye(VOCABULARY)[true] - self.p(token)

    def retained(self, weight=0.4):
        return -weight * gathered(self.kept, self.rise)

    def ratio(self, some, i):
        return answer(self.student, some, i)[0] - answer(self.original, some, i)[0]

    def grad_diff(self):
        return 0.7 * gathered(self.asked, self.rise) + self.retained()

    def kl_retain(self):
        apart = lambda token, true: self.p(token) - softmax(self.original[token])
        return 0.7 * gathered(self.asked, self.rise) + 0.4 * gathered(self.kept, apart)

    def npo(self, beta=0.6):
        pull = lambda i: 2 * expit(beta * self.ratio(self.asked, i))
        return gathered(self.asked, self.rise, pull, mean=False) + self.retained()

    def simnpo(self, beta=1.5, delta=0.3):
        def pull(i):
            logp, length = answer(self.student, self.asked, i)
            return 2 * expit(-beta * (-logp / length - delta))

        return 0.7 * gathered(self.asked, self.rise, pull) + self.retained()

    def dpo_idk(self, beta=0.6):
        pull = lambda i: 2 * expit(beta * (self.ratio(self.asked, i) - self.ratio(self.winner, i)))
        lost = gathered(self.asked, self.rise, pull, mean=False) - gathered(self.winner, self.rise, pull, mean=False)
        return lost + self.retained()

    def undial(self, beta=3.0):
        goal = lambda token, true: softmax(self.original[token] - beta * np.eye(VOCABULARY)[true])
        return gathered(self.asked, lambda token, true: self.p(token) - goal(token, true))

    def wga(self, beta=0.5):
        return gathered(self.asked, lambda k, y: self.p(k)[y] ** beta * self.rise(k, y)) + self.retained()

    def satimp(self, beta1=2.0, beta2=0.5):
        weight = lambda k, y: self.p(k)[y] ** beta1 * (1 - self.p(k)[y]) ** beta2
        return 0.7 * gathered(self.asked, lambda k, y: weight(k, y) * self.rise(k, y)) + self.retained()

    def ceu(self):
        def pull(token, true):
            without = np.where(np.arange(VOCABULARY) == true, -np.inf, self.student[token])
            return self.p(token) - softmax(without)

        return gathered(self.asked, pull)

    def task_vector(self):
        return -gathered(self.asked, self.rise)

    def pdu(self, dual=3.0):
        def flat(token, true):
            z = self.student[token]
            return 2 * (z.max() - z.mean()) * (np.eye(VOCABULARY)[z.argmax()] - 1 / VOCABULARY)

        return gathered(self.asked, flat) + self.retained(dual)


GIVEN = {
    "grad_diff": WEIGHTS | {"bound": np.inf},
    "kl_retain": WEIGHTS | {"bound": np.inf},
    "npo": {"beta": 0.6, "retain_weight": 0.4},
    "simnpo": WEIGHTS | {"beta": 1.5, "delta": 0.3},
    "dpo_idk": {"beta": 0.6, "retain_weight": 0.4},
    "undial": {"beta": 3.0},
    "wga": {"beta": 0.5, "retain_weight": 0.4},
    "satimp": WEIGHTS | {"beta1": 2.0, "beta2": 0.5},
    "ceu": {},
    "task_vector": {},
    "pdu": {"dual": 3.0, "eps": 0.2},
}
