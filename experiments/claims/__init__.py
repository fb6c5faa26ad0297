"""Claims of the field about unlearning, each with its studies, its estimator and the rule of its verdict."""

from __future__ import annotations

from . import (
    graddiff_cancels,
    headline,
    klom_bias,
    memorization,
    methods_miss,
    proximity,
    random_requests,
    residual_copies,
    ssd_partial,
)
from .claim import Claim

_ALL = (
    headline, residual_copies, methods_miss, random_requests, proximity, memorization, ssd_partial, graddiff_cancels,
    klom_bias,
)  # fmt: skip
CLAIMS: dict[str, Claim] = {module.CLAIM.name: module.CLAIM for module in _ALL}
