import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlearn_jax.data.augment import augmentation
from unlearn_jax.errors import InputError

DTYPES = {"crop": np.float32, "crop_flip": np.uint8}


def picture(dtype):
    """One 16x16 image in which every pixel has its own value."""
    return np.arange(256).reshape(16, 16).astype(dtype)


@functools.cache
def views(name, seed):
    """One image seen 64 times, (64, 16, 16): bytes by crop_flip, floats by crop."""
    image = picture(DTYPES[name])[None, :, :, None]
    images = jnp.asarray(np.broadcast_to(image, (64, 16, 16, 1)))
    return np.asarray(_program(name)(jax.random.key(seed), images)[..., 0])


@functools.cache
def _program(name):
    return jax.jit(augmentation(name))


@functools.cache
def windows(dtype):
    """What a crop may show, as bytes."""
    padded = np.pad(picture(dtype), 2, mode="reflect")
    return {padded[i : i + 16, j : j + 16].tobytes() for i in range(5) for j in range(5)}


def test_none_is_no_function_and_an_unknown_name_lists_the_valid_ones():
    assert augmentation("none") is None
    with pytest.raises(InputError, match="unknown augmentation 'mixup': choose one of crop, crop_flip, none"):
        augmentation("mixup")


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize(
    "dtype, shape",
    [(np.uint8, (6, 16, 16, 3)), (np.float32, (3, 28, 20, 1)), (np.uint8, (2, 4, 4, 1)), (np.float32, (1, 8, 8, 1))],
)
def test_shape_and_dtype_are_kept(name, shape, dtype):
    images = jax.ShapeDtypeStruct(shape, dtype)
    found = jax.eval_shape(augmentation(name), jax.random.key(0), images)
    assert found.shape == shape and found.dtype == dtype


def test_a_crop_is_a_window_of_the_reflected_image():
    found = {view.tobytes() for view in views("crop", 0)}
    assert found <= windows(np.float32)
    assert len(found) > 12  # of 25, in 64 draws


def test_a_flip_mirrors_about_half_of_the_crops():
    found = views("crop_flip", 0)
    assert found.dtype == np.uint8
    plain = np.array([view.tobytes() in windows(np.uint8) for view in found])
    mirrored = np.array([np.ascontiguousarray(view[:, ::-1]).tobytes() in windows(np.uint8) for view in found])
    assert (plain ^ mirrored).all() and 18 <= mirrored.sum() <= 46


@pytest.mark.parametrize("name", DTYPES)
def test_views_follow_the_key_and_differ_between_images(name):
    again = views.__wrapped__(name, 0)
    np.testing.assert_array_equal(views(name, 0), again)
    assert (views(name, 1) != again).any() and len({view.tobytes() for view in again}) > 12
