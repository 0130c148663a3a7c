"""Which hyperparameter decided whether a trial was among the best: PED-ANOVA, against what chance gives.

Each arm's search is rebuilt as an Optuna study in memory; the evaluator is Optuna's
(S. Watanabe, A. Bansal and F. Hutter: PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
Subspaces, IJCAI 2023, arXiv:2304.10255; with conditional parameters as in arXiv:2601.20800).
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from analysis.compare import POINTS
from analysis.configurations import search_trials, searched_parameters
from analysis.figures.style import GRID, INK, Style, label, lay_out
from analysis.findings import Findings

#: PED-ANOVA tells the best trials from all; its authors ask for at least five among the best.
NUM_TOP = 5
#: The best quarter if there are enough trials: a learning rate that alone decides stood out in 4 of 8 simulated studies
#: of 60 trials with the best tenth, Optuna's default, and in 8 of 8 with the best quarter.
TOP_SHARE = 0.25
#: With fewer, more than half of the trials would be "the best". Nor does a hyperparameter that fewer trials have (one
#: optimizer's momentum, one arm's own) say more than chance: pooled, six trials of one arm took a third of the whole.
MIN_TRIALS = 2 * NUM_TOP
#: The accuracies are dealt to the trials anew so often; chance beats all of them once in NUM_SHUFFLES + 1.
NUM_SHUFFLES = 19
POOLED, JOINT = "all arms", "joint search"
COLUMNS = ("row", "pooled", "hyperparameter", "importance", "beyond_chance", "num_trials", "num_top")
#: From white: the share is a magnitude, no arm's colour. What chance may have done has none: a continuous range takes
#: most of the importance of a small search even where nothing matters.
SCALE = ((0.0, "#ffffff"), (0.5, "#9cc3e6"), (1.0, "#2f6fae"))
PALE, SOFT = 70, "#6b7280"


def info_importance(findings: Findings) -> pd.DataFrame:
    """One row per search and hyperparameter: what is searched apart, and all arms together.

    Returns:
        ``row`` (an arm; ``all arms``: every trial, ranked within its arm; or the one joint search), ``pooled``,
        ``hyperparameter``, ``importance`` (its share of the row's, adding to 1), ``beyond_chance`` (above what
        ``NUM_SHUFFLES`` shuffles of the accuracies gave), ``num_trials`` and ``num_top`` (how many count as best).
        Nothing where fewer than two hyperparameters were searched.
    """
    trials, protocol = search_trials(findings), findings.record.protocol
    if trials.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    searches: list[tuple[str, bool, pd.DataFrame, pd.Series[float]]] = []
    accuracy = trials["val_accuracy"].astype(float)
    if protocol.get("mode") == "joint":
        searches.append((JOINT, True, trials, accuracy))
    else:
        if len(set(trials["arm"])) > 1:
            # Arms differ in level; how well a trial did is its place among its own arm's.
            searches.append((POOLED, True, trials, accuracy.groupby(trials["arm"]).rank(pct=True)))
        searches += [
            (arm, False, own, accuracy[own.index]) for arm in findings.arms if len(own := trials[trials["arm"] == arm])
        ]
    frames = [
        _row(
            name,
            pooled,
            importance_of(own, np.asarray(scores, dtype=np.float64), protocol, np.random.default_rng(place)),
        )
        for place, (name, pooled, own, scores) in enumerate(searches)
        if len(own) >= MIN_TRIALS
    ]
    frames = [frame for frame in frames if not frame.empty]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))


def _row(name: str, pooled: bool, importance: pd.DataFrame) -> pd.DataFrame:
    return importance.assign(row=name, pooled=pooled)[list(COLUMNS)]


def importance_of(
    trials: pd.DataFrame, scores: NDArray[np.float64], protocol: Mapping[str, Any], generator: np.random.Generator
) -> pd.DataFrame:
    """PED-ANOVA of one search, and which of it stands out from chance.

    Args:
        trials: Rows of ``trials``, at least two.
        scores: How well each did, larger is better; only their order counts.
        protocol: The study's ``study.json``: the declared ranges.
        generator: Shuffles the scores.

    Returns:
        ``hyperparameter, importance, beyond_chance, num_trials, num_top``, in the order of the protocol, of those that
        at least ``MIN_TRIALS`` trials have; empty where these are fewer than two or none has any importance.
    """
    study = build_optuna_study(trials.to_dict("records"), protocol)
    known = Counter(key for trial in study.get_trials(deepcopy=False) for key in trial.params)
    keys = [key for key, count in known.items() if count >= MIN_TRIALS]
    share = max(TOP_SHARE, min(0.5, NUM_TOP / len(trials)))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=share)
    columns = ["hyperparameter", "importance", "beyond_chance", "num_trials", "num_top"]
    if len(keys) < 2:  # noqa: PLR2004 - one alone has all the importance there is
        return pd.DataFrame(columns=columns)
    observed = _evaluate(evaluator, study, keys, scores)
    if not observed.sum() > 0:
        return pd.DataFrame(columns=columns)
    chance = np.array([_evaluate(evaluator, study, keys, generator.permutation(scores)) for _ in range(NUM_SHUFFLES)])
    return pd.DataFrame(
        {
            "hyperparameter": keys,
            "importance": observed / observed.sum(),
            "beyond_chance": (observed > chance.max(axis=0)),
            "num_trials": len(trials),
            "num_top": math.ceil(share * len(trials)),
        }
    )


def build_optuna_study(trials: Sequence[Mapping[Any, Any]], protocol: Mapping[str, Any]) -> optuna.Study:
    """The search as Optuna knew it: each trial's searched parameters under the range that held for it.

    A key with a range per optimizer keeps each trial's own; a trial that lacks a parameter lacks it here too.
    """
    frozen = []
    for trial in trials:
        values: dict[str, Any] = {}
        ranges: dict[str, BaseDistribution] = {}
        for key, parameter in searched_parameters(trial, protocol).items():
            value, distribution = _place(trial[key], parameter)
            if distribution is not None:
                values[key], ranges[key] = value, distribution
        frozen.append(optuna.trial.create_trial(params=values, distributions=ranges, value=0.0))
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else a line per study on the terminal
    try:
        study = optuna.create_study(storage=optuna.storages.InMemoryStorage(), direction="maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)
    study.add_trials(frozen)
    return study


def _place(value: Any, parameter: Mapping[str, Any]) -> tuple[Any, BaseDistribution | None]:
    """A recorded value within its declared range; no distribution where it is not in it."""
    if parameter["kind"] == "categorical":
        # MLflow holds text: what reads like a number has become one.
        choice = next((one for one in parameter["choices"] if one == value or str(one) == str(value)), None)
        return choice, None if choice is None else CategoricalDistribution(tuple(parameter["choices"]))
    low, high, log = parameter["low"], parameter["high"], bool(parameter.get("log"))
    if isinstance(value, str) or not low <= value <= high:
        return None, None
    if parameter["kind"] == "integer":
        return int(value), IntDistribution(low, high, log=log)
    return float(value), FloatDistribution(low, high, log=log)


def _evaluate(
    evaluator: optuna.importance.PedAnovaImportanceEvaluator,
    study: optuna.Study,
    keys: list[str],
    scores: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The importance of each key, not normalised."""
    with warnings.catch_warnings():
        # That low targets are sought (they are the scores turned over), and that few trials share a condition.
        warnings.simplefilter("ignore")
        found = evaluator.evaluate(study, keys, target=lambda trial: -float(scores[trial.number]))
    return np.array([found[key] for key in keys])


