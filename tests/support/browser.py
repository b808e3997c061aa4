"""A browser without a window, for the tests of pages: Debian's Chromium, driven by its own chromedriver."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-sync",
    "--disable-component-update",
)
_SECONDS = 20  # that a page may take for what it does at once


class Browser:
    """An open browser, and what is asked of its page."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(
        self, page: Path, *, size: tuple[int, int] = (1280, 900), dark: bool = False, script: bool = True
    ) -> None:
        """Open a file in a window of a size in pixels; ``script`` is whether scripts run."""
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(page.as_uri())

    def ask(self, expression: str, *given: object) -> Any:
        """Return the value of a JavaScript expression; ``given`` are its arguments[0], …"""
        return self.driver.execute_script(f"return {expression}", *given)

    def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true, and fail if it never is."""
        WebDriverWait(self.driver, _SECONDS, poll_frequency=0.02).until(
            lambda _: self.ask(expression), f"never true: {expression}"
        )

    def press(self, *keys: str, holding: str = "") -> None:
        """Press keys, one after the other, while another is held down if one is named."""
        actions = ActionChains(self.driver)
        if holding:
            actions = actions.key_down(holding).send_keys(*keys).key_up(holding)
        else:
            actions = actions.send_keys(*keys)
        actions.perform()

    def click(self, selector: str) -> None:
        """Click on the first element that a CSS selector finds."""
        self.driver.find_element("css selector", selector).click()

    def complaints(self) -> list[str]:
        """Return what the console said since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for since the page was opened."""
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Start a browser whose profile is a new folder, and end it afterwards."""
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in (*_OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
