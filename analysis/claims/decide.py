"""A test and what studies measured → a result: one function per kind of test.

What each kind reads is here, what its numbers amount to is in :mod:`analysis.claims.verdicts`. A test that the record
cannot answer is *not run*, and says what would run it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from analysis.claims import verdicts
from analysis.claims.evidence import Evidence, NotMeasuredError, displayed
from analysis.claims.model import (
    HOLDS,
    INCONCLUSIVE,
    NOT_RUN,
    NOT_TESTABLE,
    REFUTED,
    All,
    AnyOf,
    AtScaleOne,
    Best,
    Contrast,
    Different,
    EffectSize,
    Equal,
    Identity,
    Most,
    Not,
    NotTestable,
    Number,
    OnDatasets,
    Ordered,
    RarerThan,
    Share,
    Superior,
    Test,
    difference,
    value,
)
from analysis.claims.reader import Reader
from analysis.claims.results import Result
from analysis.inference import Array

#: The factors of a cross whose shares of the variance are compared.
TWO_FACTORS = 2


def decide(test: Test, reader: Reader) -> Result:
    """The verdict of a test on what the reader has; *not run* with the reason where that lacks something."""
    try:
        result = _DECIDE[type(test)](test, reader)
    except NotMeasuredError as missing:
        return Result(NOT_RUN, reason=str(missing))
    if result.verdict == NOT_RUN and result.label in reader.missing:
        return replace(result, reason=reader.missing[result.label])
    return result


def count_tests(test: Test) -> int:
    """How many comparisons a test makes, over which Holm corrects: the family is one claim in one regime."""
    match test:
        case Superior():
            return 0 if test.interval_only else len(test.contrasts)
        case Equal() | Different():
            return len(test.contrasts)
        case Best() | Ordered():
            return len(test.rivals) if isinstance(test, Best) else len(test.arms) - 1
        case All() | AnyOf() | Most():
            return sum(map(count_tests, test.parts))
        case Not() | OnDatasets() | AtScaleOne():
            return count_tests(test.part)
        case _:
            return 0


def _samples(contrasts: Sequence[Contrast], reader: Reader) -> dict[str, Array]:
    return {contrast.label: reader.sample(contrast) for contrast in contrasts}


def _compared(
    contrasts: Sequence[Contrast], reader: Reader, verdict_of: Callable[[dict[str, Array]], Result]
) -> Result:
    """The verdict on the contrasts that can be decided; the others only keep it from holding."""
    samples = _samples(contrasts, reader)
    undecided = {label: reason for label, reason in reader.undecided.items() if label in samples}
    decidable = {label: sample for label, sample in samples.items() if label not in undecided}
    result = verdict_of(decidable) if decidable else Result(HOLDS)
    if not undecided or result.verdict in {REFUTED, NOT_RUN}:
        return result
    label, reason = next(iter(undecided.items()))
    return Result(INCONCLUSIVE, label=label, reason=reason, parts=result.parts)


def _superior(test: Superior, reader: Reader) -> Result:
    def verdict_of(samples: dict[str, Array]) -> Result:
        return verdicts.superior(
            samples,
            lower=test.lower,
            bound=test.bound,
            delta=reader.delta(_measure_of(test.contrasts), test.delta),
            interval_only=test.interval_only,
            at_least_twice_delta=test.at_least_twice_delta,
            family=reader.family,
        )

    result = _compared(test.contrasts, reader, verdict_of)
    return _on_own_data(result, reader) if test.absolute else result


def _best(test: Best, reader: Reader) -> Result:
    differences = [difference(test.arm, rival, test.measure) for rival in test.rivals]
    delta = reader.delta(test.measure, None)
    how: dict[str, Any] = {"lower": test.lower, "delta": delta, "family": reader.family}
    return _compared(differences, reader, functools.partial(verdicts.best, **how))


def _ordered(test: Ordered, reader: Reader) -> Result:
    pairs = zip(test.arms[:-1], test.arms[1:], strict=True)
    differences = [difference(arm, following, test.measure) for arm, following in pairs]
    delta = reader.delta(test.measure, None)
    how: dict[str, Any] = {"lower": test.lower, "delta": delta, "family": reader.family}
    return _compared(differences, reader, functools.partial(verdicts.ordered, **how))


def _equal(test: Equal, reader: Reader) -> Result:
    measure_name = _measure_of(test.contrasts)
    delta = reader.delta(measure_name, test.delta)
    if delta is None:
        raise ValueError(f"Equality in {measure_name!r} needs a delta: the measure has none of its own.")
    equal = functools.partial(verdicts.equal, delta=delta, family=reader.family)
    return _compared(test.contrasts, reader, equal)


def _different(test: Different, reader: Reader) -> Result:
    delta = reader.delta(_measure_of(test.contrasts), test.delta)
    different = functools.partial(verdicts.different, delta=delta, family=reader.family)
    return _compared(test.contrasts, reader, different)


def _number(test: Number, reader: Reader) -> Result:
    contrast = test.contrast or value(test.arm, test.measure)
    result = verdicts.number(reader.sample(contrast), value=test.value, label=contrast.label)
    return _on_own_data(result, reader) if test.absolute else result


def _share(test: Share, reader: Reader) -> Result:
    samples = _samples([value(arm, test.measure) for arm in test.arms], reader)
    reader.units |= dict.fromkeys(samples, "of the seeds")
    events = {label: 1 - sample if test.absent else sample for label, sample in samples.items()}
    return verdicts.share(events, above=test.above, at_least=test.at_least)


def _rarer(test: RarerThan, reader: Reader) -> Result:
    own = reader.events(test.arm, test.event)
    rivals = {f"{test.arm} - {rival}: {test.event}": reader.events(rival, test.event) for rival in test.rivals}
    reader.units |= dict.fromkeys(rivals, "of the trials")
    return verdicts.rarer(own, rivals)


def _effect_size(test: EffectSize, reader: Reader) -> Result:
    levels = dict(test.levels)
    others = [name for name in levels if name != test.factor]
    if len(levels) != TWO_FACTORS or test.factor not in levels or test.than not in {None, *others}:
        raise ValueError(f"An effect size is of one of two factors; got {test.factor!r} and {test.than!r} of {levels}.")
    names = {
        (own, other): test.pattern.format(**{test.factor: own, others[0]: other})
        for own in levels[test.factor]
        for other in levels[others[0]]
    }
    arms = [[names[own, other] for other in levels[others[0]]] for own in levels[test.factor]]
    than = f" - omega squared of {test.than}" if test.than else ""
    label = f"omega squared of {test.factor}{than}: {test.measure}"
    cells = reader.cells(arms, test.measure, label)
    return replace(verdicts.effect_size(cells, below=test.below, than=test.than is not None), label=label)


def _identity(test: Identity, reader: Reader) -> Result:
    identity = reader.identity(test.name)
    verdict = HOLDS if bool(identity["holds"]) == test.expected else REFUTED
    statement = str(identity.get("statement", test.name)).rstrip(".")
    reason = f"exact test: {'true' if identity['holds'] else 'false'} that {_within_a_sentence(statement)}"
    return Result(verdict, label=test.name, reason=reason)


def _within_a_sentence(statement: str) -> str:
    """Its first letter small, unless it begins with an abbreviation such as KL."""
    return statement if statement[1:2].isupper() else f"{statement[:1].lower()}{statement[1:]}"


def _all(test: All, reader: Reader) -> Result:
    return verdicts.all_of([decide(part, reader) for part in test.parts])


def _any(test: AnyOf, reader: Reader) -> Result:
    return verdicts.any_of([decide(part, reader) for part in test.parts])


def _most(test: Most, reader: Reader) -> Result:
    return verdicts.most_of([decide(part, reader) for part in test.parts])


def _not(test: Not, reader: Reader) -> Result:
    return verdicts.opposite(decide(test.part, reader))


def _at_scale_one(test: AtScaleOne, reader: Reader) -> Result:
    scale = reader.evidence.scope.epochs_scale
    if scale < 1:
        raise NotMeasuredError(f"it needs the report's full epochs, and {scale:g} of them were run (--epochs-scale 1)")
    return decide(test.part, reader)


def _not_testable(test: NotTestable, _: Reader) -> Result:
    return Result(NOT_TESTABLE, reason=test.reason)


def _on_datasets(test: OnDatasets, reader: Reader) -> Result:
    """The best outcome on each data set, counted."""
    found = {displayed(reader.evidence.scope.dataset): decide(test.part, reader)}
    for dataset, group in _by_dataset(reader.elsewhere).items():
        # Of one's own data set other studies count too, as at other epochs, where this body has no verdict.
        if dataset not in found or found[dataset].verdict == NOT_RUN:
            readers = [Reader(evidence, reader.regime, family=reader.family) for evidence in group]
            results = [decide(test.part, other) for other in readers]
            best = max(range(len(group)), key=lambda index: (results[index].verdict != NOT_RUN, group[index].rank))
            if dataset in found and results[best].verdict == NOT_RUN:
                continue
            found[dataset] = results[best]
            reader.units |= readers[best].units
            reader.studies |= readers[best].studies
            reader.notes |= {f"{dataset}: {note}": None for note in readers[best].notes}
    parts = [replace(part, label=f"{dataset}: {part.label}") for dataset, part in found.items()]
    reader.units |= {f"{dataset}: {part.label}": reader.units.get(part.label, "") for dataset, part in found.items()}
    return _count_datasets(parts, found, test.at_least)


def _count_datasets(parts: Sequence[Result], found: Mapping[str, Result], at_least: int) -> Result:
    verdict = _verdict_on_datasets([part.verdict for part in parts], at_least)
    # The numbers shown are those of a data set with the verdict, if there is one.
    deciding = next((part for part in parts if part.verdict == verdict), parts[0])
    said = ", ".join(f"{dataset} {result.verdict}" for dataset, result in found.items())
    more = [f"on {said}", f"it takes {at_least} data sets (--dataset)"] if verdict == NOT_RUN else [f"on {said}"]
    more += [part.reason for part in parts if part.reason and part.verdict in {verdict, NOT_RUN}]
    return replace(deciding, verdict=verdict, reason="; ".join(dict.fromkeys(more)), parts=tuple(parts))


def _verdict_on_datasets(each: Sequence[str], at_least: int) -> str:
    if REFUTED in each:
        return REFUTED
    if each.count(HOLDS) >= at_least:
        return HOLDS
    if each.count(NOT_TESTABLE) == len(each):
        return NOT_TESTABLE
    return NOT_RUN if len(each) - each.count(NOT_RUN) < at_least else INCONCLUSIVE


def _by_dataset(group: Sequence[Evidence]) -> dict[str, list[Evidence]]:
    found: dict[str, list[Evidence]] = {}
    for evidence in group:
        found.setdefault(displayed(evidence.scope.dataset), []).append(evidence)
    return found


def _on_own_data(result: Result, reader: Reader) -> Result:
    stand_in = reader.evidence.stand_in
    if not stand_in or result.verdict == NOT_RUN:
        return result
    return replace(result, verdict=NOT_TESTABLE, reason=f"{stand_in}: the reported number belongs to its own data")


def _measure_of(contrasts: Sequence[Contrast]) -> str:
    return contrasts[0].terms[0].measure


#: Kind of test → what decides it.
_DECIDE: dict[type, Callable[[Any, Reader], Result]] = {
    Superior: _superior,
    Best: _best,
    Ordered: _ordered,
    Equal: _equal,
    Different: _different,
    Number: _number,
    Share: _share,
    RarerThan: _rarer,
    EffectSize: _effect_size,
    Identity: _identity,
    All: _all,
    AnyOf: _any,
    Most: _most,
    Not: _not,
    OnDatasets: _on_datasets,
    AtScaleOne: _at_scale_one,
    NotTestable: _not_testable,
}
