"""Debian's Chromium without a window, that reaches this machine at most."""

import contextlib
import shutil

from selenium import webdriver

from tests.needs import need_browser


@contextlib.contextmanager
def open_chromium(profile, *, reach_loopback=False, size="1280,1600"):
    """A browser with a fresh profile; ``reach_loopback`` lets it ask servers on 127.0.0.1, else it asks none."""
    need_browser()
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    hosts = "MAP * ~NOTFOUND" + (" , EXCLUDE 127.0.0.1" if reach_loopback else "")
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-background-networking",
        "no-first-run", f"host-resolver-rules={hosts}", f"window-size={size}", f"user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    )
    try:
        yield driver
    finally:
        driver.quit()
