"""Flags that break a rule by themselves, and flags that contradict one another."""

import string

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.bad_input.rules import (
    REPORTED,
    TUNED,
    Rule,
    among_good_flags,
    anything,
    database,
    flag,
    is_parsed,
    nasty,
    one_of_flags,
    typed,
    words,
)
from tests.bad_input.workplace import Case, Link

INTEGERS = ("--trials", "--seeds", "--seed", "--train-size", "--max-concurrent", "--max-failures", "--replicas")
NUMBERS = ("--delta", "--imbalance", "--cpus-per-trial", "--gpus-per-trial", "--epochs-scale")
COUNTS = ("--trials", "--seeds", "--max-concurrent", "--replicas")
CHOICES = {
    "--mode": ("arms", "joint"),
    "--search": ("tpe", "random", "grid"),
    "--stopping": ("asha", "none"),
    "--precision": ("fp32", "bf16"),
    "--schedule": ("constant", "cosine"),
    "--device": ("cpu", "cuda"),
    "--regime": ("stated", "fair", "both"),
}
KNOWN_CHOICES = {choice for choices in CHOICES.values() for choice in choices}
SPACES = (
    "full",
    "smoke",
    "loss_by_optimizer",
    "loss_metrics",
    "one_factor_at_a_time",
    "loss_by_activation",
    "loss_by_depth",
)
NAME = string.ascii_letters + string.digits + "._-"

not_integers = (anything | st.floats().map(str) | st.integers(0).map(lambda n: f"{n}x")).filter(
    lambda text: not is_parsed(int, text)
)
not_numbers = (anything | st.floats(0, 9).map(lambda n: f"{n}%")).filter(lambda text: not is_parsed(float, text))
not_finite = st.sampled_from(("nan", "inf", "-inf", "NaN", "Infinity", "-Infinity", "1e999", "-1e999"))
below_one = st.integers(max_value=0)
negative = st.floats(max_value=0, exclude_max=True).map(str)
parted = st.lists(words, min_size=1, max_size=4)
not_durations = anything.filter(lambda text: not text.strip()[:1].isdigit()) | st.sampled_from(
    ("", "0", "0s", "0h0m0s", "1m1h", "-5m", "1e3", "5 m", "1d", "1.h", ".5h", "nan", "inf", "1h-30m", "30M")
)
not_names = (
    anything.filter(lambda text: not text or not set(text) <= set(NAME) or text[0] in ".-")
    | st.text(NAME, min_size=1, max_size=20).map(lambda text: f".{text}")
    | st.text(NAME, min_size=1, max_size=20).map(lambda text: f"{text}/{text}")
    | st.text(NAME, min_size=101, max_size=300).map(lambda text: f"a{text}")
)
unknown_spaces = anything.filter(lambda text: text not in SPACES and ":" not in text and not text.endswith(".py"))
foreign_to_reported = st.one_of(
    st.integers(0, 99).map(lambda n: f"--trials={n}"),
    st.sampled_from([f"{name}={value}" for name in ("--mode", "--search", "--stopping") for value in CHOICES[name]]),
    st.integers(1, 99).map(lambda n: f"--time-budget={n}m"),
    st.sampled_from(("mlp", "convnet", "constant", "own:model")).map(lambda name: f"--model={name}"),
    st.sampled_from(("--schedule=cosine", "--augment")),
)
foreign_to_tuned = st.one_of(
    st.sampled_from([f"--regime={regime}" for regime in CHOICES["--regime"]]),
    st.floats(0, 2).map(lambda share: f"--epochs-scale={share}"),
)
unknown_flags = st.builds(
    lambda name, value: f"--{name}-{name}{value}", words, st.sampled_from(("", "=1", "=", "=--space", "=a b"))
)
strangers = st.one_of(
    unknown_flags,
    anything.filter(lambda text: not text.startswith("-")),
    st.sampled_from(("--tri=3", "--spac=full", "--see=1", "-v", "-n=3", "--Seed=1")),
)
no_values = st.sampled_from([*INTEGERS, *NUMBERS, *CHOICES, "--name", "--arms", "--baseline", "--dataset", "--classes"])

LOOP = {"loop": Link("loop")}
LONG = st.integers(256, 3000).map(lambda length: "x" * length)


