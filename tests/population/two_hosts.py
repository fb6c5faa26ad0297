"""One of two processes that train toy members together: python two_hosts.py ADDRESS INDEX FOLDER [deep]."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import toy

from unlearn_jax.errors import InputError
from unlearn_jax.population.evaluate import evaluate
from unlearn_jax.population.run import Options
from unlearn_jax.runtime import joining, multihost
from unlearn_jax.tasks import classification


def said(call):
    """The error of a call, as kind and text."""
    try:
        call()
    except (InputError, OSError) as error:
        return [type(error).__name__, str(error)]
    return None


def refuse():
    """What process 0 alone finds out."""
    raise InputError("process 0 found a fault.")


def fill_the_disk():
    """What process 0 alone suffers."""
    raise OSError(28, "no space")


def train(deep, store, progress=None):
    """Seven members from scratch, of which deep tests train a method too."""
    found = [toy.train(7, options=Options(chunk=4, store=store, label="toy", progress=progress))]
    if deep:
        fold, plan, hp = toy.method("finetune", (("epochs", 2), ("batch", 16)))
        options = Options(chunk=4, store=store, label="toy")
        found.append(toy.train(7, fold=fold, plan=plan, hp=hp, start=found[0].variables, options=options))
    return found


def main(address, index, folder, deep=False):
    """Train what is left of seven members, and leave what this process knows."""
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    joining.start(address, 2, index, patience=60)
    told = []
    with toy.quick_programs():
        found = train(deep, folder / "store", lambda *seen: told.append(seen))
        large = {}
        if deep:  # one member on both processes
            large = toy.train(2, options=Options(chunk=2, data_devices=8, loop="host")).variables
        scores = evaluate(toy.perceptron(), classification(), found[-1].variables, toy.stored(), width=8)
    known = {
        "devices": [jax.device_count(), jax.local_device_count()],
        "first": multihost.is_first(),
        "told": told,
        "value": multihost.from_process_zero(lambda: [index, "said"]),
        "errors": [
            said(lambda: multihost.from_process_zero(refuse)),
            said(lambda: multihost.from_process_zero(fill_the_disk)),
        ],
        "agree": [
            said(lambda: multihost.assert_equal("same", "thing")),
            said(lambda: multihost.assert_equal(str(index), "thing")),
        ],
    }
    raw = multihost.broadcast(np.array([-0.0, np.nan, 1.0]) if index == 0 else None, np.zeros(3))
    known["bits"] = raw.tobytes().hex()
    (folder / f"known{index}.json").write_text(json.dumps(known))
    leaves = jax.tree.leaves(([(one.variables, one.loss) for one in found], large))
    np.savez(folder / f"found{index}.npz", *leaves, scores.margin, scores.correct)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), "deep" in sys.argv)
