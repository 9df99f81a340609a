"""Pages in a real browser: each one opened, sorted and filtered, on a desktop and a phone, in light and dark mode.

``PYTHONPATH=tests python tests/leaderboard/site/test_site.py FOLDER docs/pictures`` takes the screenshots of docs/ from the pages
in a folder.
"""

from __future__ import annotations

import functools
import http.server
import importlib.util
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag

import pytest
from conftest import TINY_MODEL, TINY_TASK, hostile, write

import harness
from leaderboard import Store
from leaderboard.result import Result
from leaderboard.site import Site
from leaderboard.site.templating import slug

if TYPE_CHECKING:
    from conftest import Command
    from playwright.sync_api import Browser, Page

SCREENS = {"desk by day": (1280, 900, "light"), "phone by night": (390, 844, "dark")}
ODD = "</script><script>window.caught = 1</script> {{ 7 * 7 }}"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of real runs: searches, losses of a network, pictures over training, a failure."""
    folder = tmp_path_factory.mktemp("site")
    write(folder, "tiny.py", TINY_TASK)
    nearest = write(folder, "nearest.py", TINY_MODEL)
    bad = hostile(folder, "bad", fit=f"raise ValueError({ODD!r})", top=f"# {ODD}")
    given: dict[str, Any] = {"home": folder / "home", "site": folder / "pages", "seeds": 1}
    tiny = str(folder / "tiny.py")
    harness.run([tiny, "digits"], ["svm", str(nearest)], trials=2, **given)
    harness.run(tiny, [str(nearest)], trials=12, **given)
    harness.run(tiny, [str(bad)], trials=0, **given)
    harness.run("digits", ["cnn-torch"], trials=2, **given | {"seeds": 2})
    harness.run("digit-images", ["gan"], trials=0, **given)
    return folder / "pages"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed: pip install 'bakeoff[dev]'")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


class Watched:
    """Browser page that records its errors and requests."""

    def __init__(self, browser: Browser, home: str, screen: str = "desk by day") -> None:
        width, height, scheme = SCREENS[screen]
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
        self.page: Page = self.context.new_page()
        self.home = home
        self.faults: list[str] = []
        self.page.on("console", lambda said: self.hear(said.type, said.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.ask(request.url))

    def hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and "crbug" not in text:
            self.faults.append(f"{self.page.url}: {text}")

    def ask(self, url: str) -> None:
        if not url.startswith((self.home, "data:")):
            self.faults.append(f"{self.page.url} asks for {url}")

    def open(self, place: str) -> Page:
        self.page.goto(f"{self.home}{place}")
        return self.page

    def close(self) -> None:
        self.context.close()


def places(site: Path) -> list[str]:
    found = [str(path.relative_to(site)) for path in sorted(site.rglob("*.html"))]
    assert len(found) > 12
    return found


@pytest.mark.parametrize("screen", SCREENS)
def test_every_page_on_every_screen(built: Path, browser: Browser, screen: str) -> None:
    """No error, no request outside the folder, all plots drawn, nothing wider than the screen, no serious axe-core violation."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    ).Axe()
    with closing(Watched(browser, f"file://{built}/", screen)) as watched:
        plots, examined = 0, set[str]()
        for place in places(built):
            page = watched.open(place)
            figures = page.locator("figure[data-plot]").count()
            assert page.locator("figure[data-plot] svg[role=img]").count() >= figures, place
            plots += figures
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{place} is too wide"
            assert page.evaluate("window.caught === undefined"), f"{place} runs what an entry says"
            template = place.partition("/")[0]
            if screen == "phone by night" and template in examined:
                continue  # one page of each type is enough
            examined.add(template)
            faults = [
                f"{place}: {fault['id']}, {fault['help']}: {fault['nodes'][0]['html'][:200]}"
                for fault in axe.run(page, options={"preload": False}).response["violations"]
                if fault["impact"] in ("serious", "critical")
            ]
            assert not faults, faults
        assert plots > 20 and not watched.faults, watched.faults


