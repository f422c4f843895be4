"""The page's screenshots: clusters that are simulated, so they look alike each time, through the server that users have.

`python -m tests.web.screenshots DIRECTORY` makes them.
"""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from selenium.webdriver.support.ui import WebDriverWait

from gossipmonger.simulation import Simulation
from gossipmonger.web import Page, serve
from tests.web.browser import Look, browser, emulate, lacking

__all__ = ["SHOTS", "five", "take", "two_hundred"]

#: Seconds for the browser to show what there is.
LIMIT = 30


def five(simulation: Simulation) -> Page:
    """Five nodes: one is dead, one is hardly heard, and each has a few keys."""
    ids = ["api-1", "api-2", "worker-1", "worker-2", "scheduler"]
    nodes = {id: simulation.add(id, seeds=["api-1"]) for id in ids}
    page = serve(nodes["api-1"], port=0)
    for number, (id, node) in enumerate(nodes.items()):
        node.update("role", id.split("-")[0])
        node.update("release", {"version": "4.2.0", "commit": f"9f3c{number}ab"})
    _live(simulation, page, 40)
    for number in range(12):
        nodes["worker-1"].update("queue/mail", {"waiting": 40 - 3 * number, "oldest": f"{number + 2}s"})
        nodes["api-2"].update("load", round(0.4 + 0.03 * (number % 5), 2))
        _live(simulation, page, 1)
    nodes["api-2"].update("features", ["search", "export", "dark-mode"])
    simulation.vanish("worker-2")
    _live(simulation, page, 27)
    nodes["scheduler"].update("lock/report", "held by worker-1")
    simulation.vanish("scheduler")
    _live(simulation, page, 7)
    return page


def two_hundred(simulation: Simulation) -> Page:
    """Two hundred nodes on four racks. Some are dead, some have left, and some are hardly heard."""
    ids = [f"rack{number % 4 + 1}-{number // 4 + 1:02}" for number in range(200)]
    nodes = [simulation.add(id, seeds=ids[:3]) for id in ids]
    page = serve(nodes[0], port=0)
    for number, node in enumerate(nodes):
        node.update("role", ("web", "worker", "cache", "db")[number % 4])
        node.update("load", round(0.1 + number * 37 % 80 / 100, 2))
    _live(simulation, page, 10)
    for number in (17, 58, 59, 133):
        simulation.vanish(ids[number])
    for number in (90, 171):
        nodes[number].close()
    _live(simulation, page, 20)
    for number in (5, 102, 160):
        simulation.vanish(ids[number])
    _live(simulation, page, 7)
    return page


def _live(simulation: Simulation, page: Page, seconds: int) -> None:
    for _ in range(seconds):
        simulation.run(1000)
        page.board.look()


#: Each file: the cluster, the look, the width and the height.
SHOTS: dict[str, tuple[Callable[[Simulation], Page], Look, int, int]] = {
    "five.png": (five, "light", 1280, 1010),
    "dark.png": (five, "dark", 1280, 1010),
    "phone.png": (five, "light", 390, 844),
    "two-hundred.png": (two_hundred, "light", 1280, 1010),
}


def take(directory: Path, clusters: Sequence[Callable[[Simulation], Page]] = (five, two_hundred)) -> None:
    """Make the screenshots of these clusters."""
    with browser() as driver:
        for make in clusters:
            with Simulation(seed=18) as simulation, make(simulation) as page:
                for name, (cluster, look, width, height) in SHOTS.items():
                    if cluster is make:
                        emulate(driver, look, width, height)
                        driver.get(page.url)
                        wait(driver, "return document.querySelectorAll('#peer-table tbody tr').length > 4")
                        shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": False})
                        with Image.open(io.BytesIO(base64.b64decode(shot["data"]))) as image:
                            image.convert("RGB").quantize(96).save(directory / name, optimize=True)


def wait(driver: Any, script: str) -> Any:
    """Wait until a script returns something true, and return that."""
    return WebDriverWait(driver, LIMIT, 0.1).until(lambda _: driver.execute_script(script))


if __name__ == "__main__":
    sys.exit(lacking() or take(Path(sys.argv[1])))
