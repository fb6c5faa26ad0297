"""Which platform a program is made for: this process's, unless it is lowered for another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax

_ASKED: ContextVar[str] = ContextVar("platform", default="")
_CONV: ContextVar[str] = ContextVar("convolutions", default="")


def platform() -> str:
    """``cpu``, ``gpu`` or ``tpu``: what code chooses by where platforms differ, read while a program is traced."""
    return _ASKED.get() or jax.default_backend()


def preferred_conv() -> str:
    """``conv`` or ``im2col`` where one was measured to be the faster, else ''; read while a program is traced."""
    return _CONV.get()


@contextmanager
def made_for(name: str, conv: str = "") -> Iterator[None]:
    """Trace for another platform while the block runs, '' = this process's, and with convolutions of one kind."""
    token, other = _ASKED.set("gpu" if name in ("cuda", "rocm") else name), _CONV.set(conv)
    try:
        yield
    finally:
        _ASKED.reset(token)
        _CONV.reset(other)
