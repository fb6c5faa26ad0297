import gzip
import io
import json
import struct
import tarfile

import numpy as np
import pytest

from unlearn_jax.data.sources.raw import read_source
from unlearn_jax.errors import InputError


def tiny(shape, classes=10, train=23, test=11, seed=0):
    """Random (train images, labels, test images, labels)."""
    rng = np.random.default_rng(seed)
    parts = []
    for count in (train, test):
        parts += [rng.integers(0, 256, (count, *shape), np.uint8), rng.integers(0, classes, count)]
    return parts


def idx(array, magic=None):
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return struct.pack(">I", magic or 0x0800 | array.ndim) + sizes + array.astype(np.uint8).tobytes()


def idx_files(seed=0, **sizes):
    x, y, u, v = tiny((28, 28), seed=seed, **sizes)
    parts = {"train-images-idx3": x, "train-labels-idx1": y, "t10k-images-idx3": u, "t10k-labels-idx1": v}
    return {f"{name}-ubyte": idx(array) for name, array in parts.items()}, (x[..., None], y, u[..., None], v)


def records(images, *labels):
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([*(label[:, None].astype(np.uint8) for label in labels), planes], axis=1).tobytes()


def cifar10_files():
    arrays = tiny((32, 32, 3), train=25)
    x, y, u, v = arrays
    files = {f"data_batch_{i + 1}.bin": records(x[i * 5 :][:5], y[i * 5 :][:5]) for i in range(5)}
    return {**files, "test_batch.bin": records(u, v)}, arrays


def cifar100_files(train_coarse=None):
    arrays = x, y, u, v = tiny((32, 32, 3), classes=100)
    return {
        "train.bin": records(x, y % 20 if train_coarse is None else train_coarse, y),
        "test.bin": records(u, v % 20, v),
        "coarse_label_names.txt": "\n".join(f"coarse {i}" for i in range(20)).encode() + b"\n",
        "fine_label_names.txt": "\n".join(f"fine {i}" for i in range(100)).encode() + b"\n",
    }, arrays


def page_files():
    from PIL import Image

    arrays = x, y, u, v = tiny((32, 32, 3), train=25)
    parts = {f"data_batch_{i + 1}.png": x[i * 5 :][:5] for i in range(5)}
    files = {}
    for name, images in {**parts, "test_batch.png": u}.items():
        Image.fromarray(images.reshape(len(images), 1024, 3)).save(buffer := io.BytesIO(), "png")
        files[name] = buffer.getvalue()
    lists = {"train_lables.json": y.tolist(), "test_lables.json": v.tolist()}
    return {**files, **{name: json.dumps(labels).encode() for name, labels in lists.items()}}, arrays


def to_folder(path, files, zipped=False):
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    return path


