"""Data sets that cannot be read, or that no classifier can be trained on, and parts of a user's own that fail."""

import functools
import gzip
import io
import pickle
import struct
import zipfile
from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from PIL import Image

from tests.bad_input.rules import TUNED, Rule, among_good_flags, anything, flag, nasty, words
from tests.bad_input.space_rules import FIXED, one_arm
from tests.bad_input.workplace import Case, Link

NOT_BYTES = (
    "bool",
    "int8",
    "int16",
    "uint16",
    "int64",
    "float32",
    "float64",
    "complex64",
    "U3",
    "S3",
    "M8[s]",
    "i4,i4",
)
NOT_INTEGERS = ("bool", "float32", "float64", "complex64", "U3", "S3", "M8[s]", "i4,i4")
IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 6)


def images(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def good_arrays(seed: int, num_images: int = 24) -> dict[str, np.ndarray]:
    return {"images": images(seed, num_images, 4, 5), "labels": np.arange(num_images) % 3, "unused": np.array(seed)}


def npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def npz_case(contents: SearchStrategy[bytes], *more: str) -> SearchStrategy[Case]:
    """The command line with a data set of this content."""
    good = among_good_flags(st.just(()), first=TUNED)
    return st.builds(
        lambda content, name, flags: Case((*flags, f"--dataset=npz:{name}.npz", *more), {f"{name}.npz": content}),
        contents,
        words,
        good,
    )


def changed(changes: SearchStrategy[Mapping[str, object]]) -> SearchStrategy[Case]:
    """Good arrays with some replaced, or taken away where the new one is None."""
    return npz_case(
        st.builds(
            lambda seed, new: npz(
                {key: value for key, value in {**good_arrays(seed), **new}.items() if value is not None}
            ),
            seeds,
            changes,
        )
    )


def cut_or_flipped(content: bytes, place: int, kind: str) -> bytes:
    """A damaged file: cut short, or with bytes overwritten."""
    place %= max(len(content), 1)
    if kind == "cut":
        return content[:place]
    noise = images(place, 8 if kind == "bytes" else 64).tobytes()
    return (content[:place] + noise + content[place + len(noise) :])[: len(content)]


@functools.cache
def bomb() -> bytes:
    """An archive whose labels would write a file if anybody unpickled them."""

    class Payload:
        def __reduce__(self):
            return (exec, ("open('unpickled', 'w').close()",))

    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (24,)})
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("images.npy", npy(images(0, 24, 4, 5)))
        archive.writestr("labels.npy", header.getvalue() + pickle.dumps([Payload()] * 24))
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def with_header(text: str) -> bytes:
    """An archive whose images have this header."""
    padded = text.encode("latin1", "replace").ljust(117) + b"\n"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + bytes(480))
        archive.writestr("labels.npy", npy(np.arange(24) % 3))
    return stream.getvalue()


def zipped(method: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, array in good_arrays(0).items():
            archive.writestr(f"{name}.npy", npy(array))
    return stream.getvalue()


def flags_of(content: bytes, flag_bits: int, method: int) -> bytes:
    """An archive that says it is encrypted, or packed as nobody can unpack."""
    for mark, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        start = content.find(mark) + place
        content = content[:start] + struct.pack("<HH", flag_bits, method) + content[start + 4 :]
    return content


broken_archives = st.one_of(
    st.binary(max_size=200),
    st.builds(
        cut_or_flipped,
        seeds.map(lambda seed: npz(good_arrays(seed))),
        st.integers(0, 40),
        st.sampled_from(("cut", "noise")),
    ),
    st.builds(lambda seed, length: npz(good_arrays(seed))[:length], seeds, st.integers(0, 900)),
    st.sampled_from((zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)).map(
        lambda method: cut_or_flipped(zipped(method), 60, "noise")
    ),
    st.sampled_from([(1, 0), (0, 99), (1, 8), (0, 1)]).map(lambda bits: flags_of(zipped(zipfile.ZIP_STORED), *bits)),
    st.builds(lambda seed: bomb() + bytes(seed % 7), seeds),
    st.sampled_from(
        (
            "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999,), }",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (24,), }",
            "{'descr': '|u1', 'fortran_order': 3, 'shape': (24,), }",
            "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (2,), }",
            "{",
            "'''",
            "[" * 110,
            "nonsense(",
            "{'descr': None, 'fortran_order': False, 'shape': (1,), }",
            "__import__('os').system('true')",
        )
    ).map(with_header),
)
idx = {
    "train-images-idx3-ubyte": struct.pack(">HBBIII", 0, 8, 3, 24, 4, 5) + bytes(480),
    "train-labels-idx1-ubyte": struct.pack(">HBBI", 0, 8, 1, 24) + bytes(i % 3 for i in range(24)),
    "t10k-images-idx3-ubyte": struct.pack(">HBBIII", 0, 8, 3, 6, 4, 5) + bytes(120),
    "t10k-labels-idx1-ubyte": struct.pack(">HBBI", 0, 8, 1, 6) + bytes(i % 3 for i in range(6)),
}


