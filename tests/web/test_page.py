"""The page in a real browser: what it shows, what it never runs, and whether everybody can use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from gossipmonger.simulation import Simulation
from gossipmonger.web import Page, serve
from tests.web import screenshots
from tests.web.browser import browser, emulate, lacking
from tests.web.screenshots import wait

pytestmark = [pytest.mark.skipif(bool(lacking()), reason=lacking()), pytest.mark.untraced]

ROOT = Path(__file__).parent.parent.parent
AXE = ROOT / "tests" / "node" / "node_modules" / "axe-core" / "axe.min.js"

STATES = """return Object.fromEntries([...document.querySelectorAll("#peer-table tbody tr")].map(
    (row) => [row.querySelector("button").textContent, row.querySelector(".state").textContent]))"""
KEYS = """return [...document.querySelectorAll("#key-table tbody tr")].map(
    (row) => [0, 1, 2].map((column) => row.cells[column].firstChild.textContent.toWellFormed()))"""

#: What would run, or break out of where it stands, if anything took it for more than text.
HOSTILE = [
    "<script>window.ran = 1</script>", "</script><script>window.ran = 1</script>", "<img src=x onerror='window.ran = 1'>",
    "\"'><svg onload=window.ran=1>", "javascript:window.ran=1", "{{constructor.constructor('window.ran=1')()}}",
    "constructor", "${window.ran=1}", "\u202egnp.exe", "\ud800", "<!--", "&lt;b&gt;", "a\nevent: everything\ndata: {}\n\n",
    "url(javascript:window.ran=1);color:red", "../../v1/peers#?x", " ", "\u2028",
]  # fmt: skip


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as driver:
        yield driver


class Shown:
    """Nodes on a virtual clock, and the page of the first, in the browser."""

    def __init__(self, driver: Any, *ids: str) -> None:
        self.driver = driver
        self.simulation = Simulation(seed=3)
        self.nodes = {id: self.simulation.add(id, seeds=[ids[0]]) for id in ids}
        self.page: Page = serve(self.nodes[ids[0]], port=0)
        emulate(driver)
        driver.get_log("browser")
        driver.get(self.page.url)

    def run(self, seconds: float) -> None:
        self.simulation.run(seconds * 1000)
        self.page.board.look()

    def wait(self, script: str, wanted: Any) -> None:
        found = None
        for _ in range(100):
            found = self.driver.execute_script(script)
            if found == wanted:
                return
            self.driver.execute_async_script("setTimeout(arguments[0], 50)")
        assert found == wanted

    def close(self) -> None:
        self.driver.get("about:blank")
        self.page.close()
        self.simulation.close()


@pytest.fixture
def shown(driver: Any) -> Iterator[Shown]:
    shown = Shown(driver, "a", "b", "c")
    yield shown
    shown.close()


def test_nodes_appear_an_update_shows_and_a_dead_node_turns_dead(shown: Shown) -> None:
    shown.run(10)
    shown.wait(STATES, {"a": "live", "b": "live", "c": "live"})
    shown.nodes["b"].update("load", 0.5)
    shown.run(3)
    shown.wait(KEYS, [["load", "0.5", "b"]])
    shown.nodes["b"].update("load", [0.75])
    shown.run(3)
    shown.wait(KEYS, [["load", "[0.75]", "b"]])
    shown.simulation.vanish("b")
    shown.run(60)
    shown.wait(STATES, {"a": "live", "b": "dead", "c": "live"})
    shown.wait("return document.querySelector('#map-title').textContent", "3 nodes: 2 live, 1 dead")
    shown.wait("return document.title", "1 dead · a · gossipmonger")
    shown.wait("return document.querySelector('#said').textContent", "b is dead")
    assert "peer dead" in shown.driver.execute_script("return document.querySelector('#event-list').textContent")
    shown.nodes["a"].forget("b")
    shown.page.board.look()
    shown.wait(STATES, {"a": "live", "c": "live"})
    shown.wait(KEYS, [])


def test_what_is_hostile_is_text(driver: Any) -> None:
    shown = Shown(driver, "a", *HOSTILE[:6])
    try:
        for text in HOSTILE:
            shown.nodes["a"].update(text, text)
        shown.nodes[HOSTILE[0]].update("role", {"<b>": HOSTILE[2]})
        shown.run(10)
        shown.wait(f"return Object.keys((() => {{ {STATES} }})()).length", 7)
        shown.wait("return document.querySelectorAll('#key-table tbody tr').length", len(HOSTILE) + 1)
        rows = driver.execute_script(KEYS)
        texts = [text.replace("\ud800", "\ufffd") for text in HOSTILE]
        assert {*texts, "role"} == {key for key, _, _ in rows}
        assert {json.dumps(text, ensure_ascii=False) for text in texts} < {value for _, value, _ in rows}
        assert {*HOSTILE[:6]} < driver.execute_script(STATES).keys()
        for button in driver.find_elements("css selector", "#peer-table tbody button"):
            button.click()
        driver.execute_async_script("setTimeout(arguments[0], 300)")
        assert driver.execute_script("return [window.ran, ({}).ran, document.scripts.length]") == [None, None, 1]
        assert driver.execute_script("return document.querySelectorAll('img, body script, #key-table b, svg svg').length") == 0
        links = driver.execute_script("return [...document.querySelectorAll('a')].map((link) => link.protocol)")
        assert {*links} == {"http:"}
        assert driver.get_log("browser") == []
    finally:
        shown.close()


@pytest.mark.parametrize(("look", "width"), [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)])
def test_everybody_can_use_it(shown: Shown, look: Any, width: int) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed in tests/node: `npm ci` there, as `make test` does")
    for node in shown.nodes.values():
        node.update("role", "web " * 100)
    shown.run(10)
    shown.simulation.vanish("b")
    shown.run(6)
    emulate(shown.driver, look, width)
    shown.wait(STATES, {"a": "live", "b": "suspected", "c": "live"})
    shown.driver.execute_script("document.querySelector('#peer-table button[data-by=id]').focus()")
    shown.driver.execute_script(AXE.read_text(encoding="utf-8"))
    found = shown.driver.execute_async_script(
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice']}).then(arguments[0])"
    )
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []
    assert len(found["passes"]) > 20
    assert shown.driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_it_sorts_filters_and_selects_by_keyboard(shown: Shown) -> None:
    for id, node in shown.nodes.items():
        node.update("role", f"of {id}")
    shown.run(10)
    shown.wait("return document.querySelectorAll('#key-table tbody tr').length", 3)
    order = "return [...document.querySelectorAll('#peer-table tbody button')].map((button) => button.textContent).join('')"
    sort = "return document.querySelector('#peer-table th').ariaSort"
    head = shown.driver.find_element("css selector", "#peer-table button[data-by=id]")
    for wanted, direction in (("abc", "ascending"), ("cba", "descending")):
        head.send_keys(Keys.ENTER)
        shown.wait(order, wanted)
        shown.wait(sort, direction)
    shown.driver.find_element("css selector", "#peer-table tbody button").send_keys(Keys.SPACE)
    shown.wait(KEYS, [["role", '"of c"', "c"]])
    shown.driver.execute_script("document.querySelector('#peer-table button[data-by=id]').click()")
    shown.wait(order, "abc")  # the row has moved, and the focus with it
    assert shown.driver.execute_script("return document.activeElement.textContent") == "c"
    assert shown.driver.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    shown.driver.find_element("id", "all-peers").send_keys(Keys.ENTER)
    shown.driver.find_element("id", "key-filter").send_keys("OF B")
    shown.wait(KEYS, [["role", '"of b"', "b"]])
    shown.driver.find_element("id", "peer-filter").send_keys("b:")
    shown.wait(order, "b")
    shown.driver.find_element("id", "peer-filter").clear()
    shown.driver.find_element("id", "state-filter").send_keys("dead")
    shown.wait(order, "")
    shown.wait("return document.querySelector('#peer-count').textContent", "0 of 3 peers")


def test_it_says_that_the_connection_is_lost_and_connects_again(shown: Shown) -> None:
    status = "return document.querySelector('#connection').textContent"
    shown.run(5)
    shown.wait(status, "Connected")
    port = int(shown.page.url.rsplit(":", 1)[1].rstrip("/"))
    shown.page.close()
    wait(shown.driver, f"{status}.startsWith('Connection lost')")
    shown.page = serve(shown.nodes["a"], port=port)
    shown.nodes["a"].update("since", 1)
    shown.wait(status, "Connected")
    shown.wait(KEYS, [["since", "1", "a"]])


def test_nothing_moves_for_whoever_wants_that(shown: Shown) -> None:
    shown.run(5)
    shown.wait(STATES, {"a": "live", "b": "live", "c": "live"})
    moves = "return getComputedStyle(document.querySelector('#map g')).transitionDuration"
    assert shown.driver.execute_script(moves) == "0s"
    emulate(shown.driver, still=False)
    assert shown.driver.execute_script(moves) == "0.6s"


@pytest.mark.parametrize("width", [1280, 390])
def test_two_hundred_nodes_can_be_told_apart(shown: Shown, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    board = shown.page.board
    shown.run(5)
    monkeypatch.setattr(board, "look", lambda: None)  # what is shown is made up
    row = dict(next(each for each in board.rows() if each["id"] == "b"))
    rows = [{**row, "id": f"node-{n}", "phi": n % 7 / 10, "state": "live"} for n in range(180)]
    rows += [{**row, "id": f"slow-{n}", "phi": 5 + n % 3, "state": "live"} for n in range(7)]
    rows += [{**row, "id": f"gone-{n}", "phi": 30, "state": ("dead", "left")[n % 2]} for n in range(13)]
    board.show(rows)
    emulate(shown.driver, width=width)
    shown.wait("return document.querySelectorAll('#map g').length", 200)
    boxes = shown.driver.execute_script(
        "return [...document.querySelectorAll('#map text')].filter((text) => text.textContent).map((text) => {"
        " const box = text.getBoundingClientRect(); return [text.textContent, box.x, box.y, box.right, box.bottom]; })"
    )
    names = {box[0] for box in boxes}
    assert {f"gone-{n}" for n in range(0, 13, 2)} <= names
    assert len(names & {f"slow-{n}" for n in range(7)}) > 4
    for index, (_, x, y, right, bottom) in enumerate(boxes):
        assert 0 <= x < right <= width
        for _, other_x, other_y, other_right, other_bottom in boxes[:index]:
            apart = right <= other_x or other_right <= x or bottom - 3 <= other_y or other_bottom - 3 <= y
            assert apart, (boxes[index],)


def test_the_screenshots_are_made(tmp_path: Path) -> None:
    screenshots.take(tmp_path, [screenshots.five])
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {name for name, (make, *_) in screenshots.SHOTS.items() if make is screenshots.five}
    for path in tmp_path.iterdir():
        assert 5_000 < path.stat().st_size < 150_000
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_documentation_has_all_screenshots() -> None:
    page = (ROOT / "docs" / "web.md").read_text(encoding="utf-8")
    for name in screenshots.SHOTS:
        assert f"web/{name}" in page
        assert (ROOT / "docs" / "web" / name).is_file()
