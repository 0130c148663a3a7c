"""Python files that hold no study, or one that breaks a rule."""

import math

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.bad_input.rules import NASTY, Rule, among_good_flags, anything, texts, words
from tests.bad_input.workplace import Case

HEAD = """\
from search_spaces.arms import Arm, Categorical, Float, Integer, Parameter, Study
from search_spaces.reported import Reported, ReportedArm
inf, nan = float("inf"), float("nan")
"""
FIXED = {
    "loss": "mse",
    "optimizer": "sgd",
    "optimizer.learning_rate": 0.1,
    "model": "mlp",
    "batch_size": 8,
    "epochs": 4,
}
NAME = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
#: Of two steps.
TWO = {**FIXED, "second_optimizer": "adam", "second_optimizer.learning_rate": 0.1, "switch_epoch": 1}

not_names = (
    anything.filter(lambda text: not text or not set(text) <= NAME or text[0] in ".-") | st.integers() | st.none()
)
not_scalars = st.one_of(
    st.none(),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(words, st.integers(), max_size=2),
    st.sampled_from((math.nan, math.inf, -math.inf)),
    st.integers(min_value=2**63),
    st.integers(max_value=-(2**63)),
    st.binary(max_size=4),
)
not_texts = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.none(), st.lists(words, max_size=2), st.binary(max_size=4)
)
not_counts = st.one_of(st.integers(max_value=0), st.floats(), st.booleans(), texts, st.none())
not_numbers = st.one_of(
    texts, st.booleans(), st.sampled_from((math.nan, math.inf, -math.inf)), st.integers(min_value=10**309)
)
values = st.one_of(st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False), words)


def file(source: SearchStrategy[str]) -> SearchStrategy[Case]:
    """The command line with a space file of this source."""
    good = among_good_flags(st.just(()), first=())
    return st.builds(
        lambda text, name, flags: Case((f"--space={name}.py", *flags), {f"{name}.py": text.encode()}),
        source,
        words,
        good,
    )


def study(**changes: str) -> str:
    """A space's source with some arguments replaced by these expressions."""
    arguments = {
        "name": "'own'", "question": "'Does it?'", "factor": "'loss'", "arms": f"[Arm('mse', {FIXED})]",
        "baseline": "'mse'", **changes,
    }  # fmt: skip
    return f"{HEAD}STUDY = Study({', '.join(f'{key}={value}' for key, value in arguments.items())})\n"


def one_arm(flat: dict) -> str:
    """The source of a space of one arm that fixes these values."""
    return study(arms=f"[Arm('mse', {flat!r})]")


def without(*keys: str) -> dict:
    """A good configuration that lacks some keys."""
    return {key: value for key, value in FIXED.items() if key not in keys}


def reported(**changes: str) -> str:
    """Likewise of a reported study."""
    arm = f"[ReportedArm('mse', {FIXED})]"
    return study(**{"report": "'009'", "dataset": "'digits'", "arms": arm, **changes}).replace("Study(", "Reported(")


def argument(name: str, wrong: SearchStrategy[object]) -> SearchStrategy[Case]:
    """A space with one argument replaced by a value."""
    return file(wrong.map(lambda value: study(**{name: repr(value)})))


def fixed(*keys: str, wrong: SearchStrategy[object], base: dict = FIXED) -> SearchStrategy[Case]:
    """A space whose arm fixes one of these keys at a wrong value."""
    return file(st.builds(lambda key, value: one_arm({**base, key: value}), st.sampled_from(keys), wrong))


def searched(parameters: SearchStrategy[str], base: dict = FIXED) -> SearchStrategy[Case]:
    """A space whose arm searches these parameters."""
    return file(parameters.map(lambda text: study(arms=f"[Arm('mse', {base!r}, [{text}])]")))


def ranged(
    kind: str, low: SearchStrategy[object], high: SearchStrategy[object], log: bool = False
) -> SearchStrategy[Case]:
    """A space that searches a range with these ends."""
    return searched(st.builds(lambda a, b: f"Parameter('epochs', {kind}({a!r}, {b!r}, log={log}))", low, high))


def two_arms(rate_of: str) -> str:
    """Arms of a reported study, the second with another's rate."""
    return f"[ReportedArm('mse', {FIXED}), ReportedArm('other', {FIXED}, rate_of={rate_of!r})]"


