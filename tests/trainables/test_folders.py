"""Folders of images: layout, common format, and the cache of decoded images."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from trainables import folders
from trainables.config import InputError
from trainables.folders import cache_home, read_folder

GENERATOR = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


def save(path, size=(5, 4), mode="L"):
    """A random image (width, height) written to ``path``; returns its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    pixels = GENERATOR.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def make_folder(root, classes=("ant", "bee"), per_class=4, **options):
    return {name: [save(root / name / f"{number}.png", **options) for number in range(per_class)] for name in classes}


def cached_files(root):
    return sorted(path.name for path in (root / ".study-cache").iterdir())


def test_classes_are_alphabetical_and_pixels_are_exact(tmp_path):
    pixels = make_folder(tmp_path, classes=("bee", "ant"))
    raw = read_folder(tmp_path)
    assert raw.class_names == ("ant", "bee")
    assert raw.train_labels.tolist() == [0] * 4 + [1] * 4
    assert raw.train_labels.dtype == np.int64
    assert raw.train_images.shape == (8, 1, 4, 5)
    np.testing.assert_array_equal(raw.train_images[:, 0], [*pixels["ant"], *pixels["bee"]])
    assert raw.test_images is None


def test_train_and_test_folders_become_the_parts(tmp_path):
    make_folder(tmp_path / "train", per_class=3, mode="RGB")
    pixels = make_folder(tmp_path / "test", classes=("bee",), per_class=2, mode="RGB")
    raw = read_folder(tmp_path)
    assert raw.train_images.shape == (6, 3, 4, 5)
    assert raw.test_labels.tolist() == [1, 1]
    np.testing.assert_array_equal(raw.test_images.transpose(0, 2, 3, 1), pixels["bee"])


def test_one_coloured_image_makes_all_coloured(tmp_path):
    pixels = make_folder(tmp_path)
    save(tmp_path / "bee" / "z.png", mode="RGB")
    raw = read_folder(tmp_path)
    assert raw.train_images.shape == (9, 3, 4, 5)
    for channel in range(3):
        np.testing.assert_array_equal(raw.train_images[0, channel], pixels["ant"][0])


def test_images_take_the_most_common_size(tmp_path):
    make_folder(tmp_path, per_class=3)
    Image.new("L", (9, 11), 200).save(tmp_path / "ant" / "z.png")
    raw = read_folder(tmp_path)
    assert raw.train_images.shape == (7, 1, 4, 5)
    assert (raw.train_images[3] == 200).all()


def test_other_files_and_hidden_folders_are_passed_over(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "ant" / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "README").write_text("about")
    assert len(read_folder(tmp_path).train_labels) == 8


def test_images_are_decoded_once(tmp_path, monkeypatch):
    make_folder(tmp_path)
    first = read_folder(tmp_path)
    assert [name.rpartition(".")[2] for name in cached_files(tmp_path)] == ["json", "npy"]
    monkeypatch.setattr(folders, "_decode", lambda *_: pytest.fail("decoded again"))
    second = read_folder(tmp_path)
    np.testing.assert_array_equal(first.train_images, second.train_images)
    assert isinstance(second.train_images.base, np.memmap) or isinstance(second.train_images.base.base, np.memmap)


def test_the_index_lists_every_file_with_its_size(tmp_path):
    make_folder(tmp_path)
    read_folder(tmp_path)
    index = json.loads(next((tmp_path / ".study-cache").glob("*.json")).read_text())
    expected = [[f"{name}/{number}.png"] for name in ("ant", "bee") for number in range(4)]
    assert [entry[:1] for entry in index["files"]] == expected
    assert all(entry[1] == (tmp_path / entry[0]).stat().st_size for entry in index["files"])


def test_writing_to_the_arrays_leaves_the_cache_alone(tmp_path):
    pixels = make_folder(tmp_path)
    read_folder(tmp_path).train_images[:] = 0
    np.testing.assert_array_equal(read_folder(tmp_path).train_images[0, 0], pixels["ant"][0])


