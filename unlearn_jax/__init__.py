"""What influence is left when a sample is deleted and similar samples stay.

The public names; parts that a script does not use are not imported (no command line, plotting or data set tools).
"""

import unlearn_jax.runtime.quiet  # noqa: F401  # before jaxlib is loaded
from unlearn_jax.data import DATASETS, from_arrays, load_dataset
from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS
from unlearn_jax.models import MODELS, build_model
from unlearn_jax.own.auditing import audit
from unlearn_jax.own.call import unlearn
from unlearn_jax.own.listing import unlearnable
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.run import run_study
from unlearn_jax.types import Batch, Batches, Method, Model, Outputs, Population, Task

__version__ = "0.2.0"
__all__ = [
    "DATASETS",
    "METHODS",
    "MODELS",
    "Batch",
    "Batches",
    "InputError",
    "Method",
    "Model",
    "Outputs",
    "Population",
    "StudyConfig",
    "Task",
    "audit",
    "build_model",
    "from_arrays",
    "load_dataset",
    "run_study",
    "unlearn",
    "unlearnable",
]
