"""The report in a real browser, opened from a file: address with the network off."""

import runpy
import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from analysis.figures.table import FIGURES
from analysis.report import build_report
from tests.needs import need_browser

SYNTHETIC = runpy.run_path(str(Path(__file__).parents[1] / "analysis" / "synthetic_study.py"))
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
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
    need_browser()
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-background-networking",
        "no-first-run",
        "host-resolver-rules=MAP * ~NOTFOUND", "window-size=1280,1600", f"user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    driver.get(report.path.as_uri())
    WebDriverWait(driver, 30).until(lambda page: len(page.find_elements(By.CSS_SELECTOR, ".main-svg")) > 0)
    yield driver
    driver.quit()


def column(browser, table, place):
    return [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, f"#{table} tbody td:nth-child({place})")]


def test_the_page_has_no_console_error_and_asks_for_nothing(browser):
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_is_drawn(browser, name):
    drawing = browser.find_element(By.ID, f"figure-{name}")
    assert drawing.find_elements(By.CSS_SELECTOR, ".main-svg")
    assert drawing.find_elements(By.CSS_SELECTOR, ".scatterlayer .trace path")
    assert drawing.rect["height"] > 150
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


def test_a_hover_shows_the_configuration_of_a_trial(browser):
    browser.execute_script("Plotly.Fx.hover('figure-learning_rate', [{curveNumber: 0, pointNumber: 1}], 'xy')")
    WebDriverWait(browser, 10).until(
        lambda page: page.find_elements(By.CSS_SELECTOR, "#figure-learning_rate .hovertext")
    )
    text = browser.find_element(By.CSS_SELECTOR, "#figure-learning_rate .hovertext").text
    assert "batch_size = 64" in text
    assert "cross_entropy" in text


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
