"""What a study is by default, beyond what the data set's entry says: axes, and recipes of networks that read text."""

from __future__ import annotations

from unlearn_jax.types import Recipe


class Preset:
    """Fields of `StudyConfig` where a configuration and the data set leave them open; later ones win."""

    STUDY = {"similarity": "near", "copies": "0,1,4,8", "targets": "atypical", "members": 32}
    STUDY_BY_MODEL = {
        "encoder": {"copies": "0,1,4", "members": 8},
        "minilm": {"copies": "0,1,4", "targets": "random", "members": 8},
    }
    NATURAL = {"copies": "0,1,2"}  # more neighbours have the plainest documents alone, on which models hardly differ
    BY_TEXT_MODEL = {
        "encoder": Recipe(lr=1e-3, steps=600, batch=32),
        "minilm": Recipe(lr=1e-4, steps=300, batch=32),
    }
