"""What an experiment's page in MLflow says and offers: a description, and saved views of its runs."""

from __future__ import annotations

import base64
import json
import logging
import time
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_EXPERIMENT_PRIMARY_METRIC_GREATER_IS_BETTER,
    MLFLOW_EXPERIMENT_PRIMARY_METRIC_NAME,
    MLFLOW_RUN_NOTE,
)

logger = logging.getLogger(__name__)

NOTE = """\
**Studies** – does a training choice matter, by how much, and how sure are we?

Every run at the top is a *study*: its page holds the verdict, the numbers and `report.html`. The runs that unfold under
it are its *trials*: `phase` is `search` (tuned the arm's hyperparameters), `confirm` (the arm's winner on a fresh seed,
scored on the test split) or `control`. Results are the confirm runs' alone; a search score is the best of many.

**Views**, at the top right, has the tables that pay: *Studies* compares studies, *Arms, confirmed* has every arm's
confirm runs in a group, *Arms, searched* the search; the chart symbol beside the search box then draws a line per arm.
With several studies here, add `and tags.study = 'NAME'` in the search box. `docs/mlflow.md` has the rest.
"""
STUDY_COLUMNS = (
    *("tags.dataset", "tags.state", "metrics.best_accuracy", "metrics.baseline_accuracy"),
    *("metrics.best_difference_points", "metrics.best_difference_low_points", "metrics.best_difference_high_points"),
    *("metrics.smallest_p_holm", "metrics.num_arms_better", "metrics.num_arms_worse", "metrics.num_arms_equivalent"),
    *("metrics.detectable_points", "metrics.num_trials", "metrics.num_epochs", "metrics.wall_seconds"),
)
CONFIRM_COLUMNS = (
    *("tags.arm", "tags.seed", "tags.stop_reason", "metrics.test_accuracy", "metrics.test_nll", "metrics.test_ece"),
    *("metrics.val_accuracy", "params.optimizer", "params.optimizer.learning_rate", "params.batch_size"),
    "params.epochs",
)
SEARCH_COLUMNS = (
    *("tags.arm", "tags.stop_reason", "metrics.val_accuracy", "metrics.val_nll", "params.optimizer"),
    *("params.optimizer.learning_rate", "params.batch_size", "params.epochs"),
)
BY_ARM = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "arm"}]}
#: Name in the link → name in the menu, which runs, what they are sorted by, their columns, how they are grouped.
VIEWS: dict[str, tuple[str, str, str, tuple[str, ...], dict[str, Any] | None]] = {
    "studies": ("Studies", "tags.phase = 'study'", "attributes.start_time", STUDY_COLUMNS, None),
    # Sorted by date, MLflow adds the studies' own runs to the trials, and their numbers to the charts.
    "confirmed": ("Arms, confirmed", "tags.phase = 'confirm'", "metrics.test_accuracy", CONFIRM_COLUMNS, BY_ARM),
    "searched": ("Arms, searched", "tags.phase = 'search'", "metrics.val_accuracy", SEARCH_COLUMNS, BY_ARM),
}
VIEW_TAG = "mlflow.sharedViewState."


def describe_experiment(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> None:
    """Give an experiment its description and views; what it has already stays as it is.

    Args:
        client: Client of the tracking store.
        experiment_id: The experiment.
        tags: Those it has.
    """
    wanted = {
        "mlflow.experimentKind": "custom_model_development",
        MLFLOW_RUN_NOTE: NOTE,
        MLFLOW_EXPERIMENT_PRIMARY_METRIC_NAME: "val_accuracy",
        MLFLOW_EXPERIMENT_PRIMARY_METRIC_GREATER_IS_BETTER: "True",
    }
    wanted |= {f"{VIEW_TAG}{key}": build_view(*view) for key, view in VIEWS.items()}
    try:
        for key, value in wanted.items():
            if key not in tags:
                client.set_experiment_tag(experiment_id, key, value)
    except MlflowException as error:  # a page that says less is no reason to run no study
        logger.warning("The experiment keeps its page as it is: %s", error)


def build_view(name: str, where: str, order_by: str, columns: Iterable[str], group_by: Mapping[str, Any] | None) -> str:
    """A saved view of the runs' table, as MLflow's own page (3.17) writes and reads it.

    Args:
        name: In the menu.
        where: The search box.
        order_by: What the runs are sorted by, the greatest first.
        columns: ``tags.NAME``, ``metrics.NAME`` or ``params.NAME``, shown in this order.
        group_by: What the runs are grouped by, or None.
    """
    shown = [_column(column) for column in columns]
    state = {
        "searchFilter": where,
        "orderByKey": order_by if order_by.startswith("attributes.") else _column(order_by),
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": shown,
        "columnOrder": shown,
        "columnWidths": {},
        "runsHiddenMode": "FIRST_20_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": group_by,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    now = int(time.time() * 1000)
    return json.dumps({"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})


def _column(name: str) -> str:
    kind, _, key = name.partition(".")
    return f"{kind}.`{key}`"
