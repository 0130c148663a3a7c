"""The claims of report 000: losses under SGD and under Adam, clean and under noise.

A claim that names no optimizer must hold under both. L1 is in a claim where the report names it or compares every loss,
once on probabilities and once on raw outputs; it is left out of convergence, fluctuation and noise, where an arm that
has learnt nothing has nothing to reach or to lose.
"""

from analysis.claims.model import (
    All,
    AtScaleOne,
    Best,
    Claim,
    Contrast,
    Equal,
    Not,
    Number,
    OnDatasets,
    Ordered,
    Share,
    Superior,
    Term,
    claim,
    equal,
    interaction,
    superior,
    values,
)

OPTIMIZERS = ("sgd", "adam")
L1 = ("l1", "l1_logits")
CLASSIFYING = ("cross_entropy", "focal_0.5", "focal_2")
#: A rank correlation with the epoch that is still called flat.
FLAT = 0.3


def _arms(losses: tuple[str, ...], optimizers: tuple[str, ...] = OPTIMIZERS) -> tuple[str, ...]:
    return tuple(f"{optimizer}-{loss}" for optimizer in optimizers for loss in losses)


def _adam_over_sgd(losses: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((f"adam-{loss}", f"sgd-{loss}") for loss in losses)


def _best(optimizer: str, loss: str, measure: str, among: tuple[str, ...], *, lower: bool = False) -> Best:
    rivals = _arms(tuple(other for other in among if other != loss), (optimizer,))
    return Best(f"{optimizer}-{loss}", rivals, measure, lower=lower)


def _gaps(order: tuple[str, ...]) -> All:
    """The order of the gap between train and test, smallest first, in accuracy and in NLL, under each optimizer."""
    return All(
        tuple(
            Ordered(_arms(order, (optimizer,)), measure, lower=True)
            for optimizer in OPTIMIZERS
            for measure in ("gap_accuracy", "gap_nll")
        )
    )


def _under_noise(arm: str, other: str) -> Contrast:
    """The difference in accuracy under noise of standard deviation 1, clipped to valid pixels."""
    terms = (
        Term(arm, "accuracy"),
        Term(arm, "noise_drop", -1.0),
        Term(other, "accuracy", -1.0),
        Term(other, "noise_drop"),
    )
    return Contrast(f"{arm} - {other}: accuracy under clipped noise", terms)


FOCAL_IS_BEST = All(
    (
        _best("sgd", "focal_0.5", "accuracy", (*L1, *CLASSIFYING)),
        Best("adam-focal_0.5", ("sgd-focal_0.5", *_arms((*L1, "cross_entropy", "focal_2"), ("adam",))), "accuracy"),
    )
)
SENSITIVITY_OF_SGD = _arms(("focal_0.5", "focal_2", "cross_entropy"), ("sgd",))

CLAIMS: tuple[Claim, ...] = (
    claim(
        "000-01",
        "Test accuracy climbs over the epochs with every loss except L1.",
        All(
            (
                Superior(values(_arms(CLASSIFYING), "trend_accuracy")),
                *(Not(Superior(values((arm,), "trend_accuracy"), delta=FLAT)) for arm in _arms(L1)),
            )
        ),
        note="L1 counts as not climbing once its rank correlation with the epoch falls or is shown to lie within "
        "0.3 of zero; an interval that merely contains zero is inconclusive. Fair: validation accuracy.",
    ),
    claim(
        "000-02",
        "Adam reaches a far higher accuracy than SGD.",
        superior(_adam_over_sgd((*L1, *CLASSIFYING)), "accuracy", at_least_twice_delta=True),
        note="Asked of every loss, L1 on probabilities and on raw outputs included; far higher is twice delta.",
    ),
    claim(
        "000-03",
        "L1 is a poor loss for many classes.",
        superior(
            [(f"{optimizer}-cross_entropy", f"{optimizer}-{loss}") for optimizer in OPTIMIZERS for loss in L1],
            "accuracy",
        ),
        note="Cross-entropy must beat L1 on probabilities and on raw outputs, under both optimizers.",
    ),
    claim(
        "000-04",
        "Under SGD, focal loss with gamma 0.5 is the most accurate of all losses.",
        _best("sgd", "focal_0.5", "accuracy", (*L1, *CLASSIFYING)),
    ),
    claim(
        "000-05",
        "Under Adam, cross-entropy is the most accurate of all losses.",
        _best("adam", "cross_entropy", "accuracy", (*L1, *CLASSIFYING)),
    ),
    claim(
        "000-06",
        "Adam converges sooner than SGD, after about 15 epochs instead of 25.",
        All(
            (
                superior(_adam_over_sgd(CLASSIFYING), "epochs_to_target", lower=True),
                *(Number(arm, "convergence_epoch", 15.0) for arm in _arms(CLASSIFYING, ("adam",))),
                *(Number(arm, "convergence_epoch", 25.0) for arm in _arms(CLASSIFYING, ("sgd",))),
            )
        ),
        reported="15 epochs (Adam), 25 (SGD)",
        note="Cross-entropy and the focal losses; the two numbers are asked of each of them.",
    ),
    claim(
        "000-07",
        "In the second half of training, accuracy fluctuates more under Adam than under SGD.",
        superior(_adam_over_sgd(CLASSIFYING), "fluctuation"),
        note="Cross-entropy and the focal losses; validation accuracy.",
    ),
    claim(
        "000-08",
        "Under SGD, focal loss with gamma 0.5 converges faster than cross-entropy and than focal loss with gamma 2.",
        All(
            tuple(
                superior(
                    [("sgd-focal_0.5", "sgd-cross_entropy"), ("sgd-focal_0.5", "sgd-focal_2")], measure, lower=lower
                )
                for measure, lower in (("epochs_to_target", True), ("area", False))
            )
        ),
        note="Both by the epochs to a common accuracy and by the area under the curve.",
    ),
    claim(
        "000-09",
        "Focal loss with gamma 0.5 converges first, then gamma 2, then cross-entropy.",
        All(
            tuple(
                Ordered(_arms(("focal_0.5", "focal_2", "cross_entropy"), (optimizer,)), "epochs_to_target", lower=True)
                for optimizer in OPTIMIZERS
            )
        ),
    ),
    claim(
        "000-10",
        "Train and test loss decline gradually.",
        Superior(
            tuple(
                contrast
                for measure in ("trend_train_loss", "trend_loss")
                for contrast in values(_arms((*L1, *CLASSIFYING)), measure)
            ),
            lower=True,
        ),
        note="Every arm, each by its own loss; fair: validation loss in place of test loss.",
    ),
    claim(
        "000-11",
        "The test losses lie below the train losses, which shows that the networks generalise well.",
        Superior(values(_arms((*L1, *CLASSIFYING)), "gap_loss"), lower=True),
        note="Decides the first half only, with both losses measured after the last epoch in evaluation mode; the "
        "report compared a running train loss.",
    ),
    claim(
        "000-12",
        "The gap between train and test is smallest for focal loss with gamma 0.5, then cross-entropy, then focal loss "
        "with gamma 2, under both optimizers.",
        _gaps(("focal_0.5", "cross_entropy", "focal_2")),
        note="Contradicts 000-13.",
    ),
    claim(
        "000-13",
        "The gap between train and test is smallest for focal loss with gamma 0.5, then gamma 2, then cross-entropy.",
        _gaps(("focal_0.5", "focal_2", "cross_entropy")),
        note="Contradicts 000-12.",
    ),
    claim(
        "000-14",
        "Noise on the images always lowers accuracy after SGD and always raises it after Adam.",
        All(
            (
                Share(_arms(CLASSIFYING, ("sgd",)), "noise_lowers", at_least=0.95),
                Share(_arms(CLASSIFYING, ("adam",)), "noise_raises", at_least=0.95),
            )
        ),
        note="Always is at least 95% of the seeds. Stated: unclipped noise as in the report; fair: clipped.",
    ),
    claim(
        "000-15",
        "Networks trained with Adam therefore generalise excellently.",
        All(
            (superior(_adam_over_sgd(CLASSIFYING), "accuracy"), superior(_adam_over_sgd(CLASSIFYING), "noisy_accuracy"))
        ),
        fair=All(
            (
                superior(_adam_over_sgd(CLASSIFYING), "accuracy"),
                Superior(tuple(_under_noise(adam, sgd) for adam, sgd in _adam_over_sgd(CLASSIFYING))),
            )
        ),
        note="Read as higher accuracy than after SGD, on clean and on noisy images (stated: unclipped noise; fair: "
        "clipped).",
    ),
    claim(
        "000-16",
        "Under SGD, noise harms focal loss with gamma 0.5 most, then gamma 2, then cross-entropy.",
        All((Ordered(SENSITIVITY_OF_SGD, "corruption_area"), Ordered(SENSITIVITY_OF_SGD, "noisy_drop"))),
        fair=All((Ordered(SENSITIVITY_OF_SGD, "corruption_area"), Ordered(SENSITIVITY_OF_SGD, "noise_drop"))),
        note="By the area of the drop over the severities and by the drop at standard deviation 1 (stated: unclipped; "
        "fair: clipped).",
    ),
    claim(
        "000-17",
        "Under Adam, cross-entropy suffers least from noise.",
        _best("adam", "cross_entropy", "corruption_area", CLASSIFYING, lower=True),
        note="Against the focal losses.",
    ),
    claim(
        "000-18",
        "Noise harms networks trained with Adam less than those trained with SGD.",
        superior(_adam_over_sgd(CLASSIFYING), "corruption_area", lower=True),
    ),
    claim(
        "000-19",
        "Focal loss with gamma 0.5 is the most suitable loss in general, and Adam the optimizer to prefer.",
        FOCAL_IS_BEST,
        fair=OnDatasets(FOCAL_IS_BEST, 2),
        note="Focal loss with gamma 0.5 must be the most accurate under SGD and under Adam, and more accurate with "
        "Adam. General means at least two data sets with tuned learning rates; stated: this data set alone.",
    ),
    claim(
        "000-20",
        "Training on with Adam from the weights that SGD found does better.",
        superior(
            [
                (f"sgd_then_adam-{loss}", f"{optimizer}-{loss}-80_epochs")
                for loss in CLASSIFYING
                for optimizer in OPTIMIZERS
            ],
            "accuracy",
        ),
        note="Against SGD alone and Adam alone for as many epochs in total.",
    ),
    claim(
        "000-21",
        "With more epochs, focal loss with gamma 0.5 would show its superiority.",
        AtScaleOne(
            Superior(
                tuple(
                    interaction(
                        (f"{optimizer}-focal_0.5-80_epochs", f"{optimizer}-{rival}-80_epochs"),
                        (f"{optimizer}-focal_0.5", f"{optimizer}-{rival}"),
                        "accuracy",
                    )
                    for optimizer in OPTIMIZERS
                    for rival in ("cross_entropy", "focal_2")
                )
            )
        ),
        note="Its lead over each of the other two must grow from 40 to 80 epochs.",
    ),
    claim(
        "000-22",
        "The networks have converged after 40 epochs.",
        AtScaleOne(equal([(f"{arm}-80_epochs", arm) for arm in _arms(CLASSIFYING)], "accuracy")),
        reported="40 epochs",
        note="Accuracy after 80 epochs must be the same within delta.",
    ),
    claim(
        "000-23",
        "Cross-entropy and the two focal losses perform alike.",
        Equal(
            tuple(
                contrast
                for optimizer in OPTIMIZERS
                for contrast in equal(
                    [
                        (f"{optimizer}-cross_entropy", f"{optimizer}-focal_0.5"),
                        (f"{optimizer}-cross_entropy", f"{optimizer}-focal_2"),
                        (f"{optimizer}-focal_0.5", f"{optimizer}-focal_2"),
                    ],
                    "accuracy",
                ).contrasts
            )
        ),
    ),
)
