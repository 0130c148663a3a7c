"""The claims of report 001: L1, cross-entropy and focal loss by accuracy, precision, recall and F1.

L1 stands for two losses, on probabilities and on raw outputs; what is claimed of L1 must hold for both.
"""

from collections.abc import Sequence

from analysis.claims.model import (
    All,
    AnyOf,
    AtScaleOne,
    Best,
    Claim,
    Contrast,
    Different,
    Equal,
    Identity,
    Not,
    NotTestable,
    Number,
    RarerThan,
    Share,
    Superior,
    Term,
    claim,
    equal,
    interaction,
    slope,
    superior,
    value,
    values,
)

L1 = ("l1", "l1_logits")
FOCAL = ("focal_0.5", "focal_2")
CLASSIFYING = ("cross_entropy", *FOCAL)
#: Gamma → its arm; at 0, focal loss is cross-entropy.
GAMMAS = (
    (0.0, "cross_entropy"), (0.5, "focal_0.5"), (1.0, "focal_1"), (2.0, "focal_2"), (3.0, "focal_3"), (5.0, "focal_5"),
)  # fmt: skip
#: Points: three times the share of errors that 3 of the 45 pairs of ten classes would have if all pairs were alike.
CONFUSED = 20.0


def _same_order(*measures: str) -> All:
    """Cross-entropy above all, the focal losses within delta of each other, L1 below all, on each measure."""
    return All(
        tuple(
            part
            for measure in measures
            for part in (
                Best("cross_entropy", (*FOCAL, *L1), measure),
                equal([FOCAL], measure),
                superior([(loss, other) for loss in CLASSIFYING for other in L1], measure),
            )
        )
    )


def _curvature(points: Sequence[tuple[float, str]], measure: str) -> Contrast:
    """The least-squares coefficient of the square of the place, one arm at each place; below zero: an arch."""
    mean = sum(place for place, _ in points) / len(points)
    centred = [place - mean for place, _ in points]
    spread = sum(place**2 for place in centred)
    skew = sum(place**3 for place in centred) / spread
    # The square, made orthogonal to the constant and to the line.
    bend = [place**2 - skew * place - spread / len(points) for place in centred]
    size = sum(part**2 for part in bend)
    terms = tuple(Term(arm, measure, part / size) for part, (_, arm) in zip(bend, points, strict=True))
    return Contrast(f"curvature of {measure} over {len(points)} arms", terms)


def _regimes(arm: str, other: str, measure: str) -> Contrast:
    """One arm minus another in the fair regime, minus the same as stated."""
    terms = (
        Term(arm, measure, 1.0, "fair"), Term(other, measure, -1.0, "fair"),
        Term(arm, measure, -1.0, "stated"), Term(other, measure, 1.0, "stated"),
    )  # fmt: skip
    return Contrast(f"({arm} - {other}), fair - stated: {measure}", terms)


INTERIOR_PEAK = AnyOf(
    tuple(superior([(arm, GAMMAS[0][1]), (arm, GAMMAS[-1][1])], "accuracy") for _, arm in GAMMAS[1:-1]),
)
KINK = All(
    (
        superior([("cross_entropy", "l1")], "accuracy"),
        Not(Share(("adam-l1_logits",), "no_convergence", above=0.5)),
    )
)

