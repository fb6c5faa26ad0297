"""The shapes in annotations are checked while the tests run."""

import jaxtyping
import numpy as np
import pytest
import shapes
from jaxtyping import Float64

from unlearn_jax.metrics import ridge


def mean(table: Float64[np.ndarray, "members n"], whole: bool = True) -> Float64[np.ndarray, " n"]:
    return table.mean(axis=0) if whole else table.mean(axis=1)


def test_an_array_of_another_shape_or_dtype_is_told():
    checked = jaxtyping.jaxtyped(typechecker=shapes.checked)(mean)
    assert checked(np.zeros((2, 3))).shape == (3,)
    with pytest.raises(jaxtyping.TypeCheckError, match="the return value of"):
        checked(np.zeros((2, 3)), whole=False)
    for wrong in (np.zeros(3), np.zeros((2, 3), np.float32)):
        with pytest.raises(jaxtyping.TypeCheckError, match="the parameters of"):
            checked(wrong)


def test_the_package_is_imported_with_its_shapes_checked():
    assert hasattr(ridge.ridge_fit, "__wrapped__") and not hasattr(ridge.retrain_residual, "__wrapped__")
