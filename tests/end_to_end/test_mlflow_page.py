"""A study in MLflow's own pages, in a real browser: the table of runs, the study's page, the report as an artifact."""

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from study.experiment import VIEWS
from tests.end_to_end.chromium import open_chromium
from tests.end_to_end.mlflow_server import serving
from tests.needs import need_browser

PATIENCE = 240
MACHINE_LEARNING = "workflowType=machine_learning"
#: MLflow's own: it asks who is logged in where nobody can be; its table and its layout complain about themselves.
ITS_OWN = ("/users/current - Failed to load resource", "AG Grid:", "ResizeObserver loop")


@pytest.fixture(scope="module")
def server(smoke, tmp_path_factory):
    """``mlflow ui`` over the study's record."""
    need_browser()
    with serving(tmp_path_factory.mktemp("server"), "ui", "--backend-store-uri", smoke.uri) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def browser(server, tmp_path_factory):
    with open_chromium(tmp_path_factory.mktemp("profile"), reach_loopback=True, size="1600,1200") as driver:
        yield driver


@pytest.fixture(scope="module")
def open_page(server, smoke, browser):
    """``open_page("runs")`` goes to that page of the experiment."""
    parent = smoke.parent

    def go(path, query=""):
        browser.switch_to.default_content()
        browser.get("about:blank")
        browser.get_log("browser")
        place = path.format(run=parent.info.run_id)
        browser.get(f"{server}/#/experiments/{parent.info.experiment_id}/{place}?{MACHINE_LEARNING}{query}")

    return go


def wait_until(browser, condition):
    return WebDriverWait(browser, PATIENCE, ignored_exceptions=[StaleElementReferenceException]).until(condition)


def shown(browser):
    return browser.find_element(By.TAG_NAME, "body").text


def click(browser, path):
    """Click what the path finds once it is there; the last of several, which is the innermost."""
    found = wait_until(browser, lambda page: [it for it in page.find_elements(By.XPATH, path) if it.is_displayed()])
    found[-1].click()


def row(browser, run_id):
    """The cells of a run in the table, whose fixed part and scrolling part are two rows of one id."""
    return browser.find_elements(By.CSS_SELECTOR, f"[row-id='{run_id}']")


def cell(browser, run_id, column):
    found = browser.find_elements(By.CSS_SELECTOR, f"[row-id='{run_id}'] [col-id='{column}']")
    return found[0].text if found else ""


def problems(browser):
    """What the console says that MLflow does not say of itself."""
    return [
        entry["message"] for entry in browser.get_log("browser") if not any(its in entry["message"] for its in ITS_OWN)
    ]


def test_the_experiment_lists_the_study_and_unfolds_its_trials(open_page, browser, smoke):
    open_page("runs")
    run_id = smoke.parent.info.run_id
    wait_until(browser, lambda page: row(page, run_id))
    names = {run.info.run_id: run.info.run_name for run in smoke.runs()}
    assert not [run for run in names if row(browser, run)], "trials are folded until they are asked for"
    button = browser.find_element(By.CSS_SELECTOR, f"[row-id='{run_id}'] button[data-component-id*='runnamecell']")
    button.click()
    wait_until(browser, lambda page: [run for run in names if row(page, run)])
    visible = [name for run, name in names.items() if row(browser, run)]
    # The table draws the rows that are in view, newest first.
    assert len(visible) > 5
    assert any(name.endswith("seed-6") for name in visible)
    assert all(name in shown(browser) for name in visible[:3])


def test_the_experiment_says_what_it_holds(open_page, browser):
    open_page("runs")
    wait_until(browser, lambda page: "does a training choice matter" in shown(page))


def test_the_views_stand_in_their_menu(open_page, browser):
    open_page("runs")
    click(browser, "//button[contains(., 'Views')]")
    wait_until(browser, lambda page: all(name in shown(page) for name, *_ in VIEWS.values()))