def test_a_changed_file_is_decoded_anew_and_the_old_cache_goes(tmp_path):
    make_folder(tmp_path)
    read_folder(tmp_path)
    before = cached_files(tmp_path)
    changed = save(tmp_path / "ant" / "0.png")
    os.utime(tmp_path / "ant" / "0.png", ns=(0, 12345))
    np.testing.assert_array_equal(read_folder(tmp_path).train_images[0, 0], changed)
    after = cached_files(tmp_path)
    assert len(after) == 2
    assert not set(before) & set(after)


@pytest.mark.parametrize("suffix", ["npy", "json"])
def test_a_damaged_cache_is_decoded_anew(tmp_path, suffix):
    pixels = make_folder(tmp_path)
    read_folder(tmp_path)
    file = next((tmp_path / ".study-cache").glob(f"*.{suffix}"))
    file.write_bytes(file.read_bytes()[:-9])
    np.testing.assert_array_equal(read_folder(tmp_path).train_images[0, 0], pixels["ant"][0])


def test_a_file_that_is_no_image_is_named_and_leaves_nothing(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "bee" / "broken.png").write_text("hello")
    with pytest.raises(InputError, match=r"broken\.png' cannot be read as an image") as caught:
        read_folder(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / ".study-cache").exists()


def test_an_image_cut_short_is_named_and_leaves_nothing(tmp_path):
    make_folder(tmp_path, size=(40, 40))
    file = tmp_path / "bee" / "3.png"
    file.write_bytes(file.read_bytes()[:300])  # the header is whole, the pixels are not
    with pytest.raises(InputError, match=r"3\.png' cannot be read as an image"):
        read_folder(tmp_path)
    assert not (tmp_path / ".study-cache").exists()


def test_sixteen_bit_images_are_refused(tmp_path):
    make_folder(tmp_path)
    Image.fromarray(np.full((4, 5), 40000, np.uint16)).save(tmp_path / "ant" / "deep.png")
    with pytest.raises(InputError, match=r"deep\.png' has the mode I;16; images must have 8 bits a channel"):
        read_folder(tmp_path)


def test_transparency_is_dropped(tmp_path):
    make_folder(tmp_path, mode="RGB")
    Image.new("RGBA", (5, 4), (10, 20, 30, 128)).save(tmp_path / "ant" / "0.png")
    assert read_folder(tmp_path).train_images[0, :, 0, 0].tolist() == [10, 20, 30]


def test_a_folder_that_cannot_be_written_is_cached_in_the_users_cache(tmp_path, own_cache):
    pixels = make_folder(tmp_path)
    (tmp_path / ".study-cache").write_text("a file where the folder would be")
    np.testing.assert_array_equal(read_folder(tmp_path).train_images[0, 0], pixels["ant"][0])
    assert len(list(own_cache.glob("training-choice-study/folders/*/*.npy"))) == 1


def test_nowhere_to_keep_the_decoded_images_is_an_error(tmp_path, own_cache):
    make_folder(tmp_path)
    (tmp_path / ".study-cache").write_text("")
    (own_cache / "training-choice-study").write_text("")
    with pytest.raises(InputError, match=r"The decoded images can be kept neither in .* nor in "):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda root: root.rmdir(), "There is no folder"),
        (lambda root: (root / "a.png").write_text(""), "holds no folders; folder:DIR needs one folder of images"),
        (lambda root: (root / "ant").mkdir(), "ant' holds no images; known are "),
        (lambda root: [make_folder(root / "train"), make_folder(root / "test", ("cat",))], "The class 'cat' is in "),
        (lambda root: [make_folder(root / "train"), make_folder(root / "val")], "train' holds no images"),
    ],
)
def test_a_folder_without_images_by_class_is_refused(tmp_path, build, message):
    root = tmp_path / "images"
    root.mkdir()
    build(root)
    with pytest.raises(InputError, match=message) as caught:
        read_folder(root)
    assert "\n" not in str(caught.value)


def test_the_cache_home_follows_the_environment(monkeypatch, tmp_path):
    assert cache_home().is_relative_to(os.environ["XDG_CACHE_HOME"])
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_home() == tmp_path / ".cache" / "training-choice-study"
