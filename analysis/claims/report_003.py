"""The claims of report 003: four losses and three activations of a small network on MNIST."""

from itertools import combinations

from analysis.claims.model import (
    All,
    AtScaleOne,
    Best,
    Claim,
    Contrast,
    Equal,
    Identity,
    Not,
    Number,
    Ordered,
    Share,
    Superior,
    Term,
    claim,
    difference,
    interaction,
    superior,
    values,
)

ACTIVATIONS = ("tanh", "selu", "hardswish")
#: From the best to the worst, as the report ranks them.
LOSSES = ("hinge", "kl_div", "cross_entropy", "focal")
NOT_FOCAL = LOSSES[:3]
#: Test accuracy in the report, in points, in the order of ``LOSSES``.
REPORTED = {
    "tanh": (97.28, 96.47, 96.39, 90.96),
    "selu": (97.35, 96.11, 96.09, 91.43),
    "hardswish": (97.43, 96.52, 96.16, 90.97),
}
#: The arms of 50 epochs: focal loss at the rate that the report raised it to, the others at their first.
LONG_FOCAL = "tanh-focal-50_epochs-rate_1e-2"
LONG_OTHERS = tuple(f"tanh-{loss}-50_epochs" for loss in NOT_FOCAL)
TUNED_LONG_FOCAL = "tanh-focal-50_epochs"
#: The arms that the report ran itself; what the project added is not held against its claims on stability.
RUN_IN_BOTH = (
    *(f"{activation}-{loss}" for activation in ACTIVATIONS for loss in LOSSES),
    "tanh-focal-two_layers",
    TUNED_LONG_FOCAL,
    *LONG_OTHERS,
)
RUN_AS_STATED = (
    *RUN_IN_BOTH,
    "tanh-focal-rate_1e-3",
    "tanh-focal-rate_1e-2",
    "tanh-focal-50_epochs-rate_1e-3",
    LONG_FOCAL,
)
TUNED_NUMBERS = "The reported numbers belong to the stated learning rates; with tuned ones only the order is tested."
#: Runs of one loss under two names differ by 0 to the last bit; equality needs an interval of some width.
EXACTLY = 1e-9


def _arms(activation: str, losses: tuple[str, ...] = LOSSES) -> tuple[str, ...]:
    return tuple(f"{activation}-{loss}" for loss in losses)


def _numbers(activation: str) -> tuple[Number, ...]:
    arms = zip(_arms(activation), REPORTED[activation], strict=True)
    return tuple(Number(arm, "accuracy", reported) for arm, reported in arms)


def _as_text(activation: str) -> str:
    return " / ".join(f"{reported:.2f}" for reported in REPORTED[activation]) + " % (hinge / KL / CE / focal)"


def _reach_95(activation: str) -> Superior:
    return Superior(values(_arms(activation, NOT_FOCAL), "accuracy"), bound=95.0, delta=0.0, absolute=True)


def _early_unsteady_later_better(focal: str) -> All:
    """Focal loss fluctuates more early, is behind early and is ahead at the end: its difference changes sign."""
    return All(
        (
            superior([(focal, other) for other in LONG_OTHERS], "early_fluctuation"),
            superior([(other, focal) for other in LONG_OTHERS], "early_area"),
            superior([(focal, other) for other in LONG_OTHERS], "accuracy"),
        )
    )


def _never_diverges(arms: tuple[str, ...]) -> All:
    return All(
        (
            Identity("max_shift_is_finite"),
            Identity("our_focal_is_finite"),
            Share(arms, "diverged", at_least=1.0, absent=True),
        )
    )


KL_ABOVE_CE = Not(Identity("kl_div_equals_cross_entropy"))
FOCAL_BELOW = tuple((f"{activation}-{loss}", f"{activation}-focal") for activation in ACTIVATIONS for loss in NOT_FOCAL)