def idx_case(name: str, content: bytes) -> Case:
    files = {f"data/{file}": good for file, good in idx.items() if file != name.removesuffix(".gz")}
    return Case((*TUNED, "--dataset=mnist", "--data-dir=data"), {**files, f"data/{name}": content})


not_idx = st.one_of(
    st.binary(max_size=40).filter(lambda content: content[:3] != b"\0\0\x08"),
    st.integers(5, 255).map(lambda count: struct.pack(">HBB", 0, 8, count) + struct.pack(">I", 1) * count + b"\0"),
    st.integers(9, 255).map(lambda kind: struct.pack(">HBBI", 0, kind, 1, 4) + bytes(4)),
    st.binary(max_size=3),
)
other_lengths = st.one_of(
    st.integers(0, 23).map(lambda length: struct.pack(">HBBI", 0, 8, 1, 24) + bytes(length)),
    st.lists(st.sampled_from((2**31, 2**32 - 1, 2**16)), min_size=2, max_size=4).map(
        lambda shape: struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    ),
)


def picture(seed: int, kind: str = "PNG", mode: str = "L") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(images(seed, 5, 4)).convert(mode).save(stream, kind)
    return stream.getvalue()


def folder(files: Mapping[str, bytes | Link | None], *more: str) -> Case:
    return Case((*TUNED, "--dataset=folder:it", *more), {f"it/{name}": content for name, content in files.items()})


def two_classes(seed: int, **changes: bytes) -> dict[str, bytes]:
    good = {f"{name}/{number}.png": picture(seed) for name in "ab" for number in range(3)}
    return {**good, **{f"a/{name.replace('_', '.')}": content for name, content in changes.items()}}


def damaged(seed: int, kind: str, place: int) -> Case:
    """A folder with a picture that is none."""
    content = cut_or_flipped(picture(seed, kind), place, "noise" if place % 2 else "cut")
    suffix = {"JPEG": "jpg", "TIFF": "tif"}.get(kind, kind.lower())
    return folder(two_classes(seed, **{f"9_{suffix}": content}))


OWN = """
import numpy as np
from trainables.data import Dataset
GOOD = dict(
    name="own", train_images=np.zeros((24, 1, 4, 5), np.uint8), train_labels=np.arange(24) % 3,
    test_images=np.zeros((6, 1, 4, 5), np.uint8), test_labels=np.arange(6) % 3, class_names=("a", "b", "c"),
    mean=(0.5,), std=(0.5,),
)
"""


def own_case(expressions: SearchStrategy[str]) -> SearchStrategy[Case]:
    """The command line with a function of the user's own that returns this."""
    return st.builds(
        lambda text, name: Case(
            (*TUNED, f"--dataset=own_{name}:load"),
            {f"own_{name}.py": f"{OWN}def load():\n    return {text}\n".encode()},
        ),
        expressions,
        words,
    )


def own_dataset(**changes: SearchStrategy[str]) -> SearchStrategy[Case]:
    return own_case(
        st.fixed_dictionaries(changes).map(
            lambda found: f"Dataset(**{{**GOOD, {', '.join(f'{k!r}: {v}' for k, v in found.items())}}})"
        )
    )


PARTS = """
import torch
from torch import nn
class Broken:
    pass
def no_module(*a, **k): return 3
def raises(*a, **k): raise RuntimeError("two\\nlines")
def leaves(*a, **k): raise SystemExit(0)
def narrow(shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear(20, classes + 1))
def listed(shape, classes):
    class Listed(nn.Module):
        def forward(self, images): return [images]
    return Listed()
class Failing(nn.Module):
    def __init__(self, *a): super().__init__()
    def forward(self, images): raise ValueError("no")
class Leaving(nn.Module):
    def __init__(self, *a): super().__init__()
    def forward(self, images): raise SystemExit(0)
def mean(logits, labels): return logits.mean()
def number(logits, labels): return 1.0
def detached(logits, labels): return logits.detach().sum(1)
NUMBER = 3
"""


