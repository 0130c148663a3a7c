"""The report in a real browser, opened from a file: address with the network off."""

import runpy
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from analysis.figures.table import FIGURES
from analysis.report import build_report
from tests.end_to_end.chromium import open_chromium

SYNTHETIC = runpy.run_path(str(Path(__file__).parents[1] / "analysis" / "synthetic_study.py"))
#: What plotly draws data as: points and lines, bars, cells.
MARKS = ".scatterlayer .trace path, .barlayer .point path, .heatmaplayer image, .heatmaplayer .hm"
HOSTILE = "<script>window.broken = true</script><img src=x onerror='window.broken = true'>&lt;b&gt;"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    effects = {"cross_entropy": 0.0, "focal": 1.5, "l1": -6.0, HOSTILE: -1.0}
    truth = SYNTHETIC["Truth"](effects=effects, diverged=(("l1", 2),), num_trials=4, name=HOSTILE)
    SYNTHETIC["write_study"](uri, folder / "artifacts", truth)
    return build_report(HOSTILE, tracking_uri=uri, output=folder / "report")


@pytest.fixture(scope="module")
def browser(report, tmp_path_factory):
    with open_chromium(tmp_path_factory.mktemp("profile")) as driver:
        driver.get(report.path.as_uri())
        WebDriverWait(driver, 30).until(lambda page: len(page.find_elements(By.CSS_SELECTOR, ".main-svg")) > 0)
        yield driver


def column(browser, table, place):
    return [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, f"#{table} tbody td:nth-child({place})")]


def test_the_page_has_no_console_error_and_asks_for_nothing(browser):
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_is_drawn(browser, name):
    drawing = browser.find_element(By.ID, f"figure-{name}")
    assert drawing.find_elements(By.CSS_SELECTOR, ".main-svg")
    assert drawing.find_elements(By.CSS_SELECTOR, MARKS)
    assert drawing.rect["height"] > 120
    assert drawing.rect["width"] > 600


def test_the_verdict_stands_on_the_page(browser, report):
    # A browser shows runs of blanks as one.
    assert browser.find_element(By.ID, "verdict").text.split() == report.verdict.split()


def test_a_name_with_markup_is_shown_as_text(browser):
    assert not browser.execute_script("return window.broken === true")
    assert any(text.startswith(HOSTILE[:30]) for text in column(browser, "arms", 1))
    ticks = browser.execute_script(
        "return [...document.querySelectorAll('#figure-forest .ytick')].map(node => node.textContent)"
    )
    assert any(tick.startswith(HOSTILE[:20]) for tick in ticks)


def test_no_button_sends_a_chart_away(browser):
    titles = browser.execute_script(
        "return [...document.querySelectorAll('.modebar-btn')].map(node => node.dataset.title)"
    )
    assert titles
    assert not any("hare" in str(title) or "loud" in str(title) for title in titles)


def point_of(browser, name, curve, place):
    """Where on the screen plotly has drawn a point, and the run it stands for."""
    plot = browser.find_element(By.ID, f"figure-{name}")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    script = """
        const [plot, curve, place] = arguments;
        const trace = plot.data[curve], x = plot._fullLayout[(trace.xaxis || "x").replace("x", "xaxis")];
        const y = plot._fullLayout[(trace.yaxis || "y").replace("y", "yaxis")], box = plot.getBoundingClientRect();
        const point = plot.calcdata[curve][place];
        return [box.left + x._offset + x.c2p(point.x), box.top + y._offset + y.c2p(point.y), trace.customdata[place]];
    """
    return browser.execute_script(script, plot, curve, place)


def move_to(browser, across, down):
    actions = ActionBuilder(browser, duration=50)
    # Two moves: plotly looks at the second only once the first has reached the drawing.
    actions.pointer_action.move_to_location(int(across) + 3, int(down) + 3)
    actions.pointer_action.move_to_location(round(across), round(down))
    actions.perform()


def wait_for(browser, selector):
    return WebDriverWait(browser, 20).until(lambda page: page.find_elements(By.CSS_SELECTOR, selector))[0]