def to_tar(path, files):
    """An archive of (name, content) pairs or a dict of them."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def assert_holds(raw, arrays):
    got = raw.train.images, raw.train.labels["label"], raw.test.images, raw.test.labels["label"]
    for one, other in zip(got, arrays):
        np.testing.assert_array_equal(one, other)
    assert raw.train.images.dtype == np.uint8


def test_idx_from_a_folder_zipped_or_not_or_both_a_subfolder_or_an_archive(tmp_path):
    files, arrays = idx_files()
    assert_holds(read_source("mnist", to_folder(tmp_path / "plain", files)), arrays)
    zipped = to_folder(tmp_path / "zipped", files, zipped=True)
    assert_holds(read_source("fashion_mnist", zipped), arrays)
    assert_holds(read_source("mnist", zipped / "train-labels-idx1-ubyte.gz"), arrays)
    to_folder(zipped, files)
    assert_holds(read_source("mnist", zipped), arrays)
    packed = to_tar(tmp_path / "set.tgz", {f"package/data/{name}": content for name, content in files.items()})
    assert_holds(read_source("mnist", packed), arrays)
    to_folder(tmp_path / "set" / "MNIST" / "raw", files)
    assert_holds(read_source("mnist", tmp_path / "set"), arrays)


@pytest.mark.parametrize("make", [cifar10_files, page_files])
def test_cifar10_from_binary_records_and_from_pages(tmp_path, make):
    files, arrays = make()
    assert_holds(read_source("cifar10", to_folder(tmp_path / "folder", files)), arrays)
    assert_holds(read_source("cifar10", to_tar(tmp_path / "set.tar.gz", files)), arrays)


def test_cifar100_has_both_labels_and_their_names(tmp_path):
    files, arrays = cifar100_files()
    raw = read_source("cifar100", to_tar(tmp_path / "cifar-100-binary.tar.gz", files))
    assert_holds(raw, arrays)
    np.testing.assert_array_equal(raw.train.labels["coarse_label"], arrays[1] % 20)
    assert raw.class_names["label"][99] == "fine 99" and raw.class_names["coarse_label"][0] == "coarse 0"


@pytest.mark.parametrize("scale", [None, 1, 255])
def test_npz_under_either_key_names(tmp_path, scale):
    x, y, u, v = tiny((32, 32, 3))
    if scale is None:
        np.savez(tmp_path / "set.npz", x_train=x, y_train=y[:, None], x_test=u, y_test=v[:, None])
    else:
        pixels = {"train_images": (x / scale).astype(np.float32), "test_images": u / scale}
        np.savez(tmp_path / "set.npz", train_labels=y, test_labels=v, **pixels)
    assert_holds(read_source("cifar10", tmp_path / "set.npz"), (x, y, u, v))


def refused(name, path, said):
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(InputError, match=said) as caught:
        read_source(name, path)
    assert "\n" not in str(caught.value)
    assert sorted(path.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "file, change, said",
    [
        ("train-images-idx3-ubyte", lambda c: c[:-1], "train-images-idx3-ubyte has .* truncated"),
        ("train-images-idx3-ubyte", lambda c: c + b"x", "damaged"),
        ("train-images-idx3-ubyte", lambda c: c[:9], "truncated"),
        ("t10k-labels-idx1-ubyte", lambda c: b"", "t10k-labels.* truncated"),
        ("t10k-labels-idx1-ubyte", lambda c: b"\0\0\x08\x03" + c[4:], "magic 2051, not 2049"),
        ("t10k-labels-idx1-ubyte", lambda c: c[:-1] + b"\x0a", "label 10 in row 10, outside 0..9"),
        ("t10k-labels-idx1-ubyte", lambda c: idx(np.zeros(9)), r"11 test images but 'label' \(9,\)"),
        ("train-images-idx3-ubyte", lambda c: idx(np.zeros((23, 27, 28))), "another set"),
    ],
)
def test_damaged_idx_is_refused(tmp_path, file, change, said):
    files, _ = idx_files()
    refused("mnist", to_folder(tmp_path / "set", {**files, file: change(files[file])}), said)


def test_truncated_containers_and_missing_or_doubled_files_are_refused(tmp_path):
    files, _ = idx_files()
    folder = to_folder(tmp_path / "gz", files, zipped=True)
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-500])
    refused("mnist", folder, "train-images-idx3-ubyte.gz is not a whole .gz")
    packed = to_tar(tmp_path / "set.tgz", files)
    packed.write_bytes(packed.read_bytes()[:-5000])
    refused("mnist", packed, "set.tgz cannot be read")
    (tmp_path / "junk.tgz").write_bytes(b"no archive")
    refused("mnist", tmp_path / "junk.tgz", "neither a folder nor")
    refused("mnist", tmp_path / "nowhere", "does not exist")
    refused("mnist", to_folder(tmp_path / "empty", idx_files(test=0)[0]), "empty test split")
    doubled = [*((f"a/{n}", c) for n, c in files.items()), ("b/t10k-labels-idx1-ubyte", b"")]
    refused("mnist", to_tar(tmp_path / "twice.tgz", doubled), "t10k-labels-idx1-ubyte twice")
    del files["t10k-images-idx3-ubyte"]
    refused("mnist", to_folder(tmp_path / "part", files), "lacks t10k-images-idx3-ubyte")
    refused("cifar10", tmp_path / "part", "no files of 'cifar10': give .*data_batch_1.bin")


def test_damaged_cifar_is_refused(tmp_path):
    files, _ = cifar10_files()
    short = {**files, "data_batch_3.bin": files["data_batch_3.bin"][:-7]}
    refused("cifar10", to_folder(tmp_path / "short", short), "data_batch_3.bin .* truncated")
    wrong = {**files, "test_batch.bin": b"\x0b" + files["test_batch.bin"][1:]}
    refused("cifar10", to_folder(tmp_path / "wrong", wrong), "test label 11 in row 0")
    named = {**files, "batches.meta.txt": b"cat\ndog\n"}
    refused("cifar10", to_folder(tmp_path / "named", named), "names 2 classes")
    coarse = cifar100_files(train_coarse=np.full(23, 20))[0]
    refused("cifar100", to_folder(tmp_path / "coarse", coarse), "coarse_label 20 .* 0..19")
    files, _ = page_files()
    page = files["data_batch_2.png"]
    cut = {**files, "data_batch_2.png": page[: len(page) // 2]}
    refused("cifar10", to_folder(tmp_path / "cut", cut), "data_batch_2.png is not a whole PNG")
    bad = {**files, "test_lables.json": b"[1, 2"}
    refused("cifar10", to_folder(tmp_path / "bad", bad), "test_lables.json is not a JSON list")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"x_train": np.full((23, 28, 28), np.nan)}, "x_train has NaN"),
        ({"x_train": np.full((23, 28, 28), 0.3)}, "not whole pixel values"),
        ({"x_train": np.full((23, 28, 28), 256)}, "not whole pixel values"),
        ({"y_train": np.full(23, 10)}, "label 10"),
        ({"y_train": np.full(23, -1)}, "label -1"),
        ({"y_train": np.full(23, 1.0)}, "integer label"),
        ({"y_train": np.zeros(22, int)}, "23 train images"),
        ({"x_test": np.zeros((11, 28), np.uint8)}, "another set"),
        ({"y_test": np.array([None] * 11)}, "not a readable .npz"),
    ],
)
def test_bad_npz_is_refused(tmp_path, change, said):
    x, y, u, v = tiny((28, 28))
    np.savez(tmp_path / "set.npz", **{"x_train": x, "y_train": y, "x_test": u, "y_test": v, **change})
    refused("mnist", tmp_path / "set.npz", said)


def test_npz_without_the_keys_or_the_second_label_is_refused(tmp_path):
    np.savez(tmp_path / "set.npz", images=np.zeros(3))
    refused("mnist", tmp_path / "set.npz", "has images: it needs x_train")
    refused("cifar100", tmp_path / "set.npz", "two labels")
    (tmp_path / "junk.npz").write_bytes(b"junk")
    refused("mnist", tmp_path / "junk.npz", "not a readable .npz")
