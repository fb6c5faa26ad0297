import numpy as np
import pytest
import toy

from unlearn_jax.population.plans import uniform_plan
from unlearn_jax.population.run import Options


@pytest.fixture(scope="module", autouse=True)
def quick(request):
    """Programs that compile soon, unless the slow tests were asked for as well (``-m ""``)."""
    with toy.quick_programs(request.config.getoption("markexpr") == "not slow"):
        yield


@pytest.fixture(scope="module")
def original():
    """Variables of eight members that know the kept examples and have memorised the request; read only."""
    population = toy.train(
        plan=uniform_plan(64, retain_batch=toy.RECIPE.batch),
        hp=toy.method()[2] | {"lr": 0.05},
        sets=toy.tables(8, kept=np.concatenate([toy.KEPT, toy.REQUESTED])),
        options=Options(chunk=8),
    )
    return population.variables