def test_studies_are_compared_by_the_numbers_of_their_report(open_page, browser, smoke):
    open_page("runs", "&viewStateShareKey=studies")
    run_id = smoke.parent.info.run_id
    wait_until(browser, lambda page: cell(page, run_id, "metrics.`best_accuracy`") not in ("", "-"))
    for metric in ("best_accuracy", "baseline_accuracy", "best_difference_points"):
        text = cell(browser, run_id, f"metrics.`{metric}`").rstrip("…")
        assert float(text) == pytest.approx(smoke.parent.data.metrics[metric], abs=1e-6)
    assert cell(browser, run_id, "tags.`state`") == "finished"


def test_confirmed_trials_stand_in_a_group_per_arm(open_page, browser):
    open_page("runs", "&viewStateShareKey=confirmed")
    wait_until(browser, lambda page: "18 matching runs" in shown(page))
    wait_until(browser, lambda page: "Group: " in shown(page))
    assert "-control-" not in shown(browser)


def test_the_chart_of_a_metric_has_a_line_per_arm(open_page, browser):
    open_page("runs")
    # The clicks that docs/mlflow.md gives.
    click(browser, "//button[contains(., 'Views')]")
    click(browser, "//*[normalize-space(text()) = 'Arms, confirmed']")
    wait_until(browser, lambda page: "18 matching runs" in shown(page))
    click(browser, "//label[.//input[@value = 'CHART']]")
    (box,) = wait_until(
        browser, lambda page: page.find_elements(By.CSS_SELECTOR, "[placeholder='Search metric charts']")
    )
    box.send_keys("val_accuracy")
    wanted = {f"{arm} (val_accuracy)" for arm in ("cross_entropy", "kl_div", "focal")}
    wait_until(browser, lambda page: all(name in shown(page) for name in wanted))


def test_any_table_is_grouped_by_arm_with_two_clicks(open_page, browser):
    open_page("runs")
    click(browser, "//button[contains(., 'Group by')]")
    click(browser, "//*[normalize-space(text()) = 'arm']")
    wait_until(browser, lambda page: "Group by: arm" in shown(page) and "Group: kl_div" in shown(page))


def test_the_studys_page_shows_its_verdict_its_numbers_and_its_data(open_page, browser, smoke):
    open_page("runs/{run}")
    note = smoke.parent.data.tags["mlflow.note.content"].partition("\n")[0].replace("\\", "")
    wait_until(browser, lambda page: note[:60] in shown(page))
    text = wait_until(browser, lambda page: "smallest_p_holm" in shown(page) and shown(page))
    (pool, test) = smoke.parent.inputs.dataset_inputs
    assert f"digits ({pool.dataset.digest})" in text
    assert pool.dataset.digest != test.dataset.digest


def test_the_report_works_among_the_artifacts(open_page, browser):
    open_page("runs/{run}/artifacts/report.html")
    frame = wait_until(browser, lambda page: page.find_elements(By.CSS_SELECTOR, "iframe.mlflow-html-iframe"))[0]
    assert frame.get_attribute("sandbox") == "allow-scripts"
    browser.switch_to.frame(frame)
    try:
        plots = "[...document.querySelectorAll('.js-plotly-plot, .plotly-graph-div')]"
        every = f"const all = {plots}; return all.length > 3 && all.every(node => node.querySelector('.main-svg'))"
        wait_until(browser, lambda page: page.execute_script(every))
        assert browser.find_element(By.ID, "verdict").text
        heading = browser.find_element(By.CSS_SELECTOR, "#arms th:nth-child(1)")
        browser.execute_script("arguments[0].scrollIntoView()", heading)
        arms = [found.text for found in browser.find_elements(By.CSS_SELECTOR, "#arms tbody td:nth-child(1)")]
        heading.find_element(By.TAG_NAME, "button").click()
        after = [found.text for found in browser.find_elements(By.CSS_SELECTOR, "#arms tbody td:nth-child(1)")]
        assert heading.get_attribute("aria-sort") == "ascending"
        assert after == sorted(arms, key=str.casefold)
        assert len(after) == 3
    finally:
        browser.switch_to.default_content()
    assert problems(browser) == []
