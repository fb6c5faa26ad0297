"""What a study leaves beside its records: margins with their index, pictures, and how similar the copies are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unlearn_jax.data.kinds import KINDS, Made
from unlearn_jax.data.similarity.copies import cosine
from unlearn_jax.data.sources.facts import decoded
from unlearn_jax.data.sources.facts_words import ATTRIBUTES
from unlearn_jax.data.text.measures import tfidf_cosine, token_edit_distance
from unlearn_jax.data.text.readers import embeddings, minilm_folder
from unlearn_jax.errors import InputError
from unlearn_jax.population.evaluate import features
from unlearn_jax.results.recorder import write_json
from unlearn_jax.runtime.disk import write_array, write_arrays, write_whole

SHOWN_TARGETS, SHOWN_COPIES = 10, 8  # of the gallery
MEASURED = 256  # tokens of a text that MiniLM is given to measure similarity


def write_margins(setup, level, outcomes, folder: Path) -> None:
    """``METHOD.npy`` (members x shown examples) and ``index.parquet`` saying what each column is.

    Of language models also ``METHOD.tokens.npz`` with what is said of each token of the answers, (members, shown
    examples, tokens): ``logprob``, ``mean`` and ``std`` of the log-probability under the model, ``likeliest`` under
    teacher forcing, ``greedy``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for outcome in outcomes:
        name = outcome.name + (f"@{outcome.setting}" if outcome.setting else "")

        write_array(folder / f"{name}.npy", outcome.scores.margin)
        if outcome.scores.spoken is not None:
            tokens = outcome.scores.spoken._asdict() | {"greedy": outcome.scores.greedy}
            write_arrays(folder / f"{name}.tokens.npz", tokens)
    bench, shown = setup.bench, setup.shown
    split = np.full(len(bench.targets), "", object)
    for rows in level.rows:
        for name in ("validation", "test", "rest"):
            at = getattr(rows, name)
            split[at[split[at] == ""]] = name
    for rows in level.rows:
        for name in ("forget", "forget_copies", "similar", "test_similar"):
            split[getattr(rows, name)] = name
    split[split == ""] = "unused"
    columns = {
        "row": np.arange(len(shown)),  # the column of the margins
        "stored_row": shown,
        "split": split[shown].astype(str),
        "request": bench.request[shown],
        "cluster": bench.cluster[shown],
        "copy": bench.copy[shown],
        "target": bench.labels[shown],
        "dataset_id": bench.dataset_id[shown],
    }
    write_whole(folder / "index.parquet", lambda path: pq.write_table(pa.table(columns), path))


def shown_targets(bench) -> np.ndarray:
    """Rows of the targets that the report shows."""
    return np.flatnonzero((bench.origin == 0) & (bench.request == 0))[:SHOWN_TARGETS]


def write_answers(setup, outcomes, path: Path) -> None:
    """What each population answers on the targets that the report shows: for each target in turn, how many members of
    a population give which answer, {population: [{answer: members}]}."""
    targets = shown_targets(setup.bench)
    values = [list(ATTRIBUTES.values())[label].values for label in setup.bench.labels[targets]]
    column, counts = np.searchsorted(setup.shown, targets), {}
    members = np.arange(setup.config.members) % setup.config.requests == 0
    for outcome in outcomes:
        answers = outcome.scores.scores[members][:, column].argmax(axis=2)
        pairs = [np.unique(one, return_counts=True) for one in answers.T]
        counts[outcome.label] = [{v[n]: int(c) for n, c in zip(*pair)} for v, pair in zip(values, pairs)]
    write_json(path, counts)


def write_gallery(setup, path: Path) -> None:
    """Pictures, or texts, of some targets with their copies, for the report."""
    bench, targets = setup.bench, shown_targets(setup.bench)
    shown = min(SHOWN_COPIES, max(setup.study.copies))
    images = []
    for row in targets:
        mine = np.flatnonzero((bench.origin == 1) & (bench.cluster == bench.cluster[row]) & (bench.copy <= shown))
        images.append(np.concatenate([[row], mine]))
    names, labels = np.asarray(setup.dataset.class_names, dtype=str), bench.labels[targets]
    if bench.kind == "image":
        samples = {"images": bench.inputs[np.stack(images)], "each_label": bench.labels[np.stack(images)]}
    else:
        samples = {"texts": np.asarray([words_of(setup, rows) for rows in images], dtype=str)}
    write_arrays(path, samples | {"labels": labels, "class_names": names}, compressed=False)


def words_of(setup, rows) -> list[str]:
    """The texts of stored examples, which are of a kind that has words."""
    bench = setup.bench
    if bench.texts is not None:
        return bench.texts[rows].tolist()
    return decoded(setup.dataset.about, bench.inputs[rows])


def measure_similarity(setup, level, original) -> dict:
    """How like their sources the copies are: cosines of pixels, or of words, and of the original models' features; for
    texts also the token edit distance, and the cosine by MiniLM where its weights are there."""
    bench = setup.bench
    sources = np.concatenate([rows.forget for rows in level.rows])
    row_of = {int(bench.cluster[row]): row for row in sources}
    copies = np.concatenate([np.concatenate([rows.forget_copies, rows.similar]) for rows in level.rows])
    source = np.asarray([row_of[int(c)] for c in bench.cluster[copies]])
    embed = lambda rows: features(setup.problem.model, original.population.variables, bench.inputs[rows])
    return likeness(setup, copies, source) | {"embedding": _quantiles(cosine(embed(copies), embed(source)))}


def likeness(setup, copies: np.ndarray, source: np.ndarray) -> dict[str, dict[str, float]]:
    """The measures of `measure_similarity` that need no model, of stored rows and those that they are like."""
    bench = setup.bench
    plain = lambda rows: KINDS[bench.kind].embedding(Made(bench.inputs[rows], bench.targets[rows]), slice(None))
    measures = _measured_texts(setup, copies, source) if bench.kind != "image" else {}
    if bench.kind != "text":
        measures["words" if bench.kind == "facts" else "pixel"] = cosine(plain(copies), plain(source))
    return {name: _quantiles(values) for name, values in measures.items()}


def _measured_texts(setup, copies: np.ndarray, source: np.ndarray) -> dict[str, np.ndarray]:
    """Measures of the words of copies against those of their sources; weights of words as in the rest of the data."""
    others = np.flatnonzero((setup.bench.origin == 0) & (setup.bench.request < 0))
    a, b, corpus = (words_of(setup, rows) for rows in (copies, source, others))
    measures = {"edit": token_edit_distance(a, b), "tfidf": tfidf_cosine(a, b, corpus=corpus)}
    try:
        folder = minilm_folder()
    except InputError:  # a measure that not everyone has the weights for
        return measures
    rows = np.flatnonzero((setup.bench.cluster >= 0) & (setup.bench.origin <= 1))  # of all levels, embedded once
    vectors, _ = embeddings(folder, words_of(setup, rows), MEASURED, None)
    one, other = (vectors[np.searchsorted(rows, part)] for part in (copies, source))
    return measures | {"minilm": (one * other).sum(axis=1)}


def _quantiles(values: np.ndarray) -> dict[str, float]:
    q05, q50, q95 = np.quantile(values, [0.05, 0.5, 0.95])
    return {"mean": float(values.mean()), "q05": float(q05), "q50": float(q50), "q95": float(q95)}
