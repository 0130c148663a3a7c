"""A comparison of studies in a real browser, opened from a file: address with the network off."""

import runpy
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from analysis.across.__main__ import main
from tests.end_to_end.chromium import open_chromium

SYNTHETIC = runpy.run_path(str(Path(__file__).parents[1] / "analysis" / "synthetic_study.py"))
HOSTILE = "<script>window.broken = true</script><img src=x onerror='window.broken = true'>"
EFFECTS = {"cross_entropy": 0.0, "focal": 1.5, HOSTILE: -2.0}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    folder = tmp_path_factory.mktemp("across")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    for name in ("first", "second"):
        SYNTHETIC["write_study"](
            uri, folder / "artifacts", SYNTHETIC["Truth"](name=name, effects=EFFECTS, num_trials=1)
        )
    assert main(["--study", "first", "--study", "second", "--tracking-uri", uri, "--output", str(folder / "page")]) == 0
    with open_chromium(tmp_path_factory.mktemp("profile")) as driver:
        driver.get((folder / "page" / "across.html").as_uri())
        WebDriverWait(driver, 30).until(lambda page: len(page.find_elements(By.CSS_SELECTOR, ".main-svg")) > 0)
        yield driver


def test_the_page_has_no_console_error_and_asks_for_nothing(browser):
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []


def test_the_forest_is_drawn_and_the_answer_stands_above_it(browser):
    assert "focal" in browser.find_element(By.ID, "verdict").text
    drawing = browser.find_element(By.ID, "figure-forest")
    assert len(drawing.find_elements(By.CSS_SELECTOR, ".scatterlayer .trace path")) >= 4
    assert drawing.rect["width"] > 600


def test_names_with_markup_are_text(browser):
    assert not browser.execute_script("return window.broken === true")
    assert "<script>" in browser.find_element(By.ID, "arms").text


def test_a_click_on_a_heading_sorts_the_table(browser):
    def arms():
        return [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "#arms tbody td:first-child")]

    heading = browser.find_element(By.CSS_SELECTOR, "#arms th button")
    heading.click()
    ascending = arms()
    heading.click()
    assert arms() == ascending[::-1] != ascending


def test_a_wide_page_does_not_scroll_sideways(browser):
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