def tracked(contents: SearchStrategy[bytes], uris: SearchStrategy[str]) -> SearchStrategy[Case]:
    """The command line with a record in a file that holds this."""
    return st.builds(
        lambda content, case: Case(case.arguments, {"a_file": content, "folder": None}),
        contents,
        flag("--tracking-uri", uris),
    )


RULES = [
    Rule("{}", typed(strangers.map(lambda word: (word,))), "Unrecognized arguments"),
    Rule(
        "{}",
        st.one_of([one_of_flags((name,), anything.filter(lambda text: text not in KNOWN_CHOICES)) for name in CHOICES]),
        "invalid choice",
    ),
    Rule("{}", one_of_flags(INTEGERS, not_integers), "invalid int value"),
    Rule("{}", one_of_flags(NUMBERS, not_numbers), "invalid float value"),
    Rule(
        "{}",
        st.builds(lambda good, name: Case((*good, name)), among_good_flags(st.just(())), no_values),
        "expected one argument",
    ),
    Rule(
        "{}",
        typed(
            st.builds(
                lambda name, value: (f"{name}={value}",),
                st.sampled_from(("--quiet", "--no-models", "--augment", "--dry-run")),
                anything,
            )
        ),
        "ignored explicit argument",
    ),
    Rule(
        "The following arguments are required: --space", typed(anything.map(lambda name: (f"--name={name}",)), first=())
    ),
    Rule("`{}` needs the name of a study: `{} NAME`.", typed(st.just(("--resume",)), first=())),
    Rule("`--extend` needs the number of trials", typed(words.map(lambda name: (f"--extend={name}",)), first=())),
    Rule(
        "`--resume` goes on with a study, `--extend` adds",
        typed(words.map(lambda name: (f"--extend={name}", "--resume")), first=()),
    ),
    Rule(
        "`--list` shows the studies on record; leave out",
        typed(words.map(lambda name: ("--list", f"--name={name}")), first=()),
    ),
    Rule("`--force` is for a study that is resumed", typed(st.just(("--force",)))),
    Rule(
        "`--arms` must be names separated by commas",
        flag(
            "--arms",
            st.builds(
                lambda names, place, blank: ",".join([*names[:place], blank, *names[place:]]),
                parted,
                st.integers(0, 4),
                st.sampled_from(("", " ", "\t")),
            ),
        ),
    ),
    Rule(
        "`{}` must be integers separated by commas",
        flag("--classes", anything.filter(lambda text: not all(is_parsed(int, part) for part in text.split(",")))),
    ),
    Rule(
        "does not apply to the space",
        typed(foreign_to_reported.map(lambda word: (word,)), first=REPORTED),
        "is fixed by the report",
    ),
    Rule(
        "does not apply to the space", typed(foreign_to_tuned.map(lambda word: (word,))), "is for the reported studies"
    ),
    Rule(
        "needs `--classes A,B` for the data set",
        flag("--dataset", words | nasty, first=("--space=one_factor_at_a_time",)),
    ),
    Rule("`--name` must be at most", flag("--name", not_names)),
    Rule("`--{}` must be >= {}; got {}.", one_of_flags(COUNTS, below_one)),
    Rule("`--{}` must be at most", one_of_flags(COUNTS, st.integers(10**6 + 1, 10**30))),
    Rule("`--seed` must lie in", flag("--seed", st.integers(max_value=-1) | st.integers(min_value=2**31))),
    Rule(
        "`--delta` must be a number of accuracy points > 0",
        flag("--delta", not_finite | negative | st.sampled_from(("0", "-0.0", "0e5"))),
    ),
    Rule(
        "`--cpus-per-trial` must be > 0", flag("--cpus-per-trial", not_finite | negative | st.sampled_from(("0", "-0")))
    ),
    Rule(
        "`--{}-per-trial` must be at least",
        one_of_flags(("--cpus-per-trial", "--gpus-per-trial"), st.floats(5e-324, 9e-5).map(str)),
    ),
    Rule(
        "`--gpus-per-trial` above 1 must be a whole number",
        flag("--gpus-per-trial", st.integers(1, 99).map(lambda whole: f"{whole}.5") | st.floats(1.01, 1.99).map(str)),
    ),
    Rule(
        "`--cpus-per-trial` must be at most this machine's", flag("--cpus-per-trial", st.floats(4097, 1e300).map(str))
    ),
    Rule("`--gpus-per-trial` must be >= 0", flag("--gpus-per-trial", not_finite | negative)),
    Rule(
        "needs GPUs that this machine", flag("--gpus-per-trial", st.integers(65, 10**6), first=(*TUNED, "--device=cpu"))
    ),
    Rule(
        "`--device cuda` needs a CUDA device",
        typed(
            st.sampled_from(("--device=cuda", "--gpus-per-trial=1", "--gpus-per-trial=0.5")).map(lambda word: (word,))
        ),
    ),
    Rule(
        "`--search grid` runs every point of the grid",
        typed(st.integers(1, 10**6).map(lambda n: ("--search=grid", f"--trials={n}"))),
    ),
    Rule(
        "`--replicas {}` trains at once the seeds that",
        typed(
            st.builds(
                lambda n, minutes: (f"--replicas={n}", f"--time-budget={minutes}m"),
                st.integers(2, 999),
                st.integers(1, 999),
            )
        ),
    ),
    Rule("`--search grid` needs finite choices", typed(st.just(("--search=grid",)))),
    Rule(
        "`--arms` must name each arm once",
        flag(
            "--arms",
            st.builds(lambda names, again: ",".join([*names, names[again % len(names)]]), parted, st.integers(0, 9)),
        ),
    ),
    Rule(
        "must be a time such as 90s",
        one_of_flags(
            ("--time-budget", "--hang-timeout"), not_durations | st.integers(310, 400).map(lambda digits: "9" * digits)
        ),
    ),
    Rule(
        "`--experiment-name` must be",
        flag(
            "--experiment-name",
            st.integers(1, 40).map(lambda n: "x" * (500 + n)) | nasty.filter(lambda text: not text.isprintable()),
        ),
    ),
    Rule(
        "`--epochs-scale` must lie in (0, 1]",
        flag(
            "--epochs-scale",
            not_finite | negative | st.floats(1, 1e300, exclude_min=True).map(str) | st.just("0"),
            first=REPORTED,
        ),
    ),
    Rule("No arm matches {}", flag("--arms", words.map(lambda word: f"no-{word}*"), first=REPORTED)),
    Rule(
        "Unknown arm {}; choose from {}.", one_of_flags(("--baseline", "--arms"), words.map(lambda word: f"no-{word}"))
    ),
    Rule("Unknown arm {}; choose from {}.", flag("--baseline", anything, first=REPORTED)),
    Rule(
        "An arm's name must be letters",
        flag(
            "--arms",
            st.sampled_from(("own:", "own:a b", "own:<b>", "own:../up", "own:größe", "own:.hidden")).map(
                lambda name: f"focal,{name}"
            ),
        ),
    ),
    Rule(
        "Unknown space {}; choose from",
        st.builds(
            lambda name, good: Case((f"--space={name}", *good)), unknown_spaces, among_good_flags(st.just(()), first=())
        ),
    ),
    Rule(
        "The space {} cannot be loaded",
        st.builds(
            lambda name, good: Case((f"--space={name}", *good)),
            st.one_of(
                words.map(lambda word: f"no/{word}.py"),
                LONG.map(lambda name: f"{name}.py"),
                words.map(lambda word: f"nowhere_{word}:STUDY"),
                nasty.map(lambda word: f"search_spaces.full:{word}"),
                st.sampled_from((".full:STUDY", "sys:nothing", "a..b:c")),
            ),
            among_good_flags(st.just(()), first=()),
        ),
    ),
    Rule(
        "must be a search_spaces.arms.Study; got",
        st.builds(
            lambda name, good: Case((f"--space={name}", *good)),
            st.sampled_from(
                (
                    "search_spaces.full:LOSSES",
                    "search_spaces.full:Study",
                    "os:path",
                    "sys:argv",
                    "math:pi",
                    "search_spaces.table:load_space",
                )
            ),
            among_good_flags(st.just(()), first=()),
        ),
    ),
    Rule(
        "`--storage-path` must be a folder that can be written",
        flag(
            "--storage-path",
            st.one_of(
                LONG,
                LONG.map(lambda name: f"new/{name}"),
                st.sampled_from(("a_file", "a_file/below", "a_file/below/it")),
            ),
            files={"a_file": b""},
        ),
    ),
    Rule(
        "`--storage-path` must not be a link to itself",
        flag("--storage-path", st.sampled_from(("loop", "./loop", "loop/")), files=LOOP),
    ),
    Rule(
        "`--storage-path` must be a folder or s3://BUCKET/PREFIX",
        flag(
            "--storage-path",
            st.one_of(
                words.map(lambda word: f"gopher-{word.replace('_', '-')}://{word}"),
                st.tuples(st.sampled_from(("s3", "gs")), words, words).map(
                    lambda found: "{}://{}:secret@{}/x".format(*found)
                ),
                words.map(lambda word: f"s3://bucket/x?endpoint_override={word}"),
                st.sampled_from(("s3://", "s3:///x", "S3://bucket/x", "s3://Bucket", "s3://bucket//x", "gs://b")),
            ),
        ),
    ),
    Rule(
        "ADDRESS must be s3://BUCKET/KEY or gs://BUCKET/KEY; got {}.",
        st.builds(
            lambda name, address: Case((f"{name}.db", address), {}, "study.backup"),
            words,
            st.one_of(words, words.map(lambda word: f"s3://{word}"), words.map(lambda word: f"file:///{word}/x")),
        ),
    ),
    Rule(
        "FILE must lie in a folder that exists; got {}.",
        words.map(lambda word: Case((f"missing/{word}.db", "s3://bucket/key"), {}, "study.backup")),
    ),
    Rule(
        "preflight.py: exists already in {}",
        typed(words.map(lambda name: (f"--name={name}", "--storage-path=stores")), without=("--storage-path",)).map(
            lambda case: Case(
                case.arguments,
                {
                    f"stores/{word.removeprefix('--name=')}/search.journal": b""
                    for word in case.arguments
                    if word.startswith("--name=")
                },
            )
        ),
    ),
    Rule(
        "`--tracking-uri` must lead to its database",
        flag(
            "--tracking-uri",
            st.builds(
                "sqlite:///{}{}{}".format, words, st.sampled_from(("?", "?timeout=1", "%41", "%20", "%3f")), words
            ),
        ),
    ),
    Rule(
        "`--tracking-uri` must lie in a folder",
        flag(
            "--tracking-uri",
            st.one_of(
                words.map(lambda name: f"sqlite:///missing/{name}.db"),
                words.map(lambda name: f"sqlite:///a_file/{name}.db"),
                LONG.map(lambda name: f"sqlite:///{name}/it.db"),
            ),
            files={"a_file": b""},
        ),
    ),
    Rule(
        "`--tracking-uri` must name a SQLite database",
        tracked(
            st.binary(min_size=1, max_size=40),
            st.sampled_from(
                (
                    "sqlite:///a_file",
                    "sqlite:///folder",
                    "sqlite:///./a_file",
                    "sqlite:///",
                    "sqlite:///.",
                    f"sqlite:///{'x' * 300}",
                )
            ),
        ),
    ),
    Rule(
        "`--tracking-uri` names a database that is damaged",
        tracked(
            st.binary(max_size=90).map(lambda tail: b"SQLite format 3\0" + tail)
            | st.builds(database, st.sampled_from((("other",), ("runs", "metrics"))), st.integers(0, 2**31 - 1)),
            st.sampled_from(("sqlite:///a_file", "sqlite:///./a_file")),
        ),
    ),
    Rule(
        "MLflow does not answer at",
        flag("--tracking-uri", words.map(lambda word: f"gopher-{word.replace('_', '-')}://nowhere")),
    ),
    Rule(
        "no Ray cluster answers there",
        flag(
            "--address",
            st.one_of(
                st.just("127.0.0.1:9"),
                st.integers(65536, 10**9).map(lambda port: f"127.0.0.1:{port}"),
                st.sampled_from(
                    (
                        "127.0.0.1:²",
                        "ray://127.0.0.1:9",
                        "a..b:80",
                        f"{'x' * 64}.invalid:80",
                        "größe..x:1",
                        f"127.0.0.1:{'9' * 5000}",
                    )
                ),
            ),
        ),
    ),
    Rule(
        "study/cluster.py: `--address {}`: {}",
        flag("--address", st.one_of(words.map(lambda word: f"no-{word}"), words.map(lambda word: f"ray://{word}"))),
    ),
]
