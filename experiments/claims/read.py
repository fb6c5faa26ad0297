"""The margins of a finished study as values and draws that the metrics take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlearn_jax.audits.replay import read_config
from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS
from unlearn_jax.metrics import Draws, Estimate, Values, combine, distance_draws, mean_draws
from unlearn_jax.results.tables import FIGURES, read_csv
from unlearn_jax.roles import REFERENCES
from unlearn_jax.runtime.archives import read_array
from unlearn_jax.studies.remedies import role_of
from unlearn_jax.studies.resolve import resolve

ALONE = ("rest", "test")  # splits whose examples are each their own cluster, the same ones for all requests
SALT = 1000  # between the seeds of draws of studies on other targets


class StoredLevel(NamedTuple):
    """The margins of one point of a study's axes."""

    margins: dict[str, np.ndarray]  # METHOD[+REMEDY][@SETTING] -> (members, columns), nats
    index: dict[str, np.ndarray]  # what each column is: split, request, cluster, dataset_id
    requests: int
    seed: int  # of the draws
    resamples: int
    run: Path


def read_level(run: Path, copies: int | None = None, gamma: float | None = None, salt: int = 0) -> StoredLevel:
    """The margins of a level of a finished study.

    Args:
        run: its folder.
        copies: of the level; None = the largest.
        gamma: identified share; None = the study has no such axis.
        salt: studies on other targets take other numbers, so that their draws are independent.

    Raises:
        InputError: no finished study, or none with such a level.
    """
    import pyarrow.parquet as pq

    config, _ = read_config(run)
    axes = resolve(config).axes
    wanted = next((p for p in reversed(axes) if copies in (None, p[0]) and gamma in (None, p[1])), None)
    if wanted is None:
        raise InputError(f"'{run}' has no level of {copies} copies at gamma {gamma}: run the claim again.")
    folder = run / "margins"
    if wanted != axes[-1]:
        named = f"copies={wanted[0]}" + ("" if wanted[1] is None else f",gamma={wanted[1]:.3f}")
        folder = folder / named
    index = pq.read_table(folder / "index.parquet").to_pydict()
    margins = {p.name[: -len(".npy")]: read_array(p).astype(np.float64) for p in sorted(folder.glob("*.npy"))}
    seed = config.seed + SALT * salt
    return StoredLevel(
        margins, {k: np.asarray(v) for k, v in index.items()}, config.requests, seed, config.resamples, run
    )


def values(level: StoredLevel, name: str, split: str = "forget", what: Callable | None = None) -> Values:
    """A population's values on a split, by request, with clusters and the role of its draws.

    Args:
        level: of a study.
        name: METHOD[+REMEDY][@SETTING].
        split: forget, similar, rest, test.
        what: of the margins; None = the margins themselves.
    """
    table = level.margins[name] if what is None else what(level.margins[name])
    request_of, blocks, clusters = np.arange(len(table)) % level.requests, [], []
    for request in range(level.requests):
        mine = level.index["split"] == split
        at = np.flatnonzero(mine if split in ALONE else mine & (level.index["request"] == request))
        blocks.append(table[request_of == request][:, at])
        clusters.append(at if split in ALONE else level.index["cluster"][at])
    return Values(blocks, role_in(name), clusters, shared=split in ALONE)


def first_request(level: StoredLevel) -> StoredLevel:
    """The level as a study of its first request alone, for figures that know one set of targets."""
    at = np.isin(level.index["request"], (-1, 0))
    margins = {name: table[:: level.requests, at] for name, table in level.margins.items()}
    return level._replace(margins=margins, index={k: v[at] for k, v in level.index.items()}, requests=1)


def role_in(name: str) -> str:
    """Whose member draws a population shares: its own if it is trained from scratch, else the originals'."""
    name = name.partition("@")[0]
    method, _, remedy = name.partition("+")
    if remedy:
        return role_of(method, remedy)
    return method if method in REFERENCES or "protocol" in METHODS[method].needs else "original"


def recognised(margins: np.ndarray) -> np.ndarray:
    """Whether the true label has a probability above one half: 1 or 0, NaN of a diverged member."""
    return np.where(np.isfinite(margins), margins > 0, np.nan)


def draws(level: StoredLevel, name: str, split: str = "forget", what: Callable | None = None) -> Draws:
    """Draws of the mean of `values`."""
    return mean_draws(values(level, name, split, what), seed=level.seed, resamples=level.resamples)


def ends(level: StoredLevel) -> list[Draws]:
    """Draws of the mean margin on the targets of original and oracle."""
    return [draws(level, name) for name in ("original", "oracle")]


def residual(level: StoredLevel, name: str) -> Estimate:
    """Signed residual influence."""
    return combine(share, draws(level, name), *ends(level))


def share(unlearned, original, oracle):
    """What is left of the originals' margin beyond the oracle's."""
    return (unlearned - oracle) / (original - oracle)


def distance(level: StoredLevel, name: str) -> Draws:
    """Draws of the residual distance."""
    compared = (values(level, one) for one in (name, "original", "oracle"))
    return distance_draws(*compared, seed=level.seed, resamples=level.resamples)


def itself(value):
    """For `combine` of one figure."""
    return value


def known_first(value: float) -> float:
    """For `min` and `sorted`: a figure that is not known comes last."""
    return value if np.isfinite(value) else np.inf


def populations(level: StoredLevel) -> list[str]:
    """Every population but the references."""
    return [name for name in level.margins if name not in REFERENCES]


def recorded(run: Path, metric: str, split: str = "", reference: str = "") -> dict[tuple, Estimate]:
    """A figure that the study itself recorded, by (copies, gamma, METHOD[+REMEDY][@SETTING]); requests pooled."""
    figures, number = {}, lambda text: float(text) if text else float("nan")
    read_config(run)  # refuses tables that are not those of the run
    for r in read_csv(run / "summary.csv"):
        if (r["request"], r["metric"], r["split"], r["reference"]) == ("all", metric, split, reference):
            name = r["method"] + (f"+{r['remedy']}" if r["remedy"] else "")
            name += f"@{r['setting']}" if r["setting"] else ""
            numbers = [number(r[k]) for k in FIGURES[:-1]]
            figures[int(r["copies"]), round(float(r["gamma"]), 3), name] = Estimate(*numbers, int(float(r["n"] or 0)))
    return figures
