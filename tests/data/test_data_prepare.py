import importlib.util
import json
import os
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from test_data_raw import cifar10_files, cifar100_files, idx_files, page_files, tiny, to_folder, to_tar

from unlearn_jax.data import load_dataset
from unlearn_jax.data.sources import prepare, tfds
from unlearn_jax.errors import InputError

SCRIPT = Path(__file__).parents[2] / "experiments" / "prepare_data.py"


@pytest.fixture(scope="module")
def main():
    """The script's entry point."""
    spec = importlib.util.spec_from_file_location("prepare_data", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Tiny prepared Fashion-MNIST: (data_dir, arrays)."""
    folder = tmp_path_factory.mktemp("stored")
    files, arrays = idx_files(train=57)
    prepare.prepare("fashion_mnist", to_folder(folder / "idx", files), data_dir=folder / "data")
    return folder / "data", arrays


@pytest.fixture
def own(stored, tmp_path):
    """A copy of ``stored`` to damage."""
    return Path(shutil.copytree(stored[0], tmp_path / "own"))


def assert_loads(name, data_dir, arrays):
    dataset = load_dataset(name, data_dir=data_dir)
    got = dataset.train.inputs, dataset.train.targets, dataset.test.inputs, dataset.test.targets
    for one, other in zip(got, arrays):
        np.testing.assert_array_equal(one, other)
    counts = len(arrays[1]), len(arrays[3])
    np.testing.assert_array_equal(dataset.train.ids, np.arange(counts[0]))
    np.testing.assert_array_equal(dataset.test.ids, counts[0] + np.arange(counts[1]))
    assert dataset.train.inputs.dtype == np.uint8 and isinstance(dataset.train.inputs, np.memmap)
    np.testing.assert_allclose(dataset.mean, arrays[0].mean((0, 1, 2)) / 255, rtol=1e-12)
    return dataset


def test_fashion_mnist_comes_back_byte_exact_in_source_order(stored):
    dataset = assert_loads("fashion_mnist", *stored)
    assert dataset.flips and dataset.class_names[9] == "Ankle boot"


@pytest.mark.parametrize(
    "name, make", [("cifar10", cifar10_files), ("cifar10", page_files), ("cifar100", cifar100_files)]
)
def test_cifar_comes_back_byte_exact_in_source_order(tmp_path, name, make):
    files, arrays = make()
    prepare.prepare(name, to_tar(tmp_path / "set.tar.gz", files), data_dir=tmp_path)
    dataset = assert_loads(name, tmp_path, arrays)
    assert dataset.flips and dataset.class_names[3] == {"cifar10": "cat", "cifar100": "fine 3"}[name]


def test_mnist_from_npz_by_the_environment_variable(tmp_path, monkeypatch):
    x, y, u, v = tiny((28, 28))
    np.savez(tmp_path / "set.npz", x_train=x, y_train=y, x_test=u, y_test=v)
    monkeypatch.setenv("UNLEARN_JAX_DATA", str(tmp_path / "data"))
    prepare.prepare("mnist", tmp_path / "set.npz")
    assert not assert_loads("mnist", None, (x[..., None], y, u[..., None], v)).flips


def test_stock_tfds_reads_the_prepared_data(tmp_path):
    files, arrays = cifar100_files()
    prepare.prepare("cifar100", to_folder(tmp_path / "set", files), data_dir=tmp_path)
    source = tfds.import_tfds().data_source("cifar100", data_dir=tmp_path, split="train", download=False)
    assert "tensorflow_datasets.image_classification" in tfds.import_tfds().builder_cls("cifar100").__module__
    for row, example in zip(tfds.stored_rows("train", len(source)), source):
        np.testing.assert_array_equal(example["image"], arrays[0][row])
        assert (example["label"], example["coarse_label"]) == (arrays[1][row], arrays[1][row] % 20)
        assert example["id"] == f"train_{row:05d}".encode()


def test_stock_tfds_reads_prepared_data_of_idx_files_too(stored):
    data_dir, arrays = stored
    source = tfds.import_tfds().data_source("fashion_mnist", data_dir=data_dir, split="train", download=False)
    assert "tensorflow_datasets.image_classification" in tfds.import_tfds().builder_cls("fashion_mnist").__module__
    assert len(source) == 57
    for row, example in zip(tfds.stored_rows("train", len(source)), source):
        np.testing.assert_array_equal(example["image"], arrays[0][row])
        assert example["label"] == arrays[1][row]


def test_features_and_version_are_the_stock_ones(tmp_path):
    library = tfds.import_tfds()
    for name, make in (("mnist", idx_files), ("cifar10", cifar10_files), ("cifar100", cifar100_files)):
        done = prepare.prepare(name, to_folder(tmp_path / f"{name} set", make()[0]), data_dir=tmp_path)
        ours = library.builder_from_directory(done.folder).info
        stock = library.builder_cls(name)(data_dir=tmp_path / "empty")
        assert ours.version == stock.version and done.folder.name == str(stock.version)
        assert repr(ours.features) == repr(stock.info.features)
        assert ours.supervised_keys == stock.info.supervised_keys


def test_missing_data_give_the_command_and_never_reach_tfds(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds, "import_tfds", lambda: pytest.fail("tfds was asked"))
    command = f"unlearn-jax prepare-data cifar10 --source PATH --data-dir {tmp_path}"
    with pytest.raises(InputError, match=command) as caught:
        load_dataset("cifar10", data_dir=tmp_path)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("UNLEARN_JAX_DATA", str(tmp_path))
    with pytest.raises(InputError, match=f"in {tmp_path}: run .*--source PATH`"):
        load_dataset("mnist")


def test_cache_is_used_and_follows_the_prepared_data(own, stored, tmp_path, monkeypatch):
    assert_loads("fashion_mnist", own, stored[1])
    with monkeypatch.context() as patch:
        patch.setattr(tfds, "_decode", lambda *_: pytest.fail("decoded again"))
        assert_loads("fashion_mnist", own, stored[1])
    files, arrays = idx_files(train=57, seed=1)
    other = prepare.prepare("fashion_mnist", to_folder(tmp_path / "set", files), data_dir=tmp_path / "other")
    shutil.copytree(other.folder, own / "fashion_mnist" / "3.0.1", dirs_exist_ok=True)
    assert_loads("fashion_mnist", own, arrays)
    left = os.listdir(own / "fashion_mnist" / "3.0.1" / tfds.CACHE)
    assert len(left) == 7 and len({name.partition("-")[0] for name in left}) == 1


def test_damaged_cache_is_decoded_again_and_one_that_cannot_be_written_is_done_without(own, stored):
    assert_loads("fashion_mnist", own, stored[1])
    cache = own / "fashion_mnist" / "3.0.1" / tfds.CACHE
    (file,) = cache.glob("*train_inputs.npy")
    file.write_bytes(file.read_bytes()[:-100])
    assert_loads("fashion_mnist", own, stored[1])
    shutil.rmtree(cache)
    cache.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="cannot cache"):
        dataset = load_dataset("fashion_mnist", data_dir=own)
    np.testing.assert_array_equal(dataset.train.inputs, stored[1][0])


def test_damaged_or_foreign_data_are_refused(own):
    folder = own / "fashion_mnist" / "3.0.1"
    shutil.rmtree(folder / tfds.CACHE, ignore_errors=True)
    (shard,) = folder.glob("*train.array_record*")
    shard.unlink()
    with pytest.raises(InputError, match="cannot be read .*--force"):
        load_dataset("fashion_mnist", data_dir=own)
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    for call in (load_dataset, prepare.prepare):
        with pytest.raises(InputError, match="tfrecord format"):
            call("fashion_mnist", data_dir=own)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(InputError, match="dataset_info.json is damaged .*--force"):
        load_dataset("fashion_mnist", data_dir=own)


def test_second_run_reuses_and_force_remakes(own, stored, tmp_path, main, capsys):
    shards = {path: path.stat().st_mtime_ns for path in own.rglob("*.array_record*")}
    files, arrays = idx_files(seed=2)
    source = to_folder(tmp_path / "set", files)
    command = ["fashion_mnist", "--source", str(source), "--data-dir", str(own)]
    assert main(command) == 0
    assert "57 train + 11 test examples" in (said := capsys.readouterr().out) and "already there" in said
    assert main([*command, "--quiet", "--json"]) == 0
    told = capsys.readouterr()
    counted = {"name": "fashion_mnist", "made": False, "train": 57, "test": 11}
    assert counted.items() <= json.loads(told.out).items() and told.err.count("\n") == 1  # the note on the counts
    assert shards == {path: path.stat().st_mtime_ns for path in own.rglob("*.array_record*")}
    assert_loads("fashion_mnist", own, stored[1])
    assert main([*command, "--force"]) == 0
    said = capsys.readouterr()
    assert "23 train + 11 test examples" in said.out and "prepared in" in said.out
    lines = said.err.splitlines()
    assert lines[0] == "reading the files ..." and "\r" not in said.err
    assert lines[1].startswith("train: 23 examples in ") and "standard set has 60000" in lines[-1]
    assert_loads("fashion_mnist", own, arrays)
    assert os.listdir(own) == ["fashion_mnist"] and os.listdir(own / "fashion_mnist") == ["3.0.1"]


@pytest.mark.parametrize("error, caught", [(OSError(28, "disk full"), InputError), (KeyboardInterrupt(), None)])
def test_nothing_is_left_of_a_run_that_fails_and_the_old_data_are_kept(own, stored, tmp_path, error, caught):
    source = to_folder(tmp_path / "set", idx_files()[0])

    def report(split, done, total):
        if split == "test" and done:
            raise error

    with pytest.raises(caught or type(error)):
        prepare.prepare("mnist", source, data_dir=tmp_path / "data", report=report)
    assert os.listdir(tmp_path / "data") == []
    with pytest.raises(caught or type(error)):
        prepare.prepare("fashion_mnist", source, data_dir=own, force=True, report=report)
    assert_loads("fashion_mnist", own, stored[1])
    assert os.listdir(own) == ["fashion_mnist"]


def test_bad_source_writes_nothing_and_what_cannot_be_done_exits_with_2(tmp_path, main, capsys):
    files, _ = idx_files()
    files["train-labels-idx1-ubyte"] = files["train-labels-idx1-ubyte"][:-1]
    source = to_folder(tmp_path / "set", files)
    assert main(["mnist", "--source", str(source), "--data-dir", str(tmp_path / "data"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: train-labels-idx1-ubyte") and said.count("\n") == 1
    assert not (tmp_path / "data").exists()
    source = to_folder(tmp_path / "set", idx_files()[0])
    (tmp_path / "file").write_text("")
    assert main(["mnist", "--source", str(source), "--data-dir", str(tmp_path / "file")]) == 2
    assert "cannot write to" in (said := capsys.readouterr().err) and "--data-dir" in said
    assert main(["imagenet"]) == 2
    assert "choose one of cifar10, cifar100, fashion_mnist, mnist" in capsys.readouterr().err


def test_without_a_source_tensorflow_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said = "get a folder or .tar.gz with train-images-idx3-ubyte.* run `unlearn-jax prepare-data"
    with pytest.raises(InputError, match=said):
        prepare.prepare("mnist", data_dir=tmp_path)
    assert os.listdir(tmp_path) == []


def test_stock_builder_is_used_where_tensorflow_is(stored, tmp_path, monkeypatch):
    library = tfds.import_tfds()
    asked = []

    def builder(name, data_dir):
        shutil.copytree(stored[0], data_dir, dirs_exist_ok=True)
        made = library.builder_from_directory(Path(data_dir) / name / "3.0.1")
        made.download_and_prepare = lambda **settings: asked.append(settings)
        return made

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "tensorflow" or None)
    stock = types.SimpleNamespace(builder=builder, disable_progress_bar=lambda: asked.append("no bars"))
    monkeypatch.setattr(prepare, "import_tfds", lambda: stock)
    done = prepare.prepare("fashion_mnist", data_dir=tmp_path)
    assert done.made and (done.train, done.test) == (57, 11)
    assert asked == ["no bars", {"file_format": "array_record", "download_dir": tmp_path / "downloads"}]
    assert_loads("fashion_mnist", tmp_path, stored[1])

    def failing(name, data_dir):
        raise RuntimeError("no network")

    monkeypatch.setattr(prepare, "import_tfds", lambda: types.SimpleNamespace(builder=failing))
    with pytest.raises(InputError, match="no network.*--source"):
        prepare.prepare("mnist", data_dir=tmp_path, report=lambda split, done, total: None)


@pytest.mark.skipif(
    not os.environ.get("UNLEARN_JAX_DATA") or tfds.prepared("fashion_mnist") is None,
    reason="no prepared fashion_mnist under UNLEARN_JAX_DATA",
)
def test_real_fashion_mnist_has_its_known_contents():
    dataset = load_dataset("fashion_mnist")
    np.testing.assert_array_equal(np.bincount(dataset.train.targets), [6000] * 10)
    np.testing.assert_array_equal(np.bincount(dataset.test.targets), [1000] * 10)
    assert abs(dataset.mean[0] * 255 - 72.94) < 0.005
    assert dataset.class_names[dataset.train.targets[0]] == "Ankle boot"
