"""How many members go into a program when memory is short."""

import jax
import jax.numpy as jnp
import pytest
import toy

from unlearn_jax.errors import InputError
from unlearn_jax.population import memory, run
from unlearn_jax.population.run import Options


def test_fewer_members_go_into_a_program_where_memory_is_short(trained, monkeypatch):
    widths, needed = [], memory.needed_bytes
    monkeypatch.setattr(memory, "needed_bytes", lambda *parts: needed(*parts) or pytest.fail("no account of memory"))
    chunk = lambda program, job, mesh, common, at, *rest: (
        widths.append(len(at)) or rows(program, job, mesh, common, at, *rest)
    )
    rows = run._train_rows
    monkeypatch.setattr(run, "_train_rows", chunk)
    whole = memory.free_bytes()
    toy.train(options=Options())
    assert widths == [8] and whole > 2**20
    most = needed(*toy.program(toy.method()[0])[:3])
    monkeypatch.setattr(memory, "free_bytes", lambda: 0.9 * most / memory.SHARE)
    widths.clear()
    half = toy.train(options=Options())
    assert widths == [4, 4]
    toy.close(half.variables, trained.variables)
    widths.clear()
    toy.train(options=Options(chunk=8))
    assert widths == [8]  # what was asked for is done
    monkeypatch.setattr(memory, "free_bytes", lambda: 10.0)
    with pytest.raises(InputError, match="one member needs .* GB of memory and 9e-09 are free: give a smaller --batch"):
        toy.train(options=Options())


@pytest.mark.parametrize(
    "width, groups, each, free, widths",
    [
        (64, 1, 10, 1000, [64]),
        (64, 1, 10, 500, [64, 32]),
        (64, 1, 10, 100, [64, 8]),
        (24, 2, 10, 100, [24, 8]),
        (48, 4, 10, 40, [48, 16]),
        (64, 1, 10, 15, [64, 1]),
    ],
)
def test_widths_that_are_tried_are_few_and_multiples_of_the_groups(width, groups, each, free, widths, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: free / memory.SHARE)
    tried = []
    made, taken = memory.fitting(width, groups, lambda n: tried.append(n) or n, lambda n: n / groups * each)
    assert tried == widths and made == taken == widths[-1]


def test_memory_that_grows_faster_than_the_members_is_tried_again(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 100 / memory.SHARE)
    assert memory.fitting(64, 1, lambda n: n, lambda n: 0 if n == 1 else 101)[1] == 1


def test_a_program_says_what_it_needs_and_the_host_what_is_free():
    x = jax.ShapeDtypeStruct((1000, 1000), jnp.float32)
    program = jax.jit(lambda x: (x @ x) @ x).lower(x).compile()
    assert 2 * 4e6 <= memory.needed_bytes(program) <= 6 * 4e6
    assert 2**20 < memory.free_bytes() < 2**50


def test_without_an_account_of_free_memory_everything_fits(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    assert 2**20 < memory.free_bytes() < 2**50
    monkeypatch.delattr("os.sysconf")
    assert memory.free_bytes() == float("inf")
