"""Data of the user's own in a .npz file: what is read, and what is refused in one sentence."""

import numpy as np
import pytest
from sentences import one_sentence

from unlearn_jax.data import load_dataset


def save(folder, **changes):
    """A good file, with some entries changed or (None) left out; its path."""
    rng = np.random.default_rng(0)
    held = {"x_train": rng.random((60, 6, 6)), "y_train": np.arange(60) % 3}
    held |= {"x_test": rng.random((30, 6, 6)), "y_test": np.arange(30) % 3} | changes
    np.savez(folder / "mine.npz", **{name: value for name, value in held.items() if value is not None})
    return str(folder / "mine.npz")


def test_a_file_of_four_arrays_is_a_data_set(tmp_path):
    dataset = load_dataset(save(tmp_path))
    assert (dataset.name, dataset.num_classes, dataset.flips) == ("mine.npz", 3, False)
    assert dataset.class_names == ("0", "1", "2") and dataset.train.inputs.shape == (60, 6, 6, 1)


@pytest.mark.parametrize("flips", [True, 1, np.asarray([True])])
def test_the_optional_entries(tmp_path, flips):
    names = ["a", "b", "c", "d"]
    dataset = load_dataset(save(tmp_path, flips=flips, num_classes=4, class_names=names))
    assert (dataset.num_classes, dataset.flips, dataset.class_names) == (4, True, tuple(names))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x_test": None, "y_test": None}, "lacks x_test, y_test: save"),
        ({"flips": [True, False]}, r"has flips of dtype bool and shape \(2,\): save one true or false"),
        ({"flips": "yes"}, "has flips of dtype <U3 and shape .*: save one true or false"),
        ({"flips": 2}, "has flips .*: save one true or false"),
        ({"flips": []}, "has flips .*: save one true or false"),
        ({"class_names": "abc"}, r"has class_names of shape \(\): save a list with one name for each class"),
        ({"class_names": [["a", "b", "c"]]}, r"has class_names of shape \(1, 3\): save a list"),
        ({"class_names": ["a", "b"]}, "3 classes but 2 class names: give one name for each class"),
        ({"num_classes": 3.5}, "has num_classes of dtype float64 .*: save one whole number"),
        ({"num_classes": [3, 3]}, r"has num_classes .* shape \(2,\): save one whole number"),
        ({"num_classes": 2}, "label 2 in row 2, outside 0..1: correct the label or num_classes"),
        ({"y_train": np.arange(59) % 3}, "60 images and 59 labels: give as many of each"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(tmp_path, changes, said):
    assert "ids" not in one_sentence(said, lambda: load_dataset(save(tmp_path, **changes)))


def test_what_is_no_such_file_says_so(tmp_path):
    (tmp_path / "text.npz").write_text("not arrays")
    for name, said in (("none", "no file .*: give the path of a .npz file"),
                       ("text", "cannot be read as .npz .*: save it with numpy.savez")):  # fmt: skip
        one_sentence(said, lambda name=name: load_dataset(str(tmp_path / f"{name}.npz")))