def test_a_board_is_sorted_and_filtered_and_stays_so(built: Path, browser: Browser) -> None:
    with closing(Watched(browser, f"file://{built}/")) as watched:
        page = watched.open("tasks/digits.html")
        names = page.locator("#board tbody tr:not([hidden]) td.name a")
        by_rank = names.all_text_contents()
        assert len(by_rank) == 3
        page.get_by_role("button", name="entry").click()
        assert names.all_text_contents() == sorted(by_rank)
        page.get_by_role("button", name="entry").click()
        assert names.all_text_contents() == sorted(by_rank, reverse=True)
        assert page.locator("th[aria-sort=descending]").inner_text().startswith("entry")
        page.get_by_role("button", name="fit").click()
        times = [float(cell.get_attribute("data-value")) for cell in page.locator("#board tbody td:nth-child(7)").all()]
        assert times == sorted(times)
        page.get_by_label("Show entries with").fill("torch")
        assert names.all_text_contents() == ["cnn-torch"] and page.locator("#board-shown").inner_text() == "1 of 3"
        page.reload()
        assert names.all_text_contents() == ["cnn-torch"], "what was asked for before is asked for still"
        page.get_by_label("Show entries with").fill("")
        assert len(names.all_text_contents()) == 3
        page.get_by_label("cost", exact=True).select_option("predict_seconds")
        assert (
            page.locator("figure[data-plot=cost] svg").get_attribute("aria-label")
            == "score against seconds of its predictions"
        )
        assert not watched.faults


def test_from_a_page_to_all_others(built: Path, browser: Browser) -> None:
    """Navigate by clicks, from home to an entry and back."""
    with closing(Watched(browser, f"file://{built}/")) as watched:
        page = watched.open("index.html")
        assert page.locator("section table tbody tr").count() == 2, "two entries stand on both tasks of a kind"
        page.get_by_role("link", name="digits", exact=True).click()
        page.locator("#board").get_by_role("link", name="cnn-torch").click()
        assert "cnn-torch on digits" in page.title() and page.get_by_text("bakeoff replay").count() == 1
        assert page.locator("figure[data-plot]").count() == 2, "losses and trials"
        page.get_by_role("link", name="digits", exact=True).click()
        page.get_by_role("link", name=re.compile("svm and|and svm")).first.click()
        assert page.get_by_role("heading", name="Do they differ?").count() == 1
        page.get_by_role("link", name="Bakeoff", exact=True).click()
        assert page.title() == "Leaderboards · Bakeoff" and not watched.faults


def test_the_pages_from_a_web_server(built: Path, browser: Browser) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *said: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(built.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        home = f"http://127.0.0.1:{server.server_port}/{built.name}/"
        with closing(Watched(browser, home)) as watched:
            for place in ("index.html", "tasks/digits.html"):
                page = watched.open(place)
                assert page.locator("figure[data-plot] svg").count() >= 2
            assert not watched.faults, watched.faults
    finally:
        server.shutdown()
        server.server_close()


def test_no_link_leads_nowhere(built: Path) -> None:
    for place in places(built):
        text = (built / place).read_text()
        for address in re.findall(r'(?:href|src)="([^"]*)"', text):
            if address.startswith("data:") or place.startswith("assets"):
                continue
            path, anchor = urldefrag(unquote(address))
            target = (built / place).parent / path if path else built / place
            assert target.resolve().is_relative_to(built) and target.is_file(), f"{place} names {address}"
            assert not anchor or f'id="{anchor}"' in target.read_text(), f"{place} names {address}"


def test_an_open_page_follows_a_run(tiny: Path, bakeoff: Command, browser: Browser) -> None:
    bakeoff("run", "tiny.py", "-s", "nearest.py", "--trials", 0, "--seeds", 1)
    slow = hostile(tiny, "slow", fit="for step in range(40):\n    time.sleep(0.2)\n    report(1.0 / (step + 1))")
    with closing(Watched(browser, f"file://{tiny / '.bakeoff' / 'site'}/")) as watched:
        page = watched.open("tasks/tiny.html")
        assert page.locator("#board tbody tr").count() == 1 and not page.locator("#now").is_visible()
        page.evaluate("window.old = true")
        run = threading.Thread(target=bakeoff, args=("run", "tiny.py", "-s", slow, "--trials", 0, "--seeds", 1))
        run.start()
        page.reload()
        # It polls rarely by default, and every other second during a run.
        page.get_by_text("running tiny · slow (1 of 1)").wait_for(timeout=60_000)
        page.locator("#board").get_by_text("slow").wait_for(timeout=60_000)
        run.join()
        assert page.locator("#board tbody tr").count() == 2
        page.locator("#now").wait_for(state="hidden", timeout=60_000)
        assert not watched.faults, watched.faults


# Without a browser ------------------------------------------------------------------------------------------------------------


def test_unchanged_pages_are_not_rewritten(built: Path, tmp_path: Path) -> None:
    out = tmp_path / "pages"
    with closing(Store(built.parent / "home")) as store:
        Site(store, out).build()
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
        time.sleep(0.01)
        Site(store, out).build()
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
        (page, *_) = out.glob("entries/*.html")
        page.unlink()
        Site(store, out).build()
        assert page.exists()
    assert not list(out.rglob(".*")), "nothing is left half written"


def test_entries_keep_what_made_them(built: Path) -> None:
    (page,) = (path for path in built.glob("entries/*.html") if "gan on digit-images" in path.read_text())
    text = page.read_text()
    assert (
        text.count("<figure><img") > 3 and "class GAN" in text and "bakeoff replay" in text and "learning_rate" in text
    )
    assert (built / "entries" / page.stem / "picture.png").read_bytes().startswith(b"\x89PNG")
    task = (built / "tasks" / "digits.html").read_text()
    assert "898 rows to train on" in task and "uint8 (8, 8, 1)" in task and (built / "tasks" / "digits.png").exists()


def test_markup_from_entries_stays_text(built: Path) -> None:
    (page,) = (path for path in built.glob("entries/*.html") if "bad on tiny" in path.read_text())
    assert "<script>window.caught" not in page.read_text() and "&lt;script&gt;window.caught" in page.read_text()
    assert "{{ 7 * 7 }}" in page.read_text()


@pytest.mark.parametrize("name", ["plain", "no | luck", "../../up", "a/b", "", "ünï", ".hidden", "x" * 300])
def test_any_name_is_an_address(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_][\w.-]{0,80}|-[0-9a-f]{8}", slug(name)), slug(name)
    assert slug("plain") == "plain" and slug("a b") != slug("a-b")


def test_names_that_are_no_addresses(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "home")) as store:
        for number, name in enumerate(("../../up", "no | luck", "<b>")):
            result = Result(
                f"id{number}",
                name,
                "../odd task",
                1,
                "k",
                name,
                "m",
                True,
                "complete",
                score=0.5 + number / 10,
                ci_low=0.4,
                ci_high=0.9,
            )
            store.add(result)
        Site(store, tmp_path / "a" / "pages").build()
    assert not [path for path in tmp_path.rglob("*.html") if not path.is_relative_to(tmp_path / "a" / "pages")]
    for path in (tmp_path / "a" / "pages").rglob("*.html"):
        assert "<b>" not in path.read_text()


