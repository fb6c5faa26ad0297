"""The named benchmark sets: every twin is built as recorded, and along its axes only what stays changes."""

import dataclasses
import functools
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from sentences import one_sentence

from unlearn_jax.data import DATASETS
from unlearn_jax.data.benchmarks import BENCHMARKS, NATURAL, bench_digest, benchmark_named
from unlearn_jax.data.kinds import KINDS
from unlearn_jax.data.splits import request_rows
from unlearn_jax.studies import datasheet
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.setup import prepare_study
from unlearn_jax.studies.validate import check

ROOT = Path(__file__).resolve().parents[2]
TWINS = sorted({one.twin for one in BENCHMARKS.values() if one.twin})


@functools.cache
def built(name, **changes):
    """What a study of the benchmark begins with."""
    return prepare_study(resolve(StudyConfig(benchmark=name, methods="none", **changes)))


def ids_of(setup, copies):
    """(targets, similar samples) of each cluster at a number of copies, by ids of the source."""
    rows = request_rows(setup.bench, 0, copies=copies)
    place = lambda at: np.lexsort((setup.bench.copy[at], setup.bench.cluster[at]))
    target, similar = (at[place(at)] for at in (rows.forget, rows.similar))
    return setup.bench.dataset_id[target], setup.bench.dataset_id[similar].reshape(len(target), copies)


def test_the_four_sets_are_there_each_with_a_twin_that_needs_no_download():
    assert {*BENCHMARKS} - {*TWINS} == {"vision-copies", "vision-natural", "text-natural", "facts-paraphrase"}
    assert all(name.endswith("-small") and BENCHMARKS[name].digests for name in TWINS) and len(TWINS) == 4


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_recipe_is_a_sound_study_with_a_page(name):
    benchmark = BENCHMARKS[name]
    assert benchmark.name == name and benchmark.version >= 1 and benchmark.licence and benchmark.limits
    for source in benchmark.sources:
        assert source in DATASETS
        config = resolve(StudyConfig(benchmark=name, dataset=source)).config
        check(resolve(config))
        assert resolve(config).config == config and config.dataset == source
        assert tuple(resolve(config).copies) == benchmark.copies and resolve(config).max_copies == benchmark.copies[-1]
        for level in benchmark.levels:
            KINDS[built(benchmark.twin or name).dataset.kind].check_level(level)
    page = ROOT / "docs" / "datasheets" / f"{name.removesuffix('-small')}.md"
    text = page.read_text(encoding="utf-8")
    assert f"`{name}`" in text and all(digest[:12] in text for digest in benchmark.digests.values())


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_is_built_as_recorded(name):
    told = datasheet.benchmark_manifest(built(name))
    assert told["as_recorded"] is True and told["changed"] == [] and datasheet.warning(told) == ()
    assert told["digest"] == BENCHMARKS[name].digests[built(name).config.dataset]


@pytest.mark.parametrize("name", TWINS)
def test_along_the_copies_axis_targets_stay_and_fewer_are_a_prefix_of_more(name):
    setup, most = built(name), BENCHMARKS[name].copies[-1]
    every, similar = ids_of(setup, most)
    assert len(every) == 30
    for copies in range(most):
        targets, fewer = ids_of(setup, copies)
        np.testing.assert_array_equal(targets, every)
        np.testing.assert_array_equal(fewer, similar[:, :copies])
    few = built(name, copies="0,1")  # a study of a part of the axis is of the same clusters
    assert datasheet.benchmark_manifest(few)["as_recorded"] is True
    np.testing.assert_array_equal(ids_of(few, 1)[1], similar[:, :1])


@pytest.mark.parametrize("name", [name for name in TWINS if BENCHMARKS[name].mined])
def test_mined_neighbours_are_disjoint_and_those_left_out_are_no_rest(name):
    setup, most = built(name), BENCHMARKS[name].copies[-1]
    targets, similar = ids_of(setup, most)
    taken = np.concatenate([targets, similar.ravel()])
    assert len(np.unique(taken)) == 30 * (1 + most)
    for copies in range(most + 1):
        rest = setup.bench.dataset_id[request_rows(setup.bench, 0, copies=copies).rest]
        assert not np.isin(rest, taken).any() and len(rest) == len(setup.dataset.train.ids) - len(taken)