CLAIMS: tuple[Claim, ...] = (
    claim(
        "001-01",
        "L1's train and test losses keep falling slightly to the end, without overfitting.",
        All(
            (
                Superior((*values(L1, "trend_train_loss"), *values(L1, "trend_loss")), lower=True),
                Share(L1, "best_loss_late", above=0.5),
            )
        ),
        note="No overfitting: the lowest held-out loss lies in the last tenth of the epochs in most seeds.",
    ),
    claim(
        "001-02",
        "With L1, test accuracy stays near 0.1 and train accuracy fluctuates.",
        All(
            (
                *(Number(arm, "accuracy", 10.0, absolute=False) for arm in L1),
                superior([(arm, "cross_entropy") for arm in L1], "train_fluctuation"),
            )
        ),
        reported="0.1",
        note="0.1 is chance among ten balanced classes, so any such data can test it; fluctuation against "
        "cross-entropy.",
    ),
    claim(
        "001-03",
        "With cross-entropy the losses fall and accuracy rises, ever more slowly and without overfitting.",
        All(
            (
                Superior(
                    (value("cross_entropy", "trend_train_loss"), value("cross_entropy", "trend_loss")), lower=True
                ),
                Superior((value("cross_entropy", "trend_train_accuracy"), value("cross_entropy", "trend_accuracy"))),
                Superior((value("cross_entropy", "slowdown"),)),
            )
        ),
        note="Ever more slowly: held-out accuracy climbs less per epoch in the second half. Overfitting shows only as "
        "far as it turns the trend of the held-out loss.",
    ),
    claim(
        "001-04",
        "Cross-entropy reaches an accuracy of about 0.5.",
        Number("cross_entropy", "accuracy", 50.0),
        reported="0.5",
    ),
    claim(
        "001-05",
        "With cross-entropy and focal loss, accuracy is higher on test than on train images.",
        Superior(values(CLASSIFYING, "gap_accuracy"), lower=True),
        note="Both measured after the last epoch in evaluation mode.",
    ),
    claim(
        "001-06",
        "A larger gamma makes (1 - p)^gamma larger, and the loss with it.",
        Identity("raising_gamma_raises_loss"),
    ),
    claim(
        "001-07",
        "The loss at gamma 0.5 exceeds that at gamma 2, so there are hard samples.",
        All(
            (
                Identity("lower_gamma_higher_loss_everywhere"),
                NotTestable("that hard samples exist does not follow, as the order is the same for every sample"),
            )
        ),
        note="Decides the comparison, which algebra forces at every probability; the conclusion drawn from it is void.",
    ),
    claim(
        "001-08",
        "Gamma 2 is slightly more accurate than gamma 0.5.",
        superior([("focal_2", "focal_0.5")], "accuracy"),
    ),
    claim(
        "001-09",
        "Both focal losses reach an accuracy of 0.5.",
        Superior(values(FOCAL, "accuracy"), bound=50.0, delta=0.0, absolute=True),
        reported="0.5",
    ),
    claim(
        "001-10",
        "In accuracy, cross-entropy is best, the two focal losses are close and L1 is worst.",
        _same_order("accuracy"),
        note="Close is within delta.",
    ),
    claim(
        "001-11",
        "Test accuracy ends near 0.6 without having declined.",
        All((*(Number(arm, "accuracy", 60.0) for arm in CLASSIFYING), Equal(values(CLASSIFYING, "best_minus_last")))),
        reported="0.6",
        note="Cross-entropy and the focal losses; not declined: the best epoch is within delta of the last.",
    ),
    claim(
        "001-12",
        "Precision shows the same order with values near 0.6, and L1's is at times near 0.",
        _same_order("precision_macro", "precision_weighted"),
        reported="0.6; L1 near 0",
        note="Decides the order, on the macro and the weighted average; the values are not part of the test.",
    ),
    claim(
        "001-13",
        "Recall equals accuracy because the classes are balanced.",
        All(
            (
                Identity("macro_recall_is_accuracy_when_balanced"),
                # The report's average is the weighted one, for which balance would have to matter.
                Identity("weighted_recall_is_accuracy", expected=False),
            )
        ),
        note="The equality is true, its reason is not: recall weighted by class, which the report used, is accuracy "
        "for classes of any size; balance matters for the macro average only.",
    ),
    claim(
        "001-14",
        "In recall, cross-entropy is best with about 0.6.",
        _same_order("recall_macro", "recall_weighted"),
        reported="0.6",
        note="Tests the order of 001-10 on the macro and the weighted average; the value is not part of the test.",
    ),
    claim(
        "001-15",
        "In F1, cross-entropy is best, the focal losses are close and L1 is far lower.",
        _same_order("f1_macro", "f1_weighted"),
        note="On the macro and the weighted average.",
    ),
    claim(
        "001-16",
        "Cross-entropy is the best loss altogether.",
        All(
            tuple(
                Best("cross_entropy", (*FOCAL, *L1), measure)
                for measure in ("accuracy", "precision_weighted", "recall_weighted", "f1_weighted")
            )
        ),
        note="Best in accuracy, precision, recall and F1, averaged as the report did, by class size.",
    ),
    claim(
        "001-17",
        "L1 fails because SGD meets its kink at zero.",
        KINK,
        note="Were it so, a tuned learning rate would leave L1 on probabilities behind cross-entropy, and Adam would "
        "train L1 on raw outputs above chance; the first part is decided by the fair regime.",
    ),
    claim(
        "001-18",
        "There are few hard samples, and too much focus on them overfits.",
        All(
            (
                Superior((_curvature(GAMMAS, "accuracy"),), lower=True, delta=0.0),
                INTERIOR_PEAK,
                Superior((slope(GAMMAS, "gap_accuracy"),), delta=0.0),
            )
        ),
        note="Over gamma from 0 to 5: accuracy arches, some gamma in between beats both ends, and the gap between "
        "train and test accuracy grows.",
    ),
    claim(
        "001-19",
        "Cross-entropy is numerically the most stable loss.",
        RarerThan("cross_entropy", (*L1, *FOCAL), "no_convergence"),
        note="The share of trials that diverge or end at chance over the learning rates of the fair regime's search, "
        "which both columns use.",
    ),
    claim(
        "001-20",
        "Training has not converged, and more epochs would help.",
        AtScaleOne(superior([(f"{loss}-80_epochs", loss) for loss in CLASSIFYING], "accuracy")),
        note="80 epochs against 40, for cross-entropy and the focal losses.",
    ),
    claim(
        "001-21",
        "On other data the comparison may come out differently.",
        Different(
            tuple(
                interaction(
                    (f"{loss}-imbalance_{ratio}", f"cross_entropy-imbalance_{ratio}"),
                    (loss, "cross_entropy"),
                    "accuracy",
                )
                for ratio in (10, 100)
                for loss in FOCAL
            )
        ),
        note="The report leaves it open. Other data are long-tailed training images, commonest to rarest class 10 and "
        "100: holds if they change the difference between a focal loss and cross-entropy.",
    ),
    claim(
        "001-22",
        "With other optimizers and hyperparameters the comparison may come out differently.",
        Different(
            (
                *(
                    interaction((f"adam-{loss}", "adam-cross_entropy"), (loss, "cross_entropy"), "accuracy")
                    for loss in (*FOCAL, "l1_logits")
                ),
                *(_regimes(loss, "cross_entropy", "accuracy") for loss in (*FOCAL, *L1)),
            )
        ),
        note="The report leaves it open. Holds if Adam, or a tuned learning rate, changes a loss's difference to "
        "cross-entropy; the comparison of regimes is the same in both columns.",
    ),
    claim(
        "001-23",
        "The data hold look-alike classes that get confused, and there focal loss helps.",
        All(
            (
                Superior((value("cross_entropy", "confused_share"),), bound=CONFUSED, delta=0.0),
                superior([(loss, "cross_entropy") for loss in FOCAL], "confused_recall"),
            )
        ),
        note="The three most confused pairs of classes must hold more than a fifth of cross-entropy's errors, three "
        "times an even share among ten classes, and both focal losses must raise these classes' recall.",
    ),
)
