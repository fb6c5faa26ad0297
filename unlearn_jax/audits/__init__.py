"""Audits of whole populations: read back, measured, told with intervals and null bands."""
