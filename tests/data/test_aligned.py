"""Images in their best pose, against scipy's own turning and shifting."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from unlearn_jax.data.similarity.aligned import ANGLE, SHIFT, STEPS, aligned_cosine, posed
from unlearn_jax.data.similarity.copies import pixel_embedding


def images(count, seed=0, side=8):
    """Smooth random images (count, side, side, 2)."""
    noise = np.random.default_rng(seed).random((count, side, side, 2))
    return scipy.ndimage.gaussian_filter(noise, (0, 1, 1, 0)).astype(np.float32)


def by_scipy(image, angle, down, across):
    """A pose by an affine map about the centre, bilinear, edge pixels repeated."""
    turn, side = np.deg2rad(ANGLE * angle), np.asarray(image.shape[:2])
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = (side - 1) / 2
    offset = centre + SHIFT * side * np.array([down, across]) - matrix @ centre
    return np.stack(
        [scipy.ndimage.affine_transform(c, matrix, offset, order=1, mode="nearest") for c in np.moveaxis(image, 2, 0)],
        axis=2,
    )


@pytest.mark.parametrize("pose", [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, -0.5), (-0.6, 0.3, 0.8)])
def test_a_pose_equals_scipys(pose):
    image = images(1)[0]
    found = posed(jnp.asarray(image), *map(jnp.float32, pose))
    np.testing.assert_allclose(found, by_scipy(image, *pose), atol=1e-5)


def test_the_best_pose_counts_and_none_is_worse_than_no_pose():
    queries, others = images(3), images(4, seed=1)
    found, along = aligned_cosine(queries, others), np.linspace(-1, 1, STEPS)
    best = np.full((3, 4), -np.inf)
    for angle in along:
        for down in along:
            for across in along:
                turned = np.stack([by_scipy(q, angle, down, across) for q in queries]).astype(np.float32)
                best = np.maximum(best, pixel_embedding(turned) @ pixel_embedding(others).T)
    np.testing.assert_allclose(found, best, atol=1e-4)
    assert (found >= pixel_embedding(queries) @ pixel_embedding(others).T - 1e-5).all()


def test_a_moved_copy_is_found_where_plain_pixels_fail():
    image = np.zeros((1, 16, 16, 1), np.float32)
    image[0, 6:8, 4:12] = 1.0
    moved = np.roll(image, 2, axis=1)  # an eighth of the side
    assert aligned_cosine(image, moved)[0, 0] > 0.99 > 0.6 > (pixel_embedding(image) @ pixel_embedding(moved).T)[0, 0]
    as_bytes = (255 * image).astype(np.uint8), (255 * moved).astype(np.uint8)
    np.testing.assert_allclose(aligned_cosine(*as_bytes), aligned_cosine(image, moved), atol=1e-5)
