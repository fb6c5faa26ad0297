"""Strict mode for every test: four devices, no implicit promotion, no key reuse, warnings are errors."""

import contextlib
import ctypes
import gc
import os
import sys
from importlib.metadata import version
from pathlib import Path

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # a core a worker

import jax
import shapes

shapes.watch("unlearn_jax.metrics", "unlearn_jax.influence", "unlearn_jax.evaluation")  # before the package is imported

gc.set_threshold(50_000, 20, 100)  # tracing makes objects by the million, few of which are garbage
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_key_reuse", True)

QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if version("jaxlib").startswith("0.10."):  # XLA ends the process at a flag that it does not know
    QUICK += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    QUICK += " --xla_cpu_prefer_vector_width=128"


def pytest_configure(config):
    """Compile soon rather than well, unless the slow tests were asked for as well (``-m ""``)."""
    if config.getoption("markexpr") == "not slow":
        os.environ["XLA_FLAGS"] += " " + QUICK


def pytest_collection_finish(session):
    """Never look for garbage among what was imported."""
    gc.collect()
    gc.freeze()


MAPS, STATM = Path("/proc/self/maps"), Path("/proc/self/statm")
MANY, FULL = 20_000, 45_000  # of the 65,530 memory maps that Linux gives a process; a program takes 5 to 100
PAGE = os.sysconf("SC_PAGE_SIZE")
LARGE = 900_000_000  # bytes of memory, from which on programs are let go between modules
_ENDED = [0]


def pytest_runtest_teardown(item, nextitem):
    """Let go of compiled programs before there is no map left for the next one: XLA would end the process.

    Between modules if possible, for within one a test may count what is compiled again.
    """
    _ENDED[0] += 1
    last = nextitem is None or nextitem.path != item.path
    if not (last or _ENDED[0] % 20 == 0) or not MAPS.exists():
        return
    held = int(STATM.read_text().split()[1]) * PAGE
    if MAPS.read_bytes().count(b"\n") > (MANY if last else FULL) or (last and held > LARGE):
        let_go()


def let_go():
    """Give what compiled programs hold back to the machine."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "unlearn_jax"]:
        for held in list(vars(sys.modules[name]).values()):
            if callable(getattr(held, "cache_clear", None)):
                held.cache_clear()
    for name, programs in (("compiling", "COMPILED"), ("compiling", "LOWERED"), ("evaluate", "_PROGRAMS")):
        module = sys.modules.get(f"unlearn_jax.population.{name}")
        if module is not None:
            getattr(module, programs).clear()
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
