"""Strict mode for every test: four devices, no implicit promotion, no key reuse, warnings are errors."""

import gc
import os
from importlib.metadata import version

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # a core a worker

import jax

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
