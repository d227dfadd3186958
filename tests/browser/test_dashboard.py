"""The pages in a real browser: by mouse and by keyboard, light and dark, with nothing from outside.

Screenshots are kept in `test-artifacts/browser`.
"""

import json
import os
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.acceptance.served import Served
from tests.compactor.service.rpc.serving import make_table

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "test-artifacts" / "browser"
WAIT_SECONDS = 90
PAGES = ("/", "/tables", "/queue", "/sources", "/settings")
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def chromium():
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if not all(programs):
        if os.environ.get("COMPACT_REQUIRE_BROWSER"):
            pytest.fail("chromium and chromedriver are not installed")
        pytest.skip("chromium and chromedriver are not installed: make judge-browser")
    return programs


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    directory = tmp_path_factory.mktemp("service")
    target = make_table(directory / "orders")
    found = Served(directory, "debounce = '1s'", f'[[tables]]\ntarget = "{target}"\n')
    found.start()
    found.target = target
    yield found
    found.stop()


@pytest.fixture(params=["light", "dark"])
def browser(request, chromium):
    options = webdriver.ChromeOptions()
    options.binary_location = chromium[0]
    for one in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(one)
    options.add_argument("--window-size=1280,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromium[1]))
    features = [{"name": "prefers-color-scheme", "value": request.param}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.scheme = request.param
    yield driver
    driver.quit()


def shot(browser, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(SCREENSHOTS / f"{name}-{browser.scheme}.png"))


def until(browser, condition):
    return WebDriverWait(browser, WAIT_SECONDS).until(condition)


def requested(browser):
    """Return the addresses that the browser has asked for."""
    events = (json.loads(one["message"])["message"] for one in browser.get_log("performance"))
    return {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }


def complaints(browser):
    """Return what the browser complains of: scripts that fail, policies that are broken."""
    return [one for one in browser.get_log("browser") if one["level"] in ("SEVERE", "WARNING")]


def test_all_pages_are_whole_and_ask_nobody_else(browser, served):
    for page in (*PAGES, f"/tables/{quote(served.target, safe='')}"):
        browser.get(served.url + page)
        until(browser, lambda driver: driver.find_element(By.CSS_SELECTOR, "main h1").text)
        shot(browser, page.strip("/").split("/")[0] or "overview")
        width = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.execute_script(width) <= 0, f"{page} is wider than the window"
        assert complaints(browser) == []
    asked = requested(browser)
    assert asked
    assert {one for one in asked if not one.startswith((served.url, "data:"))} == set()


def test_the_scheme_of_the_reader_is_followed(browser, served):
    browser.get(served.url)
    color = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    channels = [int(one) for one in color[color.index("(") + 1 : -1].split(",")[:3]]
    assert (sum(channels) < 200) == (browser.scheme == "dark")


def test_a_table_is_compacted_by_the_keyboard_and_the_page_follows(browser, served):
    browser.get(served.url)
    active = browser.switch_to.active_element
    active.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the content"
    browser.get(f"{served.url}/tables/{quote(served.target, safe='')}")
    for _ in range(20):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        if browser.switch_to.active_element.text == "Compact now":
            break
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    # The page that comes back is not loaded again: what is live on it changes by itself.
    job = until(browser, lambda d: d.find_elements(By.CSS_SELECTOR, '#live a[href^="/jobs/"]'))
    ended = ".state.succeeded, .state.skipped, .state.done"
    until(browser, lambda d: d.find_elements(By.CSS_SELECTOR, f"#live {ended}"))
    shot(browser, "table-compacted")
    browser.get(job[0].get_attribute("href"))
    until(browser, lambda d: d.find_elements(By.CSS_SELECTOR, "main .why"))
    shot(browser, "job")
    assert complaints(browser) == []
