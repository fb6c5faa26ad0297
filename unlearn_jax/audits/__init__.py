"""Audits of whole populations: read back or from files of logits, measured with every metric, with null bands."""

from unlearn_jax.audits.audit import audit_logits, audit_study
from unlearn_jax.evaluation.engine import Precision

__all__ = ["Precision", "audit_logits", "audit_study"]
