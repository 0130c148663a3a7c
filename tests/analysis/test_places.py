"""Where trials ran and for how long, one that moved on each of its nodes."""

import pandas as pd
import pytest

from analysis.places import add_sums, describe_nodes, no_nodes, node_audit, nodes_part, nodes_section

EPOCH = pd.Timestamp("2026-01-01", tz="UTC")


def a_trial(node, start, end, **tags):
    times = {"start": EPOCH + pd.Timedelta(seconds=start), "end": pd.NaT}
    if end is not None:
        times["end"] = EPOCH + pd.Timedelta(seconds=end)
    return {"run_id": f"{node}{start}", "node": node, "nodes": node, "node_seconds": "", **times, **tags}


def audit(*trials):
    return node_audit(pd.DataFrame(trials)).set_index("node").to_dict("index")


def a_row_of(trials, busy, span):
    return {"trials": trials, "busy_seconds": pytest.approx(busy), "span_seconds": pytest.approx(span)}


def test_busy_is_the_sum_and_span_is_from_the_first_start_to_the_last_end():
    found = audit(a_trial("a", 0, 10), a_trial("a", 5, 20), a_trial("b", 100, 101), a_trial("a", 40, 50))
    assert found == {"a": a_row_of(3, 35, 50), "b": a_row_of(1, 1, 1)}
    assert list(found) == ["a", "b"]


def test_a_trial_that_moved_counts_on_each_of_its_nodes_with_the_time_that_it_was_there():
    moved = a_trial("c", 0, 100, nodes="a b c", node_seconds="10.0 20.0 30.0")
    assert audit(moved) == {"c": a_row_of(1, 30, 30), "b": a_row_of(1, 20, 20), "a": a_row_of(1, 10, 10)}
    # It left a at 10 and was on c from 70 on: the wait in between was spent nowhere.
    assert audit(moved, a_trial("a", 30, 40), a_trial("c", 60, 65)) == {
        "c": a_row_of(2, 35, 40),
        "a": a_row_of(2, 20, 40),
        "b": a_row_of(1, 20, 20),
    }


def test_time_between_two_lives_of_a_study_is_no_trials():
    assert audit(a_trial("a", 0, 1000, node_seconds="7.5")) == {"a": a_row_of(1, 7.5, 7.5)}


def test_a_trial_without_an_end_or_a_node_is_left_out_or_unknown():
    assert node_audit(pd.DataFrame([a_trial("a", 0, None)])).equals(no_nodes())
    assert audit(a_trial("", 0, 5)) == {"unknown": a_row_of(1, 5, 5)}


def test_several_nodes_are_summed_in_a_table_and_one_is_a_line():
    one = node_audit(pd.DataFrame([a_trial("a", 0, 1234)]))
    assert describe_nodes(one) == ["a (1 trial, busy 1,234 s in 1,234 s)"]
    assert nodes_part(one, 1) == ""
    assert nodes_section(one, 1).rows == ()
    moved = a_trial("b<", 0, 3000, nodes="a b<", node_seconds="1000.0 1500.0")
    two = node_audit(pd.DataFrame([moved, a_trial("a", 2000, 2500)]))
    assert [list(row.values()) for row in add_sums(two, 2)][-1] == ["all", 2, 3000.0, 4000.0]
    assert nodes_section(two, 2).rows == [
        ["a", "2", "1,500", "2,500"],
        ["b<", "1", "1,500", "1,500"],
        ["all", "2", "3,000", "4,000"],
    ]
    page = nodes_part(two, 2)
    assert "b&lt;" in page
    assert '<td data-value="4000.0">4,000</td>' in page