def plot_importance(info: pd.DataFrame, _style: Style) -> go.Figure:
    """A table of shares; those that stand out from chance are bold with a star, and darker for more."""
    rows = list(dict.fromkeys(info["row"]))
    keys = list(dict.fromkeys(info["hyperparameter"]))
    shares = info.pivot_table(index="row", columns="hyperparameter", values="importance").reindex(rows, columns=keys)
    found = info.pivot_table(index="row", columns="hyperparameter", values="beyond_chance", aggfunc="any")
    found = found.reindex(rows, columns=keys).eq(True)
    cells = {(one["row"], one["hyperparameter"]): one for one in info.to_dict("records")}
    figure = go.Figure()
    figure.add_heatmap(
        z=shares.where(found | shares.isna(), 0).to_numpy() * POINTS,
        x=list(range(len(keys))),
        y=list(range(len(rows))),
        zmin=0,
        zmax=100,
        colorscale=SCALE,
        xgap=2,
        ygap=2,
        hoverongaps=False,
        hovertext=[[_hover(cells.get((row, key))) for key in keys] for row in rows],
        hoverinfo="text",
        showscale=False,  # the cells say it
    )
    for (row, key), cell in cells.items():
        share = f"{cell['importance'] * POINTS:.0f}"
        ink = SOFT if not cell["beyond_chance"] else "white" if cell["importance"] * POINTS > PALE else INK
        figure.add_annotation(
            x=keys.index(key),
            y=rows.index(row),
            text=f"<b>{share}*</b>" if cell["beyond_chance"] else share,
            showarrow=False,
            font={"color": ink, "size": 13},
        )
    counts = info.drop_duplicates("row").set_index("row")["num_trials"]
    lay_out(figure, height=150 + 30 * len(rows))
    figure.update_xaxes(
        title_text="Searched hyperparameter; cells: share of the row's importance (%)",
        tickvals=list(range(len(keys))),
        ticktext=[label(key).replace(".", ".<br>", 1) for key in keys],
        tickangle=0,
        showgrid=False,
    )
    figure.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=[f"{label(row, 24)} ({counts[row]})" for row in rows],
        range=[len(rows) - 0.5, -0.5],
        showgrid=False,
    )
    if len(rows) > 1 and bool(info["pooled"].iloc[0]):
        figure.add_hline(y=0.5, line={"color": GRID, "width": 3})
    return figure


