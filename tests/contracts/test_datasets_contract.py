"""What every line of ``DATASETS`` must do, on real data where it is at hand and on small files laid out alike.

The checksums that torchvision compares are set to those of the small files, so that its own checks still run.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import pickle
import struct
import tarfile
import threading
import urllib.request
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io

from tests.needs import need_fashion_mnist
from trainables.config import InputError
from trainables.data import DATASETS, load_dataset, split_indices

SIZES = {"train": 60, "test": 20}


def make_part(part, num_classes, shape):
    count = max(SIZES[part], 3 * num_classes)
    generator = np.random.default_rng([num_classes, len(part)])
    images = generator.integers(0, 256, (count, *shape), dtype=np.uint8)
    return images, np.arange(count) % num_classes


def lay_out_idx(class_name, folder, monkeypatch, *, suffix=""):
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = make_part(part, 10, (28, 28))
        for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
            file = folder / class_name / "raw" / f"{prefix}-{kind}-ubyte{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(gzip.compress(content, mtime=0) if suffix else content)


def lay_out_cifar(class_name, folder, monkeypatch):
    from torchvision import datasets

    described = getattr(datasets, class_name)
    num_classes, label_key = (10, "labels") if class_name == "CIFAR10" else (100, "fine_labels")
    base = folder / described.base_folder
    base.mkdir(parents=True)

    def write(name, content):
        (base / name).write_bytes(pickle.dumps(content))
        return md5(base / name)

    sums = {}
    for part in ("train", "test"):
        images, labels = make_part(part, num_classes, (3, 32, 32))
        batches = getattr(described, f"{part}_list")
        pieces = np.array_split(np.arange(len(labels)), len(batches))
        sums[part] = [
            [name, write(name, {"data": images[piece].reshape(len(piece), -1), label_key: labels[piece].tolist()})]
            for (name, _), piece in zip(batches, pieces, strict=True)
        ]
    names = [f"class {label}" for label in range(num_classes)]
    meta = described.meta | {"md5": write(described.meta["filename"], {described.meta["key"]: names})}
    monkeypatch.setattr(described, "train_list", sums["train"])
    monkeypatch.setattr(described, "test_list", sums["test"])
    monkeypatch.setattr(described, "meta", meta)


def lay_out_svhn(folder, monkeypatch):
    from torchvision import datasets

    folder.mkdir(parents=True, exist_ok=True)
    listed = {}
    for part in ("train", "test"):
        images, labels = make_part(part, 10, (3, 32, 32))
        url, name, _ = datasets.SVHN.split_list[part]
        # The file has the examples last and calls the digit 0 "10".
        stored = {"X": images.transpose(2, 3, 1, 0), "y": np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]}
        scipy.io.savemat(folder / name, stored)
        listed[part] = [url, name, md5(folder / name)]
    monkeypatch.setattr(datasets.SVHN, "split_list", datasets.SVHN.split_list | listed)


def md5(file):
    return hashlib.md5(file.read_bytes()).hexdigest()


#: name -> what lays out small files for it; None where the real data are always at hand
LAYOUTS = {
    "digits": None,
    "fashion-mnist": functools.partial(lay_out_idx, "FashionMNIST"),
    "mnist": functools.partial(lay_out_idx, "MNIST"),
    "kmnist": functools.partial(lay_out_idx, "KMNIST"),
    "cifar10": functools.partial(lay_out_cifar, "CIFAR10"),
    "cifar100": functools.partial(lay_out_cifar, "CIFAR100"),
    "svhn": lay_out_svhn,
}
LAID_OUT = [name for name in LAYOUTS if LAYOUTS[name]]
SHAPES = {"digits": (1, 8, 8), "cifar10": (3, 32, 32), "cifar100": (3, 32, 32), "svhn": (3, 32, 32)}


@pytest.fixture
def laid_out(tmp_path, monkeypatch):
    def lay_out(name):
        if LAYOUTS[name]:
            LAYOUTS[name](tmp_path / "data", monkeypatch)
        return tmp_path / "data"

    return lay_out


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    # Or the Debian copy would answer for Fashion-MNIST.
    monkeypatch.setattr("trainables.sources.DEBIAN_FASHION_MNIST", Path("/nonexistent"))


def test_every_dataset_has_a_layout_here():
    assert set(LAYOUTS) == set(DATASETS)


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_keeps_its_promises(name, laid_out):
    dataset = load_dataset(name, data_dir=laid_out(name))
    assert dataset.name == name
    assert dataset.input_shape == SHAPES.get(name, (1, 28, 28))
    assert dataset.num_classes == (100 if name == "cifar100" else 10)
    for part in ("train", "test"):
        images, labels = getattr(dataset, f"{part}_images"), getattr(dataset, f"{part}_labels")
        assert images.dtype == np.uint8
        assert labels.dtype == np.int64
        assert images.shape == (len(labels), *dataset.input_shape)
        assert set(labels) == set(range(dataset.num_classes))
    assert len(dataset.mean) == len(dataset.std) == dataset.input_shape[0]
    assert min(dataset.std) > 0
    train, val = split_indices(dataset.train_labels, seed=0)
    assert set(dataset.train_labels[train]) == set(dataset.train_labels[val]) == set(range(dataset.num_classes))


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_is_the_same_every_time(name, laid_out):
    folder = laid_out(name)
    assert load_dataset(name, data_dir=folder).sha256 == load_dataset(name, data_dir=str(folder)).sha256


@pytest.mark.parametrize("name", LAID_OUT)
def test_a_dataset_holds_what_its_files_hold(name, laid_out):
    dataset = load_dataset(name, data_dir=laid_out(name))
    for part in ("train", "test"):
        images, labels = make_part(part, dataset.num_classes, dataset.input_shape)
        np.testing.assert_array_equal(getattr(dataset, f"{part}_images"), images)
        np.testing.assert_array_equal(getattr(dataset, f"{part}_labels"), labels)


@pytest.mark.parametrize("name", LAID_OUT)
def test_a_dataset_that_cannot_be_downloaded_is_one_line_and_leaves_nothing(name, tmp_path, no_network):
    folder = tmp_path / "empty"
    with pytest.raises(
        InputError, match=f"The dataset '{name}' is not in '{folder}' and could not be downloaded"
    ) as caught:
        load_dataset(name, data_dir=folder)
    message = str(caught.value)
    assert "no route to host" in message
    assert message.endswith("name the folder that holds its files with --data-dir.")
    assert "\n" not in message
    assert not folder.exists()


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_a_damaged_dataset_is_not_read(name, laid_out, no_network):
    folder = laid_out(name)
    file = max(folder.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match=f"The dataset '{name}' is not in"):
        load_dataset(name, data_dir=folder)


@pytest.mark.parametrize("place", ["mnist", ""])
def test_idx_files_are_found_in_a_folder_of_the_datasets_name_and_in_the_data_folder_itself(
    place, tmp_path, no_network
):
    lay_out_idx("MNIST", tmp_path / "source", None, suffix=".gz")
    target = tmp_path / "data" / place
    target.parent.mkdir(exist_ok=True)
    (tmp_path / "source" / "MNIST" / "raw").rename(target)
    assert len(load_dataset("mnist", data_dir=tmp_path / "data").train_labels) == SIZES["train"]


def test_the_data_folder_comes_before_debians_copy_of_fashion_mnist(laid_out, tmp_path):
    need_fashion_mnist()
    assert len(load_dataset("fashion-mnist", data_dir=laid_out("fashion-mnist")).train_labels) == SIZES["train"]
    assert len(load_dataset("fashion-mnist", data_dir=tmp_path / "absent").train_labels) == 60_000


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder, and the address of a server on this machine that serves it."""
    monkeypatch.setenv("no_proxy", "*")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    folder = tmp_path / "mirror"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def serve_mnist(mirror, monkeypatch):
    from torchvision import datasets

    folder, address = mirror
    lay_out_idx("MNIST", folder, monkeypatch, suffix=".gz")
    files = sorted((folder / "MNIST" / "raw").iterdir())
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"{address}/MNIST/raw/"])
    monkeypatch.setattr(datasets.MNIST, "resources", [(file.name, md5(file)) for file in files])
    return files


