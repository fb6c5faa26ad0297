"""What a study is at its default size: model, recipe and axes of each data set."""

from __future__ import annotations

from unlearn_jax.methods.support.common import Recipe


class Preset:
    """Model and recipe of each data set; sizes are for the whole training set."""

    IMAGE = Recipe(lr=2e-3, weight_decay=0.05, steps=2000, batch=128, schedule="cosine")
    BY_DATASET = {
        "digits": ("mlp", Recipe()),
        "mnist": ("convnet", IMAGE),
        "fashion_mnist": ("convnet", IMAGE),
        "cifar10": ("resnet9", IMAGE._replace(steps=3000, batch=256, augment="crop_flip")),
        "cifar100": ("resnet9", IMAGE._replace(steps=4000, batch=256, augment="crop_flip")),
        "facts": ("decoder", Recipe(lr=3e-3, steps=200, batch=32)),
        "facts_large": ("decoder", Recipe(lr=3e-3, steps=1000, batch=32)),
    }
    TEXT = Recipe(steps=400, batch=64)
    BY_TEXT_MODEL = {
        "encoder": Recipe(lr=1e-3, steps=600, batch=32),
        "minilm": Recipe(lr=1e-4, steps=300, batch=32),
    }
    STUDY = {"similarity": "near", "copies": "0,1,4,8", "targets": "atypical", "members": 32}
    LARGE = {"train_size": 8000, "test_size": 2000}
    STUDY_BY_DATASET = {
        **dict.fromkeys(("facts", "facts_large"), {"copies": "0,1,4", "targets": "random", "members": 8}),
        "wordnet_glosses": LARGE,
        "ag_news_subset": LARGE,
        "imdb_reviews": LARGE,
    }
    NATURAL_COSINE = {
        "image": 0.9,
        "text": 0.5,
        "cifar10": 0.95,
        "fashion_mnist": 0.99,
    }  # by kind of data, or by data set
    NATURAL = {"copies": "0,1,2"}  # more neighbours have the plainest documents alone, on which models hardly differ
    STUDY_BY_MODEL = {
        "encoder": {"copies": "0,1,4", "members": 8},
        "minilm": {"copies": "0,1,4", "targets": "random", "members": 8},
    }