broken_files = st.one_of(
    words.map(lambda word: f"STUDY = ({word}"),
    words.map(lambda word: f"import nowhere_{word}"),
    st.sampled_from(
        ("RuntimeError", "KeyError", "SystemExit", "SystemExit(0)", "MemoryError", "StopIteration", "AssertionError")
    ).map(lambda name: f"raise {name}"),
    anything.map(lambda text: f"raise ValueError({text!r})"),
    words.map(lambda word: f"{word}_study = 1"),
    st.sampled_from(
        (
            "STUDY = 1 / 0",
            "def f(): f()\nf()",
            "STUDY = Study()",
            "import sys; sys.exit()",
            "exit(0)",
            "",
            "\0",
            "# coding: nonsense",
        )
    ),
    st.sampled_from([f"Study('own', '?', 'loss', {wrong}, 'mse')" for wrong in ("5", "None", "1.5", "len")]),
    st.sampled_from([f"Arm('mse', {wrong})" for wrong in ("5", "[1]", "len", "'ab'")]),
    st.sampled_from([f"Parameter('epochs', Float(1, 2), {wrong})" for wrong in ("5", "[1]", "None")]),
    st.sampled_from(("Categorical(5)", "Categorical(None)", "Study('a')", "Arm()", "Float(1)", "Nothing()")),
).map(lambda text: HEAD + text)
not_studies = st.one_of(values, st.none(), st.lists(st.integers(), max_size=2)).map(
    lambda value: f"STUDY = {value!r}"
) | st.sampled_from(
    [
        HEAD + f"STUDY = {text}"
        for text in (
            "Study",
            "[]",
            "print",
            "Float(1, 2)",
            f"Arm('mse', {FIXED})",
            "(lambda: 1)",
            "HEAD if 0 else None",
        )
    ]
)
twins = st.lists(st.sampled_from(("a", "b", "c")), min_size=4, max_size=9)
repeated = st.lists(values, min_size=1, max_size=4).map(lambda found: (*found, found[0]))
upside_down = st.builds(lambda low, gap: (low, low - gap), st.integers(-(10**6), 10**6), st.integers(1, 10**6))

