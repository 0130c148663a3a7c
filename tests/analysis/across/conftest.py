from dataclasses import dataclass, field
from functools import cache

import pytest

from analysis.across.studies import load_comparison

TWIN = {"controls": {"kl_div": "cross_entropy"}}
HOSTILE = "<script>window.broken = true</script>&lt;b&gt; \x1b[31m|`*"


@pytest.fixture(scope="session")
def place_class(truth_class):
    """A study of known truth on a dataset of its own, with whatever else its protocol should say."""

    @dataclass
    class Place(truth_class):
        dataset: str = "digits"
        digest: str = ""
        seed_shift: int = 0
        changes: dict = field(default_factory=dict)

        def score(self, arm, seed):
            return super().score(arm, seed + self.seed_shift)

        def protocol(self, winners):
            known = super().protocol(winners)
            own = known["dataset"] | {"name": self.dataset, "sha256": self.digest or f"sha of {self.dataset}"}
            return known | {"dataset": own} | self.changes

    return Place


@pytest.fixture(scope="session")
def across_store(store_of, place_class):
    """An MLflow store with studies to compare: its URI."""
    quick = {"num_trials": 1, "control": None}
    two = {"cross_entropy": 0.0, "focal": 1.5}
    small = quick | {"effects": two, "seeds": tuple(range(1, 8))}
    least = quick | {"dataset": "other", "seeds": (1, 2)}
    five = {"hinge": 0.0, "cross_entropy": 0.0, "focal": -2.0, "l1": -6.0, "mse": 1.0}
    three = two | {"kl_div": 0.1}
    hostile = small | {"effects": two | {HOSTILE: 1.0}}
    part = {"effects": five, "delta": 0.5, "no_winner": ("mse",), "seed_shift": 300}
    studies = [
        place_class(name="digits-1", **quick),
        place_class(name="digits-2", seed_shift=100, changes={"git_commit": "fedcba9876543210"}, **quick),
        place_class(name="letters", dataset="letters", seed_shift=200, base_accuracy=0.8, **quick),
        place_class(name="clothes", dataset="clothes train-size=2000", **part, **quick),
        place_class(name="twins", dataset="twins", **small | {"effects": three, "changes": TWIN}),
        place_class(name="twins-2", dataset="twins-2", **small | {"effects": three, "changes": TWIN}),
        place_class(name="optimizers", changes={"factor": "optimizer"}, effects=two, **least),
        place_class(name="strangers", effects={"mse": 0.0, "mae": 1.0}, baseline="mse", **least),
        place_class(name="searching", confirm=False, effects=two, **least),
        place_class(name="alone", effects={"cross_entropy": 0.0}, **least),
        place_class(name="one-seed", dataset="single", **small | {"seeds": (1,)}),
        place_class(name="one-seed-2", dataset="single-2", **small | {"seeds": (1,)}),
        place_class(name="bare", dataset="bare", write_protocol=False, **small),
        place_class(name="stopped", dataset="stopped", state="interrupted", diverged=(("focal", 2),), **small),
        place_class(name=HOSTILE, dataset=f"{HOSTILE}-data", **hostile),
        place_class(name="hostile-2", dataset="calm", seed_shift=7, **hostile),
        place_class(name="constant", dataset="flat", noise=0.0, **small),
    ]
    return store_of("across", studies)


@pytest.fixture(scope="session")
def compare(across_store):
    """``compare("a", "b")`` is those studies' comparison, read once."""
    return cache(lambda *names, **options: load_comparison(names, tracking_uri=across_store, **options))


@pytest.fixture(scope="session")
def result_of(compare):
    """``result_of("a", "b")`` is what follows from it."""
    from analysis.across.result import conclude

    return cache(lambda *names: conclude(compare(*names)))