def part(key: str, names: tuple[str, ...]) -> SearchStrategy[Case]:
    """A space that fixes a part of the user's own."""
    return st.builds(
        lambda name, word, size: Case(
            (f"--space={word}.py", "--dataset=npz:it.npz"),
            {
                f"{word}.py": one_arm(
                    {**FIXED, key: f"own_{word}:{name}" if name else word, "batch_size": size}
                ).encode(),
                f"own_{word}.py": PARTS.encode(),
                "it.npz": npz(good_arrays(0)),
            },
        ),
        st.sampled_from(names), words, st.integers(1, 512),
    )  # fmt: skip


def parameter(key: str, values: SearchStrategy[object], base: Mapping[str, object] = FIXED) -> SearchStrategy[Case]:
    """A space that fixes a parameter of a part of the table."""
    return st.builds(
        lambda value, word: Case(
            (f"--space={word}.py", "--dataset=npz:it.npz"),
            {f"{word}.py": one_arm({**base, key: value}).encode(), "it.npz": npz(good_arrays(0))},
        ),
        values,
        words,
    )


not_sizes = st.integers(-(2**40), 0) | st.booleans() | st.floats(-9, 9) | words
out_of_unit = st.one_of(st.floats(-1e9, 0, exclude_max=True), st.floats(1, 1e9), st.booleans(), words)
FOCAL = {**FIXED, "loss": "focal"}