RULES = [
    Rule("The space {} cannot be loaded", file(broken_files)),
    Rule("must be a search_spaces.arms.Study; got", file(not_studies)),
    Rule("Space {}: {}", argument("trials", st.integers(max_value=0))),
    Rule("A space's name must be letters", argument("name", not_names)),
    Rule("An arm's name must be letters", file(not_names.map(lambda name: study(arms=f"[Arm({name!r}, {FIXED})]")))),
    Rule(
        "of the space {} must be text",
        file(
            st.builds(
                lambda key, value: study(**{key: repr(value)}), st.sampled_from(("question", "factor")), not_texts
            )
        ),
    ),
    Rule("Every arm of the space", argument("arms", st.lists(st.none() | values, min_size=1, max_size=3))),
    Rule(
        "has no arms; it needs at least one",
        st.builds(lambda name: Case((f"--space={name}.py",), {f"{name}.py": study(arms="()").encode()}), words),
    ),
    Rule(
        "Arms must have different names",
        file(
            twins.map(
                lambda names: study(
                    arms="[" + ", ".join(f"Arm({name!r}, {FIXED})" for name in names) + "]", baseline="'a'"
                )
            )
        ),
    ),
    Rule("The baseline {} is not among the arms", argument("baseline", anything | st.integers())),
    Rule(
        "search_spaces/arms.py: `{}` must be an integer >= 1",
        file(
            st.builds(lambda key, value: study(**{key: repr(value)}), st.sampled_from(("trials", "seeds")), not_counts)
        ),
    ),
    Rule(
        "search_spaces/arms.py: `{}` must be at most",
        file(
            st.builds(
                lambda key, value: study(**{key: repr(value)}),
                st.sampled_from(("trials", "seeds")),
                st.integers(10**6 + 1, 10**40),
            )
        ),
    ),
    Rule(
        "`controls` takes names of arms",
        file(st.builds(lambda key, value: study(controls=f"{{{key!r}: {value!r}}}"), words, not_texts)),
    ),
    Rule(
        "An integer range needs integer ends",
        ranged("Integer", st.floats(allow_nan=False) | st.booleans() | texts, st.integers(1, 9)),
    ),
    Rule("A range needs finite ends", searched(upside_down.map(lambda ends: f"Parameter('epochs', Integer{ends})"))),
    Rule("A range needs finite ends", ranged("Float", not_numbers, st.floats(1, 2))),
    Rule("A range needs finite ends", ranged("Float", st.floats(0, 1), not_numbers)),
    Rule("A logarithmic range must start above 0", ranged("Float", st.floats(-1e9, 0), st.floats(1, 9), log=True)),
    Rule(
        "Choices must be given and differ",
        searched(repeated.map(lambda choices: f"Parameter('epochs', Categorical({choices!r}))")),
    ),
    Rule(
        "must be text, True, False or a finite number of 64 bits",
        searched(
            st.builds(lambda good, bad: f"Parameter('epochs', Categorical(({good!r}, {bad!r})))", values, not_scalars)
        ),
        "A choice",
    ),
    Rule(
        "must be text, True, False or a finite number of 64 bits",
        fixed("loss.gamma", "width", "epochs", wrong=not_scalars),
        "A fixed value",
    ),
    Rule(
        "must be text, True, False or a finite number of 64 bits",
        searched(not_scalars.map(lambda bad: f"Parameter('epochs', Integer(1, 2), {{'loss': ({bad!r},)}})")),
        "in `when`",
    ),
    Rule(
        "needs a Float, an Integer or a Categorical",
        searched(
            st.one_of(values, st.none(), st.lists(values, max_size=2)).map(lambda bad: f"Parameter('epochs', {bad!r})")
        ),
    ),
    Rule(
        "needs a tuple of values of",
        searched(
            st.one_of(values, st.none()).map(lambda bad: f"Parameter('epochs', Integer(1, 2), {{'loss': {bad!r}}})")
        ),
    ),
    Rule(
        "What arm {} searches must be a Parameter",
        searched(st.one_of(values, st.none(), st.lists(values, max_size=2)).map(repr)),
    ),
    Rule(
        "which is neither fixed nor searched before it",
        searched(words.map(lambda key: f"Parameter('epochs', Integer(1, 2), {{'no.{key}': ('mse',)}})")),
    ),
    Rule(
        "is searched twice under the same conditions",
        searched(
            st.builds(
                lambda low, other: f"Parameter('width', Integer({low}, 99)), Parameter('width', Integer({other}, 99))",
                st.integers(1, 50),
                st.integers(1, 50),
            )
        ),
    ),
    Rule("arms.py: Arm {}: {}", fixed("epochs", "batch_size", wrong=st.integers(max_value=0))),
    Rule(
        "trainables/config.py: `{}` must be an integer >= 1",
        fixed("epochs", "batch_size", wrong=st.one_of(st.integers(-9, 0), st.floats(1, 9), st.booleans(), texts)),
    ),
    Rule(
        "`seed` must be an integer >= 0",
        fixed("seed", wrong=st.one_of(st.integers(-(2**60), -1), st.floats(0, 9), st.booleans(), texts)),
    ),
    Rule("`{}` must be one of {}; got {}.", fixed("reduction", "schedule", "precision", wrong=values)),
    Rule(
        "`augment` must be True or False",
        fixed(
            "augment",
            wrong=st.one_of(st.integers(), texts).filter(
                lambda value: not isinstance(value, int) or abs(value) < 2**63
            ),
        ),
    ),
    Rule(
        "`{}` must be a finite number >= {}; got {}.",
        fixed("init_std", "imbalance", wrong=st.one_of(st.floats(-1e9, 0, exclude_max=True), st.booleans(), texts)),
    ),
    Rule(
        "`switch_epoch` must be an integer >= 0",
        fixed("switch_epoch", wrong=st.one_of(st.integers(-(2**60), -1), st.floats(0, 9), st.booleans(), texts)),
    ),
    Rule("needs a `second_optimizer`; got none", fixed("switch_epoch", wrong=st.integers(1, 2**60))),
    Rule(
        "`switch_epoch` must be {} where there is",
        fixed("switch_epoch", wrong=st.just(0) | st.integers(4, 2**60), base=TWO),
    ),
    Rule(
        "A trial's configuration lacks",
        file(
            st.builds(
                lambda left, kept: one_arm({**without(*left), **kept}),
                st.sets(st.sampled_from(("loss", "optimizer", "model", "batch_size", "epochs")), min_size=1),
                st.fixed_dictionaries({"seed": st.integers(0, 99)}),
            )
        ),
    ),
    Rule(
        "Unknown key {} in a trial's configuration",
        file(
            st.builds(
                lambda key: one_arm({**FIXED, key: 1}),
                anything.filter(lambda key: key != "seed") | words.map(lambda word: f"{word}."),
            )
        ),
    ),
    Rule(
        "A key of a trial's configuration must be text",
        file(
            st.builds(
                lambda key: one_arm({**FIXED, key: 1}),
                st.integers() | st.none() | st.binary(max_size=3),
            )
        ),
    ),
    Rule(
        "`{}` must be a name; got {}.",
        fixed(
            "loss",
            "optimizer",
            "model",
            "second_optimizer",
            wrong=st.one_of(st.integers(-9, 9), st.booleans(), st.floats(-9, 9)),
        ),
    ),
    Rule(
        "learning_rate` is missing for the optimizer",
        file(words.map(lambda name: one_arm({**without("optimizer.learning_rate"), "optimizer": name}))),
    ),
    Rule(
        "learning_rate` must be a finite number > 0",
        fixed(
            "optimizer.learning_rate",
            "second_optimizer.learning_rate",
            wrong=st.one_of(st.floats(-1e9, 0), texts, st.booleans()),
            base=TWO,
        ),
    ),
    Rule(
        "learning_rate` must be a finite number > 0",
        ranged("Float", st.floats(-9, 0), st.floats(1, 9)).map(
            lambda case: Case(
                case.arguments,
                {
                    name: text.replace(b"'epochs', Float", b"'optimizer.learning_rate', Float")
                    for name, text in case.files.items()
                },
            )
        ),
    ),
    Rule(
        "`--mode joint` needs arms that each fix",
        file(
            st.builds(
                lambda factor, word: study(
                    factor=repr(factor), arms=f"[Arm('mse', {FIXED}), Arm({word + '-2'!r}, {FIXED})]"
                ),
                st.sampled_from(("loss", "model", "nothing", *NASTY)),
                words,
            )
        ).map(lambda case: Case((*case.arguments, "--mode=joint"), case.files)),
    ),
    Rule(
        "`--mode joint` needs arms that fix the same values",
        file(
            st.builds(
                lambda size: study(
                    arms=f"[Arm('mse', {FIXED}), Arm('l1', { ({**FIXED, 'loss': 'l1', 'batch_size': size})!r})]"
                ),
                st.integers(9, 999),
            )
        ).map(lambda case: Case((*case.arguments, "--mode=joint"), case.files)),
    ),
    Rule(
        "arms of the space {} do not differ in one named part",
        file(words.map(lambda word: study(factor=repr(f"no-{word}")))).map(
            lambda case: Case((*case.arguments, "--arms=mse,own:loss"), case.files)
        ),
    ),
    Rule(
        "of a reported study must be a ReportedArm without parameters",
        file(
            st.one_of(
                words.map(lambda name: reported(arms=f"[Arm({name!r}, {FIXED})]", baseline=repr(name))),
                st.integers(1, 99).map(
                    lambda high: reported(
                        arms=f"[ReportedArm('mse', {FIXED}, [Parameter('width', Integer(1, {high}))])]"
                    )
                ),
            )
        ),
    ),
    Rule(
        "search_spaces/reported.py: `watch` takes",
        file(
            st.lists(words.map(lambda word: f"no-{word}"), min_size=1, max_size=3).map(
                lambda names: reported(watch=repr(names))
            )
        ),
    ),
    Rule("which is not among the arms", file(words.map(lambda name: reported(arms=two_arms(f"no-{name}"))))),
    Rule(
        "which is not tuned itself",
        file(words.map(lambda word: f"{reported(arms=two_arms('other'))}# {word}")),
    ),
    Rule(
        "`{}` of a reported study must be text",
        file(
            st.builds(
                lambda key, value: reported(**{key: repr(value)}), st.sampled_from(("report", "dataset")), not_texts
            )
        ),
    ),
    Rule(
        "of a reported study must be a tuple of texts",
        file(
            st.builds(
                lambda key, value: reported(**{key: repr(value)}),
                st.sampled_from(("assumptions", "watch")),
                values | st.none(),
            )
        ),
    ),
    Rule(
        "must be a tuple of integers; got",
        file(
            st.builds(
                lambda key, value: reported(classes=f"{{{key!r}: {value!r}}}"),
                words,
                st.none() | values | st.lists(words, min_size=1, max_size=2),
            )
        ),
    ),
]
