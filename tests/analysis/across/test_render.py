import io
import json

import pandas as pd
import pytest

from analysis.across.page import build_page
from analysis.across.render import TEXT_WIDTH, as_csv, as_json, as_markdown, as_text
from analysis.inference import ALPHA
from tests.analysis.across.conftest import HOSTILE

FOUR = ("digits-1", "digits-2", "letters", "clothes")
ODD = [(HOSTILE, "hostile-2"), ("one-seed", "one-seed-2"), ("digits-1", "alone"), ("constant", "stopped", "bare")]


@pytest.mark.parametrize("names", [FOUR, *ODD])
def test_the_text_fits_a_terminal_and_carries_no_control_characters(result_of, names):
    text = as_text(result_of(*names))
    assert max(map(len, text.splitlines())) <= TEXT_WIDTH
    assert "\x1b" not in text
    assert "nan" not in text.replace("nance", "")
    assert text.startswith(" ".join(result_of(*names).verdict.split())[:20])


@pytest.mark.parametrize("names", [FOUR, *ODD])
def test_json_is_plain_and_complete(result_of, names):
    result = result_of(*names)
    content = json.loads(as_json(result), parse_constant=pytest.fail)
    assert content["schema"] == 1
    assert content["verdict"] == result.verdict
    assert [study["name"] for study in content["studies"]] == list(names)
    assert len(content["scores"]) == len(names) * len(content["arms"])
    assert all(len(row["values"]) == len(names) for row in content["protocols"])


def test_json_says_what_the_frames_say(result_of):
    result = result_of(*FOUR)
    content = json.loads(as_json(result))
    for row, expected in zip(content["scores"], result.scores.to_dict("records"), strict=True):
        assert (row["study"], row["arm"]) == (expected["study"], expected["arm"])
        assert row["accuracy"] == pytest.approx(expected["accuracy"])
        assert (row["p_page"] is None) == row["baseline"]
    assert content["left_out"] == {"mse": "no arm of digits-1, digits-2, letters; no confirm score in clothes"}
    assert content["ranking"]["ranks"][0]["arm"] == "focal"
    assert len(content["versions"]) == 4


def test_the_csv_reads_back_as_the_scores(result_of):
    result = result_of(*FOUR)
    frame = pd.read_csv(io.StringIO(as_csv(result)))
    assert list(frame.columns) == list(result.scores.columns)
    assert frame["accuracy"].tolist() == pytest.approx(result.scores["accuracy"].tolist())
    found = frame[frame["p_page"] < ALPHA]
    assert set(found["outcome"]) == {"better", "worse"}


def test_markdown_shows_hostile_names_as_text(result_of):
    text = as_markdown(result_of(HOSTILE, "hostile-2"))
    assert "<script" not in text.replace("\\<script", "")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") in {4, 5} for line in rows)


@pytest.mark.parametrize("names", [FOUR, *ODD])
def test_the_page_holds_its_sections_and_no_markup_of_others(result_of, names):
    result = result_of(*names)
    page = build_page(result)
    body = page.partition("<body>")[2]
    for identifier in ("verdict", "section-forest", "section-arms", "section-protocols"):
        assert f'id="{identifier}"' in body
    assert ('id="figure-ranking"' in body) == (result.ranking is not None)
    assert ('id="versions"' in body) == (not result.versions.empty)
    assert "<script>window" not in body
    assert ">nan" not in body
    assert "default-src 'none'" in page


def test_the_page_asks_for_nothing(result_of):
    page = build_page(result_of("digits-1", "letters"))
    body = page.partition("<body>")[2]
    assert "http" not in body.replace('"showSendToCloud"', "")
    assert "src=" not in body