CLAIMS: tuple[Claim, ...] = (
    claim(
        "003-01",
        "With tanh every loss but focal reaches 95% test accuracy.",
        All(
            (
                _reach_95("tanh"),
                Superior(values(("tanh-focal",), "accuracy"), lower=True, bound=95.0, delta=0.0, absolute=True),
            )
        ),
        reported=_as_text("tanh"),
    ),
    claim(
        "003-02",
        "With tanh test accuracy falls from hinge over KL divergence and cross-entropy to focal.",
        All((Ordered(_arms("tanh"), "accuracy"), KL_ABOVE_CE, *_numbers("tanh"))),
        fair=All((Ordered(_arms("tanh"), "accuracy"), KL_ABOVE_CE)),
        reported=_as_text("tanh"),
        note="KL divergence from a one-hot target is cross-entropy, so that one step of the order cannot hold. "
        + TUNED_NUMBERS,
    ),
    claim(
        "003-03",
        "With SELU the order is the same, and every loss but focal reaches 95%.",
        All((Ordered(_arms("selu"), "accuracy"), _reach_95("selu"), *_numbers("selu"))),
        fair=All((Ordered(_arms("selu"), "accuracy"), _reach_95("selu"))),
        reported=_as_text("selu"),
        note="The order sets KL divergence above cross-entropy, which is the same loss. " + TUNED_NUMBERS,
    ),
    claim(
        "003-04",
        "Changing tanh for SELU lowers hinge, KL divergence and cross-entropy slightly and raises focal.",
        superior([*((f"tanh-{loss}", f"selu-{loss}") for loss in NOT_FOCAL), ("selu-focal", "tanh-focal")], "accuracy"),
        reported="hinge 97.28 → 97.35, KL 96.47 → 96.11, CE 96.39 → 96.09, focal 90.96 → 91.43 %",
        note="The report's own number for hinge rose. How slight the changes are is not tested.",
    ),
    claim(
        "003-05",
        "Hardswish beats tanh and SELU with every loss but focal.",
        superior(
            [(f"hardswish-{loss}", f"{other}-{loss}") for loss in NOT_FOCAL for other in ("tanh", "selu")], "accuracy"
        ),
        reported="hinge 97.43, KL 96.52, CE 96.16 %, against 97.28, 96.47, 96.39 (tanh) and 97.35, 96.11, 96.09 (SELU)",
        note="The report's own number for cross-entropy fell against tanh.",
    ),
    claim(
        "003-06",
        "Focal loss is slightly worse with Hardswish than with the other two activations.",
        superior([("tanh-focal", "hardswish-focal"), ("selu-focal", "hardswish-focal")], "accuracy"),
        reported="Hardswish 90.97, tanh 90.96, SELU 91.43 %",
        note="The report does not say worse than which; against tanh its own number is .01 points higher.",
    ),
    claim(
        "003-07",
        "Hinge is the best of the four losses with every activation.",
        All(
            tuple(Best(f"{activation}-hinge", _arms(activation, LOSSES[1:]), "accuracy") for activation in ACTIVATIONS)
        ),
        reported="hinge 97.28 (tanh), 97.35 (SELU), 97.43 % (Hardswish)",
    ),
    claim(
        "003-08",
        "KL divergence and cross-entropy have the same gradients.",
        All(
            (
                Identity("kl_div_equals_cross_entropy"),
                Equal(
                    tuple(
                        difference(f"{activation}-kl_div", f"{activation}-cross_entropy", measure)
                        for activation in ACTIVATIONS
                        for measure in ("accuracy", "nll")
                    ),
                    delta=EXACTLY,
                ),
            )
        ),
        reported="KL − CE: .08 (tanh), .02 (SELU), .36 points (Hardswish)",
        note="Runs of one seed must then end exactly alike; the reported gaps are the report's own noise.",
    ),
    claim(
        "003-09",
        "Focal loss is clearly the weakest: at least 4 points below every other loss.",
        superior(FOCAL_BELOW, "accuracy", bound=4.0, delta=0.0),
        fair=superior(FOCAL_BELOW, "accuracy"),
        reported="smallest deficits 5.43 (tanh), 4.66 (SELU), 5.19 points (Hardswish)",
        note="With tuned rates the deficit need only be real; equality within the smallest difference that matters "
        "refutes the claim.",
    ),
    claim(
        "003-10",
        "Hinge wins because it rewards a larger output of the correct class.",
        All(
            (
                superior([("tanh-hinge", "tanh-cross_entropy")], "accuracy"),
                superior([("tanh-hinge-averaged", "tanh-cross_entropy")], "accuracy"),
                superior(
                    [("tanh-hinge", "tanh-hinge-margin_1"), ("tanh-hinge-averaged", "tanh-hinge-margin_1-averaged")],
                    "accuracy",
                ),
            )
        ),
        fair=superior([("tanh-hinge", "tanh-cross_entropy"), ("tanh-hinge", "tanh-hinge-margin_1")], "accuracy"),
        note="Summed over ten classes, hinge's gradient is about ten times that of cross-entropy. If the reward is the "
        "reason, the win must outlast averaging over the classes (equality with cross-entropy refutes it) and a margin "
        "of 5 must beat a margin of 1. With tuned rates the scale no longer matters.",
    ),
    claim(
        "003-11",
        "Focal loss has small values and so needs a larger learning rate.",
        All(
            (
                Superior(
                    (
                        Contrast(
                            "tanh-focal - tanh-cross_entropy: tuned_log10_rate",
                            (
                                Term("tanh-focal", "tuned_log10_rate", 1.0, "fair"),
                                Term("tanh-cross_entropy", "tuned_log10_rate", -1.0, "fair"),
                            ),
                        ),
                    ),
                    interval_only=True,
                ),
                superior([("tanh-cross_entropy", "tanh-focal")], "gradient_scale_late", interval_only=True),
            )
        ),
        note="Decided in both regimes by the ratio of the best learning rates in the tuning search, three seeds, its "
        "interval above 1, and by the gradient late in training, where it must be smaller than cross-entropy's. At "
        "the start focal loss with gamma 2 has the larger gradient by algebra (1.22 times at ten equal classes).",
    ),
    claim(
        "003-12",
        "After 50 epochs, focal's learning rate raised to .01, focal leads, then hinge, cross-entropy, KL divergence.",
        AtScaleOne(
            Ordered(
                (LONG_FOCAL, "tanh-hinge-50_epochs", "tanh-cross_entropy-50_epochs", "tanh-kl_div-50_epochs"),
                "accuracy",
            )
        ),
        fair=AtScaleOne(
            Ordered(
                tuple(f"tanh-{loss}-50_epochs" for loss in ("focal", "hinge", "cross_entropy", "kl_div")), "accuracy"
            )
        ),
        reported="focal 98.02, hinge 97.93, CE 97.86, KL 97.85 %",
        note="The reported range of .17 points lies below the report's own noise of up to .36.",
    ),
    claim(
        "003-13",
        "Focal loss is unsteady early in the 50 epochs and surely better later.",
        _early_unsteady_later_better(LONG_FOCAL),
        fair=_early_unsteady_later_better(TUNED_LONG_FOCAL),
        note="Tested as more fluctuation in the first fifth, less accuracy in the first tenth and more at the end, "
        "against each of the other losses.",
    ),
    claim(
        "003-14",
        "More epochs make up for the small values of focal loss.",
        superior([("tanh-focal-50_epochs", "tanh-focal")], "accuracy"),
        note="Tested as 50 epochs above 10 at one learning rate; whether that closes the gap is 003-12.",
    ),
    claim(
        "003-15",
        "A second hidden layer helps focal loss.",
        superior([("tanh-focal-two_layers", "tanh-focal")], "accuracy"),
        note="The report leaves this open.",
    ),
    claim(
        "003-16",
        "What focal loss loses against the others is the same with every activation.",
        Equal(
            tuple(
                interaction((f"{a}-focal", f"{a}-{loss}"), (f"{b}-focal", f"{b}-{loss}"), "accuracy")
                for a, b in combinations(ACTIVATIONS, 2)
                for loss in ("hinge", "cross_entropy")
            )
        ),
        reported="focal − CE: −5.43 (tanh), −4.66 (SELU), −5.19 points (Hardswish)",
        note="Against hinge and cross-entropy; KL divergence repeats cross-entropy.",
    ),
    claim(
        "003-17",
        "A softmax or KL divergence computed as written gives infinities and divisions by zero.",
        All((Identity("naive_softmax_overflows"), Identity("naive_kl_fails_at_zero_probability"))),
        note="Shown at outputs of 10,000 and at a probability of exactly 0.",
    ),
    claim(
        "003-18",
        "Subtracting the largest output and clipping cure that.",
        _never_diverges(RUN_AS_STATED),
        fair=_never_diverges(RUN_IN_BOTH),
        note="The losses stay finite at extreme outputs, and none of the report's own arms diverges in any seed; the "
        "arms that the project added, at rates the report never ran, do not count.",
    ),
)