RULES = [
    Rule(
        "config.py: Unknown {} {}; choose from",
        flag("--dataset", (words.map(lambda word: f"no-{word}") | nasty).filter(lambda text: ":" not in text)),
        "Unknown dataset",
    ),
    Rule("config.py: Unknown {} {}; choose from", part("loss", ("",)), "Unknown loss"),
    Rule(
        "The {} {} cannot be imported",
        flag(
            "--dataset",
            words.map(lambda word: f"nowhere_{word}:load")
            | st.sampled_from((":load", "os:", "..os:path", "os:a:b", "a b:c")),
        ),
        "The dataset",
    ),
    Rule(
        "The {} {} cannot be imported",
        part("optimizer", ("nothing", "", "raises.x"))
        .filter(lambda case: b":'" not in next(iter(case.files.values())))
        .map(
            lambda case: Case(
                case.arguments, {k: (v if "own" not in k else b"raise SystemExit(0)") for k, v in case.files.items()}
            )
        )
        .filter(lambda case: b"own_" in next(iter(case.files.values()))),
        "The optimizer",
    ),
    Rule("names no path; write", flag("--dataset", st.sampled_from(("npz:", "folder:")))),
    Rule(
        "begins with the home of a user who is not known",
        flag(
            "--dataset",
            st.builds(lambda kind, word: f"{kind}:~nobody-{word}/it", st.sampled_from(("npz", "folder")), words),
        ),
    ),
    Rule(
        "There is no file {}; npz:FILE needs",
        flag(
            "--dataset",
            st.one_of(
                anything.map(lambda text: f"npz:no/{text}"),
                st.integers(256, 999).map(lambda length: f"npz:{'x' * length}"),
                st.sampled_from(("npz:folder", "npz:loop", "npz:/dev/null", "npz:.")),
            ),
            files={"folder": None, "loop": Link("loop")},
        ),
    ),
    Rule("sources.py: {} cannot be read as an npz file of plain arrays", npz_case(broken_archives)),
    Rule("sources.py: {} holds one bare array", npz_case(seeds.map(lambda seed: npy(images(seed, 3, 4, 5))))),
    Rule(
        "has no array {}; it needs images and labels",
        changed(st.sampled_from(("images", "labels")).map(lambda key: {key: None})),
    ),
    Rule(
        "test_images and test_labels come together",
        changed(st.sampled_from(("test_images", "test_labels")).map(lambda key: {key: np.arange(24)})),
    ),
    Rule(
        "have the dtype {}; images must be uint8",
        changed(st.sampled_from(NOT_BYTES).map(lambda kind: {"images": np.zeros((24, 4, 5), kind)})),
    ),
    Rule(
        "images must be N×H×W or N×H×W×C",
        changed(
            st.lists(st.integers(0, 6), max_size=5)
            .filter(lambda shape: len(shape) not in (3, 4) or 0 in shape or (len(shape) == 4 and shape[3] > 4))
            .map(lambda shape: {"images": np.zeros(shape, np.uint8)})
        ),
    ),
    Rule(
        "have the dtype {}; labels must be integers",
        changed(st.sampled_from(NOT_INTEGERS).map(lambda kind: {"labels": np.zeros(24, kind)})),
    ),
    Rule(
        "have the shape {}; one per image would be",
        changed(
            st.lists(st.integers(0, 30), max_size=3)
            .filter(lambda shape: shape != [24])
            .map(lambda shape: {"labels": np.zeros(shape, int)})
        ),
    ),
    Rule(
        "they must run from 0 without a gap",
        changed(
            st.one_of(st.integers(1, 2**62), st.integers(-(2**62), -1)).map(
                lambda shift: {"labels": np.arange(24) % 3 + shift}
            )
        ),
    ),
    Rule(
        "labels must lie in 0 to",
        changed(
            st.one_of(st.integers(1, 2**62), st.integers(-(2**62), -1)).map(
                lambda shift: {"labels": np.arange(24) % 3 + shift, "class_names": np.array(["a", "b", "c"])}
            )
        ),
    ),
    Rule(
        "(C, H, W); they must be {} as its images are",
        changed(
            st.builds(
                lambda height, width: {
                    "test_images": np.zeros((3, height, width), np.uint8),
                    "test_labels": np.arange(3),
                },
                st.integers(5, 9),
                sizes,
            )
        ),
    ),
    Rule(
        "they must be a list of strings",
        changed(
            st.sampled_from(
                (np.arange(3), np.array([["a"]]), np.array("a"), np.zeros(3), np.array([], "U1"), np.array([True]))
            ).map(lambda names: {"class_names": names})
        ),
    ),
    Rule(
        "The class_names of {} are not text",
        changed(
            st.integers(128, 255).map(lambda byte: {"class_names": np.array([bytes([byte]) + b"a", b"b", b"c"])})
            | st.integers(0xD800, 0xDFFF).map(lambda code: {"class_names": np.array([chr(code), "b", "c"])})
            | st.integers(0x110000, 2**32 - 1).map(
                lambda code: {"class_names": np.array([code, 98, 99], np.uint32).view("U1")}
            )
        ),
    ),
    Rule("are {}; they must differ", changed(words.map(lambda word: {"class_names": np.array([word, word, "other"])}))),
    Rule("is not an idx file of unsigned bytes", st.builds(idx_case, st.sampled_from(IDX_NAMES), not_idx)),
    Rule("values; its header says", st.builds(idx_case, st.sampled_from(IDX_NAMES), other_lengths)),
    Rule(
        "sources.py: {} cannot be read: {}.",
        st.builds(
            lambda name, content: idx_case(f"{name}.gz", content),
            st.sampled_from(IDX_NAMES),
            st.binary(min_size=1, max_size=40)
            | st.integers(1, 30).map(lambda length: gzip.compress(idx[IDX_NAMES[0]])[:length]),
        ),
    ),
    Rule(
        "could not be downloaded",
        st.builds(
            lambda name, word, file: Case(
                (*TUNED, f"--dataset={name}", f"--data-dir={'a_file/' if file else ''}{word}/deep"), {"a_file": b""}
            ),
            st.sampled_from(("mnist", "kmnist")),
            words,
            st.booleans(),
        ),
    ),
    Rule(
        "There is no folder {}; folder:DIR needs",
        flag(
            "--dataset",
            st.one_of(
                anything.map(lambda text: f"folder:no/{text}"),
                st.integers(256, 999).map(lambda length: f"folder:{'x' * length}"),
                st.sampled_from(("folder:a_file", "folder:loop", "folder:loop/it", "folder:/dev/null")),
            ),
            files={"a_file": b"", "loop": Link("loop")},
        ),
    ),
    Rule(
        "holds no folders; folder:DIR needs one folder",
        st.builds(
            lambda names: folder({".": None, **{f"{name}.png": b"" for name in names}}),
            st.lists(words, min_size=1, max_size=3),
        ),
    ),
    Rule(
        "holds no images; known are",
        st.builds(
            lambda name, other: folder(
                {f"{name}/notes.txt": b"", f"{other}-2/.hidden.png": b"", f"{name}/{other}.png": Link("nowhere")}
            ),
            words,
            words,
        ),
    ),
    Rule(
        "is in {} only; it must be in train too",
        st.builds(
            lambda name, seed: folder(
                {
                    **{
                        f"{part}/{label}/{n}.png": picture(seed)
                        for part in ("train", "test")
                        for label in "ab"
                        for n in range(2)
                    },
                    f"test/no-{name}/0.png": picture(seed),
                }
            ),
            words,
            seeds,
        ),
    ),
    Rule(
        "folders.py: The folder {} has 1 class",
        st.builds(lambda name, seed: folder({f"{name}/{n}.png": picture(seed) for n in range(3)}), words, seeds),
    ),
    Rule(
        "training images; every class needs",
        st.builds(
            lambda name, seed, count: folder(
                {
                    **{f"{name}-1/{n}.png": picture(seed) for n in range(3)},
                    **{f"{name}-2/{n}.png": picture(seed) for n in range(count)},
                }
            ),
            words,
            seeds,
            st.integers(1, 2),
        ),
    ),
    Rule("cannot be read as an image.", st.builds(damaged, seeds, st.sampled_from(IMAGE_FORMATS), st.integers(0, 2))),
    Rule(
        "cannot be read as an image.",
        st.builds(lambda content: folder(two_classes(0, **{"0_png": content})), st.binary(max_size=60)),
    ),
    Rule(
        "cannot be read as an image: it is damaged",
        st.builds(
            lambda seed, kind, lost: folder(two_classes(seed, **{f"9_{kind.lower()}": picture(seed, kind)[:-lost]})),
            seeds,
            st.sampled_from(("BMP", "PPM")),
            st.integers(1, 19),
        ),
    ),
    Rule(
        "The decoded images can be kept neither in",
        seeds.map(
            lambda seed: Case(
                (*TUNED, "--dataset=folder:it"),
                {
                    **{f"it/{name}": content for name, content in two_classes(seed).items()},
                    "it/.study-cache": b"",
                    "../home/.cache": b"",
                },
            )
        ),
    ),
    Rule(
        "images must have 8 bits a channel",
        st.builds(
            lambda seed, mode: folder(two_classes(seed, **{"0_tif": picture(seed, "TIFF", mode)})),
            seeds,
            st.sampled_from(("I", "I;16", "F")),
        ),
    ),
    Rule(
        "The dataset {} raised",
        own_case(
            st.sampled_from(
                (
                    "1 / 0",
                    "open('nowhere')",
                    "exit(0)",
                    "__import__('sys').exit()",
                    "[][0]",
                    "{}['a\\nb']",
                    "next(iter(()))",
                )
            )
        ),
    ),
    Rule(
        "it must return a Dataset or a mapping",
        own_case(st.one_of(st.integers(), st.none(), st.lists(words, max_size=2), words).map(repr)),
    ),
    Rule(
        "has no array {}; it needs images and labels",
        own_case(st.dictionaries(st.integers() | words, st.integers(), max_size=3).map(repr)),
    ),
    Rule(
        "are no array",
        own_case(
            st.lists(st.integers(1, 9), min_size=2, max_size=4)
            .filter(lambda found: len(set(found)) > 1)
            .map(lambda lengths: f"{{'images': {[[1] * length for length in lengths]}, 'labels': [1]}}")
        ),
    ),
    Rule(
        "a Dataset's images are N×C×H×W",
        own_dataset(
            train_images=st.lists(st.integers(1, 5), max_size=6)
            .filter(lambda shape: len(shape) != 4)
            .map(lambda shape: f"np.zeros({shape}, np.uint8)")
        ),
    ),
    Rule(
        "as its train_images are",
        own_dataset(
            test_images=st.builds(
                lambda height, width: f"np.zeros((6, 1, {height}, {width}), np.uint8)", st.integers(5, 9), sizes
            )
        ),
    ),
    Rule(
        "must have one value for each of its",
        own_dataset(
            std=st.one_of(
                st.floats(-9, 0),
                st.floats(0, 9).map(lambda n: (n, n)),
                st.sampled_from((None, "()", 5, ("a",))),
                st.just((1e999,)),
                st.floats(-9, 0).map(lambda n: (n,)),
            ).map(lambda value: f"{str(value).replace('inf', '9e999')}")
        ),
    ),
    Rule(
        "`classes` must be two or more different classes",
        st.builds(
            lambda chosen, case: Case((*case.arguments, f"--classes={','.join(map(str, chosen))}"), case.files),
            st.integers(0, 99).map(lambda n: [n]) | st.lists(st.integers(0, 2), min_size=4, max_size=9),
            npz_case(seeds.map(lambda seed: npz(good_arrays(seed)))),
        ),
    ),
    Rule(
        "`classes` of {} must be integers from 0 to",
        st.builds(
            lambda other, case: Case((*case.arguments, f"--classes=0,{other}"), case.files),
            st.integers(3) | st.integers(max_value=-1),
            npz_case(seeds.map(lambda seed: npz(good_arrays(seed)))),
        ),
    ),
    Rule("subsets.py: The dataset {} has {} class", changed(st.just({"labels": np.zeros(24, int)}))),
    Rule(
        "has too few training examples",
        changed(st.integers(4, 9).map(lambda count: {"class_names": np.array([f"class {n}" for n in range(count)])})),
    ),
    Rule(
        "has no examples of the classes",
        st.builds(
            lambda case: Case((*case.arguments, "--classes=0,1"), case.files),
            changed(
                sizes.map(
                    lambda count: {"test_images": np.zeros((count, 4, 5), np.uint8), "test_labels": np.full(count, 2)}
                )
            ),
        ),
    ),
    Rule(
        "`imbalance` must be a finite number >= 1",
        st.builds(
            lambda value, case: Case((*case.arguments, f"--imbalance={value}"), case.files),
            st.floats(-1e300, 1, exclude_max=True).map(str) | st.sampled_from(("nan", "inf", "-inf")),
            npz_case(seeds.map(lambda seed: npz(good_arrays(seed)))),
        ),
    ),
    Rule(
        "`train_size` must be an integer from",
        st.builds(
            lambda value, case: Case((*case.arguments, f"--train-size={value}"), case.files),
            st.integers(max_value=5) | st.integers(min_value=25),
            npz_case(seeds.map(lambda seed: npz(good_arrays(seed)))),
        ),
    ),
    Rule("study/apart.py: Arm {}: {}", part("loss", ("mean",))),
    Rule("The {} {} must be callable", part("loss", ("NUMBER",))),
    Rule(
        "The {} {} has no parameter {}; it accepts",
        st.builds(lambda name, case: case, words, parameter("loss.nonsense", st.floats(0, 9))),
    ),
    Rule("`{}` must be a finite number {}; got {}.", parameter("optimizer.momentum", out_of_unit)),
    Rule(
        "`{}` must be a finite number {}; got {}.",
        parameter("loss.gamma", st.floats(-1e9, 0, exclude_max=True) | words, FOCAL),
    ),
    Rule(
        "trainables/models.py: `{}` must be an integer >= {}",
        st.one_of(parameter("width", not_sizes), parameter("hidden_layers", not_sizes)),
    ),
    Rule(
        "`class_reduction` must be one of",
        parameter("loss.class_reduction", words.map(lambda word: f"no-{word}") | st.integers(-9, 9)),
    ),
    Rule("fails on logits of shape", part("loss", ("raises", "leaves"))),
    Rule("must return one value per example", part("loss", ("mean", "number"))),
    Rule("must be differentiable in the logits", part("loss", ("detached",))),
    Rule("cannot be built for images of shape", part("model", ("raises", "leaves", "Broken"))),
    Rule("models.py: The model {} must build a torch.nn.Module", part("model", ("no_module",))),
    Rule("The model {} fails on images of shape", part("model", ("Failing", "Leaving"))),
    Rule("must map images of shape", part("model", ("narrow", "listed"))),
    Rule("The optimizer {} cannot be built", part("optimizer", ("raises", "leaves"))),
    Rule("must build a torch.optim.Optimizer", part("optimizer", ("no_module",))),
    Rule(
        "The activation {} cannot be built without arguments",
        part("activation", ("NUMBER", "narrow", "leaves", "raises")),
    ),
    Rule("The activation {} must build a torch.nn.Module", part("activation", ("no_module",))),
]
