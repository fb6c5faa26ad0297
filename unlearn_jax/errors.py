"""The one exception that means "the user can mend this"."""

import difflib


class InputError(ValueError):
    """Bad input, said in one sentence that tells what to do next; scripts print it and exit with code 2."""


def choose(kind: str, name: str, valid) -> str:
    """``name`` if it is among ``valid``; otherwise an `InputError` that lists the valid names, and which is nearest.

    Example:
        >>> choose("method", "scrub", ["retrain", "scrub"])
        'scrub'
    """
    if name not in valid:
        near = difflib.get_close_matches(str(name), sorted(valid), 1, 0.75)
        hint = f"; '{near[0]}' is nearest" if near else ""
        raise InputError(f"unknown {kind} '{name}': choose one of {', '.join(sorted(valid))}{hint}.")
    return name