@pytest.mark.parametrize(("name", "curve"), [("learning_rate", 0), ("parallel", -2)])
def test_a_mouse_over_a_trial_shows_its_configuration_and_a_click_keeps_it(browser, name, curve):
    traces = browser.execute_script(f"return document.getElementById('figure-{name}').data.length")
    across, down, run = point_of(browser, name, curve % traces, 1)
    move_to(browser, across, down)
    text = wait_for(browser, f"#figure-{name} .hovertext").text
    assert "trial" in text
    assert "optimizer.learning_rate = " in text
    ActionChains(browser).click().perform()
    panel = wait_for(browser, f"#section-{name} .pinned")
    held = browser.execute_script("return JSON.parse(document.getElementById('trials-data').textContent)")
    row = dict(zip(held["columns"], held["trials"][run], strict=True))
    facts = panel.find_elements(By.CSS_SELECTOR, "dl > *")
    shown = {key.text: value.text for key, value in zip(facts[::2], facts[1::2], strict=True)}
    assert shown["optimizer.learning_rate"] == str(row["optimizer.learning_rate"])
    assert shown["batch_size"] == "64"
    assert panel.find_element(By.TAG_NAME, "strong").text.split() == f"{row['arm']}, {row['trial']}".split()
    link = panel.find_element(By.TAG_NAME, "a")
    assert link.get_attribute("href") == held["link"] + run == link.text
    assert link.get_attribute("href").startswith("http://127.0.0.1:5000/#/experiments/1/runs/")
    assert (link.get_attribute("target"), link.get_attribute("rel")) == ("_blank", "noopener noreferrer")
    assert "mlflow ui --backend-store-uri 'sqlite:///" in panel.text
    panel.find_element(By.TAG_NAME, "button").click()
    assert not browser.find_elements(By.CSS_SELECTOR, ".pinned")


def test_a_second_click_replaces_what_the_first_kept(browser):
    for place in (0, 2):
        across, down, run = point_of(browser, "learning_rate", 0, place)
        move_to(browser, across, down)
        wait_for(browser, "#figure-learning_rate .hovertext")
        ActionChains(browser).click().perform()
        WebDriverWait(browser, 20).until(lambda page: run in page.find_element(By.CSS_SELECTOR, ".pinned a").text)  # noqa: B023
    assert len(browser.find_elements(By.CSS_SELECTOR, ".pinned")) == 1
    browser.find_element(By.CSS_SELECTOR, ".pinned button").click()


def test_a_list_of_all_trials_opens_by_keyboard_and_leads_to_their_runs(browser):
    held = browser.execute_script("return JSON.parse(document.getElementById('trials-data').textContent)")
    summary = browser.find_element(By.CSS_SELECTOR, "#trials summary")
    summary.send_keys(Keys.ENTER)
    wait_for(browser, "#trials-table tbody tr")
    links = browser.find_elements(By.CSS_SELECTOR, "#trials-table tbody a")
    assert {link.get_attribute("href") for link in links} == {held["link"] + run for run in held["trials"]}
    heading = browser.find_element(By.CSS_SELECTOR, "#trials-table th:nth-child(6) button")
    heading.click()
    shown = [float(text) for text in column(browser, "trials-table", 6) if text != "–"]
    assert shown == sorted(shown)
    assert any(text.startswith(HOSTILE[:30]) for text in column(browser, "trials-table", 1))


def test_nothing_that_was_opened_broke_or_ran_a_name(browser):
    assert not browser.execute_script("return window.broken === true")
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []


def test_the_arm_table_sorts_both_ways(browser):
    heading = browser.find_element(By.CSS_SELECTOR, "#arms th:nth-child(8)")
    button = heading.find_element(By.TAG_NAME, "button")
    button.click()
    ascending = [float(text) for text in column(browser, "arms", 8)]
    assert ascending == sorted(ascending)
    assert heading.get_attribute("aria-sort") == "ascending"
    button.click()
    assert [float(text) for text in column(browser, "arms", 8)] == sorted(ascending, reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"


def test_a_narrow_window_scrolls_no_page_sideways(browser):
    size = browser.get_window_size()
    browser.set_window_size(500, 900)
    try:
        overflow = browser.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
    finally:
        browser.set_window_size(size["width"], size["height"])
    assert overflow <= 0