def test_there_is_a_page_before_there_is_a_result(tmp_path: Path, browser: Browser) -> None:
    with closing(Store(tmp_path / "home")) as store:
        Site(store, tmp_path / "pages").build()
    with closing(Watched(browser, f"file://{tmp_path / 'pages'}/")) as watched:
        assert watched.open("index.html").get_by_text("There are no results yet.").count() == 1 and not watched.faults


def test_the_command(tiny: Path, bakeoff: Command) -> None:
    assert "there are no results" in bakeoff("site", "--out", "pages", code=2).stderr
    done = bakeoff("run", "tiny.py", "-s", "nearest.py", "--trials", 0, "--seeds", 1, "--no-site")
    assert not (tiny / ".bakeoff" / "site").exists() and "index.html" not in done.stdout
    assert "pages/index.html" in bakeoff("site", "--out", "pages").stdout and (tiny / "pages" / "index.html").exists()
    (page,) = (tiny / "pages" / "entries").glob("*.html")
    assert "Nearest class mean" in page.read_text()
    bakeoff("site", "--out", "pages", "--no-sources")
    assert "Nearest class mean" not in page.read_text() and "nearest on tiny" in page.read_text()
    (tiny / "taken").write_text("a file")
    assert "could not be written" in bakeoff("site", "--out", "taken", code=2).stderr
    done = bakeoff("run", "tiny.py", "-s", "nearest.py", "--trials", 1, "--seeds", 1, "--site", "taken")
    assert "the run goes on without them" in done.stderr and "nearest" in done.stdout


def screenshots(site: Path, out: Path) -> None:
    """Take screenshots of the main pages for docs/."""
    from playwright.sync_api import sync_playwright

    (entry,) = (path for path in site.glob("entries/*.html") if "<title>cnn-torch on digits" in path.read_text())
    (grid,) = (path for path in site.glob("entries/*.html") if "<title>gan on digit-images" in path.read_text())
    shots = {
        "home": ("index.html", "desk by day", 720),
        "task": ("tasks/digits.html", "desk by day", 1250),
        "task-phone": ("tasks/digits.html", "phone by night", 844),
        "entry": (f"entries/{entry.name}", "desk by night", 1250),
        "generation": (f"entries/{grid.name}", "desk by day", 900),
    }
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (place, screen, height) in shots.items():
            width, _, scheme = (SCREENS | {"desk by night": (1280, 900, "dark")})[screen]
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(f"file://{site.absolute()}/{place}")
            page.wait_for_timeout(500)
            page.screenshot(path=out / f"{name}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    screenshots(Path(sys.argv[1]), Path(sys.argv[2]))