def _hover(cell: Mapping[Any, Any] | None) -> str:
    if cell is None:
        return ""
    chance = "above all" if cell["beyond_chance"] else "not above all"
    return (
        f"<b>{label(cell['row'])}</b>, {label(cell['hyperparameter'])}: {cell['importance']:.0%} of the importance<br>"
        f"the best {cell['num_top']} of {cell['num_trials']} trials; {chance} of {NUM_SHUFFLES} shuffles"
    )


def say_importance(info: pd.DataFrame, _style: Style) -> str:
    """What decided, where that stands out from chance, and how much chance alone would show."""
    whole, single = info[info["pooled"].astype(bool)], info[~info["pooled"].astype(bool)]
    parts = []
    if not whole.empty:
        which = "the joint search" if whole["row"].iloc[0] == JOINT else "all arms"
        parts.append(f"over the {int(whole['num_trials'].iloc[0]):,} trials of {which}, {_describe(whole)}")
    if not single.empty:
        counts = single.groupby("row")["num_trials"].first()
        size = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
        found = int(single["beyond_chance"].astype(bool).sum())
        by_chance = len(single) / (NUM_SHUFFLES + 1)
        parts.append(
            f"of the {len(single)} cells of single arms ({size} trials each) {found} stand out from chance, where "
            f"chance alone would show about {by_chance:.0f}"
        )
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _describe(row: pd.DataFrame) -> str:
    """The hyperparameters of one row that stand out, largest first."""
    found = row[row["beyond_chance"].astype(bool)].sort_values("importance", ascending=False, kind="stable")
    if found.empty:
        return "no hyperparameter stands out from chance"
    names = [f"{one['hyperparameter']} ({one['importance']:.0%})" for one in found.to_dict("records")]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{listed} {'stands' if len(names) == 1 else 'stand'} out from chance in deciding which are best"
