"""A headless Chromium, as tests and screenshots drive it; and what says that there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

__all__ = ["Look", "browser", "emulate", "lacking"]

Look = Literal["light", "dark"]


def lacking() -> str:
    """What is missing for a browser; "" if nothing is."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"there is no {' and no '.join(missing)}: on Debian, apt-get install chromium chromium-driver" if missing else ""


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """A browser, until the end of the block."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--lang=en-GB"):
        options.add_argument(argument)
    if hasattr(os, "getuid") and os.getuid() == 0:
        options.add_argument("--no-sandbox")  # which the superuser cannot have
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def emulate(driver: Any, look: Look = "light", width: int = 1280, height: int = 900, still: bool = True) -> None:
    """Let the browser be so wide and high, in light or dark mode, and by default without motion."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    features = [{"name": "prefers-color-scheme", "value": look}]
    features.append({"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "UTC"})
