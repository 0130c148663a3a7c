"""Records that are not there, cannot be read, or do not hold what is asked for; what reads them and what predicts."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.bad_input.data_rules import NOT_BYTES, broken_archives, good_arrays, images, npy, npz, seeds
from tests.bad_input.rules import Rule, anything, database, typed, words
from tests.bad_input.workplace import Case

READERS = ("analysis.report", "analysis.claims", "analysis.across")
FORMATS = {
    "analysis.report": ("html", "text", "markdown", "json"),
    "analysis.claims": ("text", "markdown", "json"),
    "analysis.across": ("html", "text", "markdown"),
}
#: Stand for what a session sets up: a store with studies, and servers that are not MLflow.
STORE, BROKEN_SERVER, OTHER_SERVER = "{STORE}", "{BROKEN_SERVER}", "{OTHER_SERVER}"
NOTHING = st.just(())
LONG = st.integers(256, 3000).map(lambda length: "x" * length)


def reading(
    uris: SearchStrategy[str], *, files: dict | None = None, names: SearchStrategy[str] = anything
) -> SearchStrategy[Case]:
    """A command that reads a record at one of these addresses."""

    def build(command: str, uri: str, name: str, other: str) -> Case:
        second = (f"--study={name}-{other}",) if command == "analysis.across" else ()
        return Case((f"--study={name}", *second, f"--tracking-uri={uri}"), files or {}, command)

    return st.builds(build, st.sampled_from(READERS), uris, names, words)


def comparing(*studies: str, more: SearchStrategy[tuple[str, ...]] = NOTHING) -> SearchStrategy[Case]:
    """A comparison of these studies, one of them named several times over."""

    def build(again: list[str], form: str, order: bool, extra: tuple[str, ...]) -> Case:
        names = [*studies, *again] if order else [*again, *studies]
        named = (f"--study={name}" for name in names)
        return Case((*named, f"--format={form}", f"--tracking-uri={STORE}", *extra), {}, "analysis.across")

    again = st.lists(st.sampled_from(studies), max_size=3)
    return st.builds(build, again, st.sampled_from(FORMATS["analysis.across"]), st.booleans(), more)


def predicting(
    *flags: str, files: SearchStrategy[dict], more: SearchStrategy[tuple[str, ...]] = NOTHING
) -> SearchStrategy[Case]:
    """A prediction from these files."""
    return st.builds(lambda found, extra: Case((*flags, *extra), found, "study.predict"), files, more)


def given_input(contents: SearchStrategy[bytes], study: str = "stub") -> SearchStrategy[Case]:
    return predicting(
        f"--study={study}",
        "--input=it.npz",
        f"--tracking-uri={STORE}",
        files=contents.map(lambda content: {"it.npz": content}),
    )


good_input = st.just({"it.npz": npz(good_arrays(0))})
reader_flags = st.one_of(
    words.map(lambda word: ("--study=a", f"--{word}-{word}=1")),
    words.map(lambda word: ("--study=a", f"--format=no-{word}")),
    words.map(lambda word: (f"--output={word}",)),
    st.just(("--study",)),
)
unreachable = st.one_of(
    words.map(lambda name: f"sqlite:///{name}.db"),
    words.map(lambda name: f"sqlite:///missing/{name}.db"),
    LONG.map(lambda name: f"sqlite:///{name}"),
    st.sampled_from(("sqlite:///", "sqlite:///.", "sqlite:///a_folder")),
)

RULES = [
    Rule(
        "{}",
        st.builds(
            lambda command, flags: Case(flags, {}, command), st.sampled_from((*READERS, "study.predict")), reader_flags
        ),
    ),
    Rule(
        "Arguments must be UTF-8 text",
        st.builds(
            lambda command, byte, word: Case((f"--study={word}", f"--tracking-uri={chr(byte)}"), {}, command),
            st.sampled_from((*READERS, "study.predict", "study.launch")),
            st.integers(0xDC80, 0xDCFF),
            words,
        ),
    ),
    Rule("the file does not exist; name another", reading(unreachable, files={"a_folder": None})),
    Rule(
        "the file does not exist; name another",
        st.builds(lambda name: Case((f"--resume={name}",), {}, "study.launch"), words),
    ),
    Rule(
        "No MLflow record at {}: not a folder",
        reading(
            st.one_of(words, words.map(lambda name: f"file:///no/{name}"), st.just("a_file"), LONG),
            files={"a_file": b""},
        ),
    ),
    Rule(
        "store.py: No MLflow record at {}: {}.",
        reading(
            st.sampled_from(("sqlite:///a_file", "sqlite:///./a_file")),
            files={"a_file": b"SQLite format 3\0" + bytes(range(200))},
        ),
    ),
    Rule(
        "The address {} cannot be read",
        reading(
            st.one_of(
                st.sampled_from(
                    ("http://[::1", "http://[", "postgresql://h:99999/it", "http://h:port/", "mysql://u@h:-1/it")
                )
            )
        ),
    ),
    Rule(
        "the database holds no experiments",
        st.builds(
            lambda seed, names, case: Case(case.arguments, {"it.db": database(names, seed)}, case.command),
            seeds,
            st.sampled_from((("other",), ("runs", "metrics"), ("Experiment",))),
            reading(st.just("sqlite:///it.db")),
        ),
    ),
    Rule(
        "was written by an older MLflow",
        st.builds(
            lambda seed, names, case: Case(case.arguments, {"it.db": database(names, seed)}, case.command),
            seeds,
            st.sampled_from((("experiments",), ("experiments", "runs"))),
            reading(st.just("sqlite:///it.db")),
        ),
    ),
    Rule(
        "The MLflow server at {} does not answer",
        reading(st.sampled_from(("http://127.0.0.1:9", "http://127.0.0.1:9/deep", "http://user:secret@127.0.0.1:9"))),
    ),
    Rule("The MLflow server at {} answers", reading(st.just(BROKEN_SERVER))),
    Rule("does not answer as MLflow does", reading(st.just(OTHER_SERVER))),
    Rule(
        "The MLflow record at {} cannot be read",
        reading(words.map(lambda word: f"gopher-{word.replace('_', '-')}://nowhere")),
    ),
    Rule(
        "Unknown study {} in {}",
        reading(
            st.just(STORE),
            names=(words | anything).filter(
                lambda name: name not in ("tuned", "other", "searching", "stated", "fair", "apart")
            ),
        ),
    ),
    Rule(
        "Unknown study {} in {}",
        st.builds(lambda name: Case((f"--resume=no-{name}", f"--tracking-uri={STORE}"), {}, "study.launch"), words),
    ),
    Rule(
        "a comparison needs two studies or more",
        st.builds(
            lambda name, times, uri: Case(
                (*(f"--study={name}",) * times, f"--tracking-uri={uri}"), {}, "analysis.across"
            ),
            anything,
            st.integers(1, 4),
            st.sampled_from((STORE, "nowhere")),
        ),
    ),
    Rule("has no confirm run", comparing("tuned", "searching")),
    Rule("Studies of different factors", comparing("tuned", "other")),
    Rule(
        "confirmed {} only",
        comparing(
            "tuned", "stated", more=st.sampled_from(("stated", "fair")).map(lambda regime: (f"--regime={regime}",))
        ),
    ),
    Rule("No regime is common to the studies", comparing("tuned", "stated")),
    Rule("No arm is common to the studies", comparing("tuned", "apart")),
    Rule(
        "which is no report's: it has no claims",
        st.builds(
            lambda name, form, times: Case(
                (*(f"--study={name}",) * times, f"--format={form}", f"--tracking-uri={STORE}"), {}, "analysis.claims"
            ),
            st.sampled_from(("tuned", "other", "apart")),
            st.sampled_from(FORMATS["analysis.claims"]),
            st.integers(1, 4),
        ),
    ),
    Rule(
        "`--report {}`: the studies named are of",
        st.builds(
            lambda report, form, times: Case(
                (*("--study=stated",) * times, f"--report={report}", f"--format={form}", f"--tracking-uri={STORE}"),
                {},
                "analysis.claims",
            ),
            st.sampled_from(("001", "002", "004")),
            st.sampled_from(FORMATS["analysis.claims"]),
            st.integers(1, 4),
        ),
    ),
    Rule(
        "Cannot write {}",
        st.builds(
            lambda name, report: Case(
                ("--all", f"--output={name}", f"--report={report}", f"--tracking-uri={STORE}"),
                {"a_file": b"", "a_folder": None},
                "analysis.claims",
            ),
            words.map(lambda word: f"a_file/{word}") | LONG | st.just("a_folder"),
            st.sampled_from(("001", "002", "004")),
        ),
    ),
    Rule(
        "is on record in MLflow already",
        typed(
            st.sampled_from(("tuned", "other", "searching", "stated", "apart")).map(
                lambda name: (f"--name={name}", f"--tracking-uri={STORE}")
            )
        ),
    ),
    Rule(
        "The MLflow experiment {} is deleted",
        typed(
            words.map(lambda name: (f"--name=new-{name}", f"--tracking-uri={STORE}", "--experiment-name=gone")),
            without=("--experiment-name",),
        ),
    ),
    Rule(
        "`--output` {} is a folder",
        predicting(
            "--study=stub",
            "--input=it.npz",
            files=good_input.map(lambda files: {**files, "a_folder": None}),
            more=st.builds(
                lambda name, other: (f"--output={name}", f"--arm={other}"),
                st.sampled_from((".", "a_folder", "..", "/", "a_folder/.", "./")),
                words,
            ),
        ),
    ),
    Rule(
        "`--output` {} lies in a folder that does not exist",
        predicting(
            "--study=stub",
            "--input=it.npz",
            files=good_input.map(lambda files: {**files, "a_file": b""}),
            more=st.one_of(
                words.map(lambda word: f"no-{word}/it.csv"), words.map(lambda word: f"a_file/{word}.csv")
            ).map(lambda name: (f"--output={name}",)),
        ),
    ),
    Rule(
        "`--output` {} cannot be a file",
        predicting(
            "--study=stub", "--input=it.npz", files=good_input, more=LONG.map(lambda name: (f"--output={name}.csv",))
        ),
    ),
    Rule(
        "There is no file {}; `--input` needs",
        predicting(
            "--study=stub",
            files=st.just({"a_folder": None}),
            more=st.one_of(anything.map(lambda text: f"no/{text}"), LONG, st.just("a_folder")).map(
                lambda name: (f"--input={name}",)
            ),
        ),
    ),
    Rule("predict.py: {} cannot be read as an npz file of plain arrays", given_input(broken_archives)),
    Rule("predict.py: {} holds one bare array", given_input(seeds.map(lambda seed: npy(images(seed, 3, 4, 5))))),
    Rule(
        "{} has no array 'images'; found",
        given_input(
            st.dictionaries(words.filter(lambda word: word != "images"), st.just(np.arange(3)), max_size=3).map(npz)
        ),
    ),
    Rule(
        "have the dtype {}; images must be uint8",
        given_input(
            st.builds(
                lambda kind, count: npz({"images": np.zeros((count, 4, 5), kind)}),
                st.sampled_from(NOT_BYTES),
                st.integers(1, 5),
            )
        ),
    ),
    Rule(
        "The class_names of {} are not text",
        given_input(
            st.integers(128, 255).map(
                lambda byte: npz({**good_arrays(0), "class_names": np.array([bytes([byte]) + b"a", b"b"])})
            )
        ),
    ),
    Rule(
        "(channels, height, width); the model of the study",
        given_input(
            st.builds(
                lambda seed, height, width: npz({"images": images(seed, 3, height, width)}),
                seeds,
                st.integers(5, 9),
                st.integers(1, 9),
            )
        ),
    ),
    Rule(
        "beside labels they must be the model's",
        given_input(
            st.lists(words, min_size=3, max_size=30, unique=True)
            .filter(lambda names: names != ["a", "b", "c"])
            .map(lambda names: npz({**good_arrays(0), "class_names": np.array(names)}))
        ),
    ),
    Rule(
        "labels must lie in 0 to",
        given_input(
            st.one_of(st.integers(3, 2**62), st.integers(-(2**62), -3)).map(
                lambda shift: npz({**good_arrays(0), "labels": np.arange(24) % 3 + shift})
            )
        ),
    ),
    Rule(
        "No registered model of a study",
        predicting(
            "--input=it.npz",
            f"--tracking-uri={STORE}",
            files=good_input,
            more=anything.filter(lambda name: name not in ("tuned", "apart", "other", "stub")).map(
                lambda name: (f"--study={name}",)
            ),
        ),
    ),
    Rule(
        "has no model of an arm",
        predicting(
            "--study=tuned",
            "--input=it.npz",
            f"--tracking-uri={STORE}",
            files=good_input,
            more=anything.filter(lambda name: name != "mse").map(lambda name: (f"--arm={name}",)),
        ),
    ),
    Rule(
        "was not logged by a study",
        predicting(
            "--study=apart",
            "--input=it.npz",
            f"--tracking-uri={STORE}",
            files=seeds.map(lambda seed: {"it.npz": npz(good_arrays(seed))}),
        ),
    ),
    Rule(
        "registry.py: {} cannot be loaded",
        predicting(
            "--study=other",
            "--input=it.npz",
            f"--tracking-uri={STORE}",
            files=seeds.map(lambda seed: {"it.npz": npz(good_arrays(seed))}),
        ),
    ),
]
