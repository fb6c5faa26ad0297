import numpy as np
import plots
import pytest
import toy

from unlearn_jax.population import run as runner
from unlearn_jax.population.plans import uniform_plan
from unlearn_jax.population.run import Options


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Few calls a run: they are what takes the time of a run of twenty updates."""
    with toy.quick_programs(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "SEGMENTS", 2)
        yield


@pytest.fixture(scope="package")
def original():
    """Variables of four members that know all training examples; read only."""
    everything = np.concatenate([toy.KEPT, toy.REQUESTED])
    return toy.train(
        plots.MEMBERS,
        plan=uniform_plan(64, retain_batch=toy.RECIPE.batch),
        hp=toy.method()[2] | {"lr": 0.05},
        data=plots.stored(),
        sets=toy.tables(plots.MEMBERS, kept=everything),
        options=Options(chunk=plots.MEMBERS),
    ).variables