def test_options_that_build_something_else_are_compared_with_nothing_and_a_source_that_differs_is_said():
    told = datasheet.benchmark_manifest(built("vision-copies-small", similarity="exact", skip_requests=1))
    assert told["changed"] == ["similarity", "skip_requests"] and told["as_recorded"] is None and not told["recorded"]
    assert told["digest"] != BENCHMARKS["vision-copies-small"].digests["digits"]
    setup = built("vision-natural-small")
    dataset = setup.dataset._replace(flips=True)
    told = datasheet.benchmark_manifest(setup._replace(dataset=dataset))
    assert told["as_recorded"] is False
    (said,) = datasheet.warning(told)
    assert said.startswith("benchmark 'vision-natural-small' is not as recorded (digest ")


def test_the_digest_follows_version_targets_neighbours_and_made_texts():
    setup, benchmark = built("text-natural-small"), benchmark_named("text-natural-small")
    digest = lambda bench, one=benchmark: bench_digest(one, setup.dataset, bench, NATURAL, 0)
    bench, first = setup.bench, digest(setup.bench)
    assert digest(bench, benchmark._replace(version=2)) != first
    (row, *_) = request_rows(bench, 0, copies=1).similar
    for column in ("dataset_id", "labels", "copy"):
        changed = getattr(bench, column).copy()
        changed[row] += 1
        assert digest(bench._replace(**{column: changed})) != first, column
    texts = bench.texts.copy()
    texts[row] = "another report"
    assert digest(bench._replace(texts=texts)) != first
    other = bench.labels.copy()
    other[(bench.origin == 0) & (bench.request < 0)] += 1  # the rest enters with the source
    assert digest(bench._replace(labels=other)) == first


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"benchmark": "vision"}, "unknown benchmark 'vision': choose one of facts-paraphrase, "),
        ({"benchmark": "vision-natural", "dataset": "digits"}, "built over fashion_mnist or cifar10, not 'digits'"),
        ({"benchmark": "vision-natural", "similarity": "near"}, "has the similarity natural, not 'near': leave"),
        ({"benchmark": "text-natural", "copies": "0,3"}, "has 2 neighbours of each target: give --copies 0 to 2"),
        ({"benchmark": "facts-paraphrase", "similarity": "far"}, "exact, near, paraphrase or semantic, not 'far'"),
        ({"benchmark": "vision-copies", "copies": "-1"}, "--copies has -1"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(given, said):
    one_sentence(said, lambda: check(resolve(StudyConfig(**given))))


def test_made_copies_may_be_more_than_the_benchmark_lays_out_and_its_digest_stays():
    more = built("facts-paraphrase-small", copies="0,6")
    assert datasheet.benchmark_manifest(more)["as_recorded"] is True and more.bench.copy.max() == 6
    check(resolve(dataclasses.replace(StudyConfig(benchmark="text-natural"), similarity="near", copies="0,8")))


def command(monkeypatch, capsys, *words):
    """Exit code and output of the script."""
    monkeypatch.setattr(sys, "argv", ["benchmarks.py", *words])
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "experiments" / "benchmarks.py"), run_name="__main__")
    return ended.value.code, capsys.readouterr()


def test_the_script_lists_them_and_prints_a_card(monkeypatch, capsys):
    code, said = command(monkeypatch, capsys)
    assert code == 0 and [line.split()[0] for line in said.out.splitlines()] == [*BENCHMARKS]
    code, said = command(monkeypatch, capsys, "vision-natural-small")
    assert code == 0 and "30 contested in 1 request; 1,110 other examples are rest" in said.out
    assert said.out.rstrip().endswith("as recorded") and "number 2: pixel 0.9" in said.out
    code, said = command(monkeypatch, capsys, "vision-natural-small", "--json")
    card = json.loads(said.out)
    assert (card["train"], card["targets"], card["same_label"]["2"], card["as_recorded"]) == (1200, 30, 1.0, True)
    assert 0.9 <= card["likeness"]["1"]["pixel"]["q05"] <= card["likeness"]["1"]["pixel"]["q95"] <= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "unknown benchmark 'nowhere'"),
        (["--dataset", "cifar10"], "--dataset is of one benchmark: give its name first"),
        (["vision-natural", "--data-dir", "/nowhere"], "fashion_mnist"),
        (["vision-copies-small", "--targets", "hard"], "unknown targets 'hard'"),
    ],
)
def test_the_script_refuses_in_one_line(words, said, monkeypatch, capsys):
    code, output = command(monkeypatch, capsys, *words, "--quiet")
    assert code == 2 and said in output.err and output.err.strip().count("\n") == 0 and output.out == ""