def test_mnist_is_downloaded_to_the_data_folder_and_then_found_there(mirror, tmp_path, monkeypatch, request):
    serve_mnist(mirror, monkeypatch)
    downloaded = load_dataset("mnist", data_dir=tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["MNIST"]
    np.testing.assert_array_equal(downloaded.train_images, make_part("train", 10, (1, 28, 28))[0])
    request.getfixturevalue("no_network")
    assert load_dataset("mnist", data_dir=tmp_path / "data").sha256 == downloaded.sha256


def test_cifar10_is_downloaded_to_the_data_folder_and_then_found_there(mirror, tmp_path, monkeypatch, request):
    from torchvision import datasets

    folder, address = mirror
    lay_out_cifar("CIFAR10", folder, monkeypatch)
    archive = folder / datasets.CIFAR10.filename
    with tarfile.open(archive, "w:gz") as stream:
        stream.add(folder / datasets.CIFAR10.base_folder, datasets.CIFAR10.base_folder)
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}/{archive.name}")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive))
    downloaded = load_dataset("cifar10", data_dir=tmp_path / "data")
    request.getfixturevalue("no_network")
    assert load_dataset("cifar10", data_dir=tmp_path / "data").sha256 == downloaded.sha256


def test_a_download_that_breaks_off_is_refused_and_leaves_nothing(mirror, tmp_path, monkeypatch):
    last = serve_mnist(mirror, monkeypatch)[-1]  # the files before it arrive
    last.write_bytes(last.read_bytes() + b"?")
    with pytest.raises(InputError, match=r"The dataset 'mnist' is not in .* and could not be downloaded") as caught:
        load_dataset("mnist", data_dir=tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()
