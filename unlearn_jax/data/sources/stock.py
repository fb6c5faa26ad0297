"""What TFDS says of the stock image sets (version, shape, labels), and what it does not say."""

from __future__ import annotations

from typing import NamedTuple


class Stock(NamedTuple):
    """One stock set."""

    version: str  # the TFDS version that is prepared
    title: str  # the name of the builder class
    shape: tuple[int, int, int]
    labels: dict[str, int]  # feature -> number of classes
    rows: tuple[int, int]  # train, test
    flips: bool
    numbered: bool  # whether an `id` feature like train_00016 is stored
    class_names: tuple[str, ...]


_DIGITS = tuple("0123456789")
_CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_RGB = (32, 32, 3)
_FINE = {"coarse_label": 20, "label": 100}  # in the order of the bytes of a record
STOCK = {
    "mnist": Stock("3.0.1", "MNIST", (28, 28, 1), {"label": 10}, (60000, 10000), False, False, _DIGITS),
    "fashion_mnist": Stock("3.0.1", "FashionMNIST", (28, 28, 1), {"label": 10}, (60000, 10000), True, False, _CLOTHES),
    "cifar10": Stock("3.0.2", "Cifar10", _RGB, {"label": 10}, (50000, 10000), True, True, _OBJECTS),
    "cifar100": Stock("3.0.2", "Cifar100", _RGB, _FINE, (50000, 10000), True, True, ()),
}
