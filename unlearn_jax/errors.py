"""The one exception that means "the user can mend this"."""


class InputError(ValueError):
    """Bad input, said in one sentence that tells what to do next; scripts print it and exit with code 2."""


def choose(kind: str, name: str, valid) -> str:
    """``name`` if it is among ``valid``; otherwise an `InputError` that lists the valid names.

    Example:
        >>> choose("method", "scrub", ["retrain", "scrub"])
        'scrub'
    """
    if name not in valid:
        raise InputError(f"unknown {kind} '{name}': choose one of {', '.join(sorted(valid))}.")
    return name
