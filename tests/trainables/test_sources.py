"""Readers: idx and npz files, good and damaged. The files of each named dataset are in the contract tests."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from trainables.config import InputError
from trainables.sources import checked_images, from_mapping, read_digits, read_idx, read_npz

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (12, 4, 5), dtype=np.uint8)
LABELS = np.arange(12) % 3


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_digits_are_scikit_learns_at_full_range(tmp_path):
    from sklearn.datasets import load_digits

    raw = read_digits(tmp_path)
    expected = load_digits()
    assert raw.train_images.shape == (1797, 1, 8, 8)
    assert (raw.train_images.min(), raw.train_images.max()) == (0, 255)
    np.testing.assert_array_equal(np.rint(raw.train_images[:, 0] * (16 / 255)), expected.images)
    np.testing.assert_array_equal(raw.train_labels, expected.target)
    assert raw.test_images is None


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_idx_file_reads_back_plain_and_gzipped(tmp_path, suffix):
    content = idx_bytes(IMAGES)
    file = tmp_path / f"images{suffix}"
    file.write_bytes(gzip.compress(content) if suffix else content)
    array = read_idx(file)
    np.testing.assert_array_equal(array, IMAGES)
    assert array.flags.writeable


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an idx file of unsigned bytes"),
        (b"\x89PNG....", "is not an idx file of unsigned bytes"),
        (struct.pack(">HBBI", 0, 13, 1, 2) + bytes(8), "is not an idx file of unsigned bytes"),
        (idx_bytes(IMAGES)[:9], "is not an idx file of unsigned bytes"),
        (idx_bytes(IMAGES)[:-7], "holds 233 values; its header says 240"),
        (idx_bytes(IMAGES) + b"more", "holds 244 values; its header says 240"),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path, content, message):
    file = tmp_path / "images"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_idx(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"not gzip", gzip.compress(idx_bytes(IMAGES))[:-20], gzip.compress(bytes(3000))[:15] + b"\xff" * 30],
    ids=["not gzip", "cut short", "garbage inside"],
)
def test_a_damaged_gzip_file_is_refused_on_one_line(tmp_path, content):
    file = tmp_path / "images.gz"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"images\.gz' cannot be read: ") as caught:
        read_idx(file)
    assert "\n" not in str(caught.value)


def test_npz_images_without_and_with_channels_get_their_channels_first(tmp_path):
    coloured = GENERATOR.integers(0, 256, (12, 4, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "grey.npz", images=IMAGES, labels=LABELS)
    np.savez_compressed(tmp_path / "coloured.npz", images=coloured, labels=LABELS.astype(np.uint8))
    grey, colour = read_npz(tmp_path / "grey.npz"), read_npz(tmp_path / "coloured.npz")
    np.testing.assert_array_equal(grey.train_images, IMAGES[:, None])
    np.testing.assert_array_equal(colour.train_images[:, 2], coloured[..., 2])
    assert colour.train_images.shape == (12, 3, 4, 5)
    assert colour.train_labels.dtype == np.int64
    assert grey.class_names == ("0", "1", "2")
    assert grey.test_images is None


def test_npz_test_part_and_class_names_are_read(tmp_path):
    file = tmp_path / "all.npz"
    names = np.array(["cat", "dog", "emu", "fox"])
    np.savez(file, images=IMAGES, labels=LABELS, test_images=IMAGES[:2], test_labels=[3, 0], class_names=names)
    raw = read_npz(file)
    assert raw.class_names == ("cat", "dog", "emu", "fox")
    assert raw.test_labels.tolist() == [3, 0]
    np.testing.assert_array_equal(raw.test_images, IMAGES[:2, None])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, r"has no array 'images'; it needs images and labels, found labels\."),
        ({"labels": None}, r"has no array 'labels'; it needs images and labels, found images\."),
        ({"images": IMAGES.astype(np.float32)}, "have the dtype float32; images must be uint8"),
        ({"images": IMAGES[0]}, r"have the shape \(4, 5\); images must be N×H×W or N×H×W×C with 1 to 4 channels"),
        ({"images": IMAGES[:, None]}, r"have the shape \(12, 1, 4, 5\); images must be"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"have the shape \(0, 4, 5\); images must be"),
        ({"labels": LABELS[:-1]}, r"have the shape \(11,\); one per image would be \(12,\)"),
        ({"labels": np.eye(12)[:, :3].astype(int)}, r"have the shape \(12, 3\); one per image"),
        ({"labels": LABELS / 2}, "have the dtype float64; labels must be integers"),
        ({"labels": LABELS - 1}, "run from -1 to 1 with 3 different values; they must run from 0 without a gap"),
        ({"labels": LABELS * 2}, "run from 0 to 4 with 3 different values; they must run from 0 without a gap"),
        ({"class_names": np.array(["a", "b"])}, "contain 2; labels must lie in 0 to 1"),
        ({"labels": LABELS - 1, "class_names": np.array(["a", "b"])}, "contain -1; labels must lie in 0 to 1"),
        ({"class_names": np.arange(3)}, "The class_names of .* must be a list of strings"),
        ({"class_names": np.array(["a", "b", "a"])}, "are a, b, a; they must differ"),
        ({"test_images": IMAGES}, "has test_images alone; test_images and test_labels come together"),
        ({"test_labels": LABELS}, "has test_labels alone"),
        (
            {"test_images": IMAGES, "test_labels": LABELS + 1},
            "The test_labels of .* contain 3; labels must lie in 0 to 2",
        ),
        (
            {"test_images": IMAGES[:, 1:], "test_labels": LABELS},
            r"are \(1, 3, 5\) \(C, H, W\); they must be \(1, 4, 5\)",
        ),
    ],
)
def test_arrays_that_break_a_rule_are_refused(tmp_path, change, message):
    arrays = {"images": IMAGES, "labels": LABELS} | change
    file = tmp_path / "file.npz"
    np.savez(file, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(InputError, match=message) as caught:
        read_npz(file)
    assert "\n" not in str(caught.value)


def test_names_for_classes_without_training_examples_are_left_to_the_class_check():
    raw = from_mapping({"images": IMAGES, "labels": LABELS, "class_names": [*"abcd"]}, "toy")
    assert raw.class_names == ("a", "b", "c", "d")


def test_a_missing_npz_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"There is no file '.*absent\.npz'"):
        read_npz(tmp_path / "absent.npz")
    with pytest.raises(InputError, match="There is no file"):
        read_npz(tmp_path)


def test_a_file_that_is_no_npz_is_refused_on_one_line(tmp_path):
    whole = tmp_path / "whole.npz"
    np.savez(whole, images=IMAGES, labels=LABELS)
    np.save(tmp_path / "bare.npy", IMAGES)
    contents = {"text": b"hello", "empty": b"", "cut": whole.read_bytes()[:300], "zip": b"PK\x03\x04" + bytes(40)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}' cannot be read as an npz file of plain arrays: ") as caught:
            read_npz(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="holds one bare array"):
        read_npz(tmp_path / "bare.npy")


def test_a_pickle_inside_an_npz_file_is_not_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("the pickle ran",))

    file = tmp_path / "pickled.npz"
    np.savez(file, images=np.array([Bomb()], dtype=object), labels=LABELS)
    with pytest.raises(InputError, match="cannot be read as an npz file of plain arrays: Object arrays"):
        read_npz(file)


def test_channels_moved_first_are_contiguous():
    images = checked_images(np.zeros((2, 4, 5, 3), np.uint8), "These")
    assert images.flags.c_contiguous
