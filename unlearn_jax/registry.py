"""Registries whose entries are built in, put in by the user, or offered by installed packages.

A package offers a method, remedy, data set, model or metric under an entry point of the group of that registry
(docs/extending.md). Only the names of what is installed are read, and only when a name is asked for that is not built
in; what stands under a name is imported when it is used. So a broken package breaks nothing but what asks for it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any, NamedTuple

from unlearn_jax.errors import InputError, choose

USED: dict[str, str] = {}  # version of each package whose entries this process has used, for records
WARNED: set[str] = set()  # what has been said once
REGISTRIES: list[Registry] = []


class Registry(dict):
    """What is built in or put in, by name; a name that is not is looked for in installed packages.

    Iterating, counting and copying are of what is built in or put in, so that a group such as ``all`` means the same on
    every machine; ``in``, ``[name]`` and ``get`` know installed packages too.

    Args:
        entries: the built-in ones.
        noun: what an entry is called in messages.
        group: of entry points.
        fault: (name, what a package offers) -> what is wrong with it, '' for nothing.
        reserved: names that no package may give, because they mean something else; `reserve` adds to them.

    Raises:
        InputError: on ``[name]``, for what a package offers and cannot be used, with the package's name.
    """

    def __init__(
        self,
        entries: dict,
        noun: str,
        group: str,
        fault: Callable[[str, object], str],
        reserved: Iterable[str] = (),
    ):
        super().__init__(entries)
        self.noun, self.group, self.fault, self.reserved = noun, group, fault, [lambda: reserved]
        REGISTRIES.append(self)

    def __missing__(self, name):
        points = self._offered().get(name)
        if not points:
            raise KeyError(name)
        if said := self.refused(name):
            raise InputError(said)
        return _load(self, points[0])

    def __contains__(self, name) -> bool:
        return super().__contains__(name) or (name in self._offered() and not self.refused(name))

    def reserve(self, names: Callable[[], Iterable[str]]) -> None:
        """No package may give an entry one of the names that ``names`` returns when it is asked."""
        self.reserved.append(names)

    def get(self, name, default=None):
        """The entry, or ``default``."""
        return self[name] if name in self else default  # noqa: SIM401

    def names(self) -> list[str]:
        """Every name that may be asked for, without importing anything."""
        return [*self, *(n for n in self._offered() if not dict.__contains__(self, n) and n in self)]

    def pick(self, name: str, *more: str) -> str:
        """``name`` if it is one of the registry's or of ``more``.

        Warns once where a package offers a name that is built in: the built-in one is used.

        Raises:
            InputError: unknown, listing the valid names, or refused, naming the package.
        """
        said = "" if name in more else self.refused(name)
        if said and not super().__contains__(name):
            raise InputError(said)
        if said and said not in WARNED:
            WARNED.add(said)
            warnings.warn(f"{said} The one that was there is used.", stacklevel=3)
        return choose(self.noun, name, [*self.names(), *more])

    def pick_all(self, names: str, groups: dict[str, list[str]]) -> list[str]:
        """Names from a comma-separated list of names and of ``groups``, each once; `InputError` as of `pick`."""
        listed = [name.strip() for name in names.split(",") if name.strip()]
        chosen = [groups[n] if n in groups else [self.pick(n, *groups)] for n in listed]
        return list(dict.fromkeys(sum(chosen, [])))

    def refused(self, name: str) -> str:
        """Why what packages offer under a name is refused before it is imported, '' where it is not."""
        points = self._offered().get(name, ())
        who = " and ".join(f"'{_package(point)[0]}'" for point in points)
        said = f"package{'s' * (len(points) > 1)} {who} offer{'s' * (len(points) == 1)} the {self.noun} '{name}'"
        if points and super().__contains__(name):
            return f"{said}, which is there already: give it another name, or uninstall the package."
        if points and not (name.isascii() and name.isidentifier()):
            return f"{said}: rename it in letters, digits and underscores."
        if points and any(name in names() for names in self.reserved):
            return f"{said}, a name that means something else here: give it another one, or uninstall the package."
        return f"{said}: uninstall all of them but one." if len(points) > 1 else ""

    def _offered(self) -> dict[str, tuple]:
        return _points(self.group, tuple(sys.path))


class Offer(NamedTuple):
    """What an installed package offers."""

    noun: str  # method, remedy, data set, model or metric
    name: str
    package: str
    version: str
    fault: str  # why it cannot be used, a sentence; '' = it can


def installed() -> list[Offer]:
    """Everything that installed packages offer; each is imported, to see whether it can be used."""
    found = []
    for registry in REGISTRIES:
        for name, points in registry._offered().items():
            said = registry.refused(name)
            try:
                said = said or bool(_load(registry, points[0])) * ""
            except InputError as error:
                said = str(error)
            found += [Offer(registry.noun, name, *_package(point), said) for point in points]
    return found


@functools.lru_cache(maxsize=32)
def _points(group: str, path: tuple) -> dict[str, tuple[metadata.EntryPoint, ...]]:
    """Entry points of a group by name, of the packages that are installed on a search path."""
    del path  # `metadata` reads it itself; it is here so that a longer one is searched again
    found: dict[str, tuple] = {}
    for point in metadata.entry_points(group=group):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def _package(point: metadata.EntryPoint) -> tuple[str, str]:
    """Name and version of the package that an entry point is of."""
    return (point.dist.name, point.dist.version) if point.dist else (point.value.partition(".")[0], "")


def _load(registry: Registry, point: metadata.EntryPoint):
    """What a package offers, imported and looked at."""
    package, version = _package(point)
    offers = f"package '{package}' offers the {registry.noun} '{point.name}'"
    try:
        found = point.load()
    except Exception as error:  # whatever a stranger's module raises
        why = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        said = f"{offers}, but importing '{point.value}' fails ({type(error).__name__}: {why})"
        raise InputError(f"{said}: repair or uninstall the package.") from error
    if said := registry.fault(point.name, found):
        raise InputError(f"{offers}, but '{point.value}' {said}: repair or uninstall the package.")
    USED[package] = version
    return found


def callable_with(*given, **named) -> Callable[[str, object], str]:
    """For ``fault``: refuses what cannot be called with these arguments."""

    def fault(name: str, found: object) -> str:
        del name
        if not callable(found):
            return f"is of type {type(found).__name__}, not a function"
        try:
            inspect.signature(found).bind(*given, **named)
        except (TypeError, ValueError) as error:
            return f"cannot be called as the library calls it ({error})"
        return ""

    return fault


def named(kind: type, *also: Callable[[Any], str]) -> Callable[[str, object], str]:
    """For ``fault``: refuses what is not of a type, or has another name, or a fault that one of ``also`` finds."""

    def fault(name: str, found: Any) -> str:
        if not isinstance(found, kind):
            return f"is of type {type(found).__name__}, not {kind.__name__}"
        if found.name != name:
            return f"calls itself '{found.name}'"
        return next(filter(None, (look(found) for look in also)), "")

    return fault


def entries_in(package: str, path: Iterable[str], attribute: str, order: Iterable[str], others: Iterable[str]) -> dict:
    """By file of a package, but for ``others``, what stands there under one name: ``order`` first, then by name."""
    files = sorted(info.name for info in pkgutil.iter_modules(path) if not info.ispkg and info.name not in others)
    entries = {name: getattr(importlib.import_module(f"{package}.{name}"), attribute) for name in files}
    return {name: entries[name] for name in dict.fromkeys([*order, *files])}
