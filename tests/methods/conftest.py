import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from steps import nudged

from unlearn_jax.population import compiling as programs
from unlearn_jax.population import run as runner
from unlearn_jax.population.plans import uniform_plan
from unlearn_jax.population.run import Options


@pytest.fixture(scope="module", autouse=True)
def quick(request):
    """Programs that compile soon, unless the slow tests were asked for as well (``-m ""``)."""
    quick = request.config.getoption("markexpr") == "not slow"
    with toy.quick_programs(quick), pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "SEGMENTS", 3)  # twenty calls a run are what takes the time of a run of twenty updates
        yield
    if len(toy.COMPILED) > (250 if quick else 0):  # a process may hold 65,530 memory maps, a program takes 50 or 100
        programs.COMPILED.clear()
        jax.clear_caches()
        toy.COMPILED.clear()


@functools.cache
def _memorised():
    population = toy.train(
        plan=uniform_plan(64, retain_batch=toy.RECIPE.batch),
        hp=toy.method()[2] | {"lr": 0.05},
        sets=toy.tables(8, kept=np.concatenate([toy.KEPT, toy.REQUESTED])),
        options=Options(chunk=8),
    )
    return population.variables


@pytest.fixture(scope="module")
def original():
    """Variables of eight members that know the kept examples and have memorised the request; read only."""
    return _memorised()


@pytest.fixture(scope="module")
def teacher(original):
    """One member that has memorised the request."""
    return jax.tree.map(jnp.asarray, toy.member(original, 0))


@pytest.fixture(scope="module")
def learned(teacher):
    """The parameters of that member."""
    return teacher["params"]


@pytest.fixture(scope="module")
def student(learned):
    """Parameters some way off the teacher's."""
    return nudged(learned)
