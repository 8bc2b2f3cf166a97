"""The page in a real browser: clicked through, looked at by axe-core, on wide and narrow screens, light and dark."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test-browser]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe: pip install '.[test-browser]'")
pytest.importorskip("starlette", reason="needs starlette: pip install '.[service,test]'")

from backupd.policy.web import WebOptions  # noqa: E402 - behind importorskip
from backupd.service.board import Seen  # noqa: E402 - behind importorskip
from backupd.service.web.server import PageServer  # noqa: E402 - behind importorskip
from tests.service.web.showroom import ShowDesk, overdue, showroom  # noqa: E402 - behind importorskip

TOKEN = "a-token-of-the-browser-tests"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
PATHS = ("/", "/?mood=well", "/databases/orders", "/databases/ledger", "/databases/orders/explain/retention",
         "/databases/orders/explain/truncation", "/login", "/databases/nobody")  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.real]


@pytest.fixture(name="browser", scope="module")
def a_browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs chromium (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(name="desk")
def a_desk() -> ShowDesk:
    return showroom(5, broken=True, now=datetime.now(UTC))


@pytest.fixture(name="home")
def served(desk: ShowDesk, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("BACKUPD_BROWSER_TOKEN", TOKEN)
    options = WebOptions.model_validate({"listen": "127.0.0.1:0", "token": "env:BACKUPD_BROWSER_TOKEN"})
    server = PageServer(desk, options, "db1")
    server.start()
    yield server.address.rstrip("/")
    server.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_and_nothing_runs_over_the_edge(browser: Any, home: str, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("request", lambda asked: complaints.append(asked.url) if not asked.url.startswith(home) else None)
    page.goto(f"{home}/login")
    for signed_in in (False, True):
        if signed_in:
            page.get_by_label("The service's token").fill(TOKEN)
            page.get_by_role("button", name="Sign in").click()
        for path in PATHS:
            page.goto(home + path)
            complaints += [
                f"{path} {one['impact']} {one['id']}: {[node['html'] for node in one['nodes']][:3]}"
                for one in axe.Axe().run(page).response["violations"]
            ]
            over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if over > 0:
                complaints.append(f"{path} is {over} px too wide")
        page.goto(f"{home}/login")
    page.close()
    assert [one for one in complaints if "404" not in one] == []


def test_a_person_clicks_through(browser: Any, home: str, desk: ShowDesk) -> None:
    page = browser.new_page()
    page.set_default_timeout(10_000)
    page.goto(home)
    assert page.get_by_role("heading", level=1).inner_text().strip() == "2 of 5 databases need attention"
    page.get_by_role("link", name="orders", exact=True).click()
    assert page.get_by_role("heading", level=1).inner_text().strip() == "orders needs attention now"
    mark = page.locator("[data-tell] .mark.fulls").first
    mark.hover()
    assert "full backup" in page.locator("#tell").inner_text()
    page.locator(".timeline a").first.click()
    assert "full backup of orders" in page.get_by_role("heading", level=1).inner_text()
    page.get_by_role("link", name="orders", exact=True).click()
    page.get_by_role("link", name="Why log is kept").click()
    assert "the passive copy b is suspended" in page.content()
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("The service's token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    assert "Not signed in" in page.get_by_role("alert").inner_text()
    page.get_by_label("The service's token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="ledger").click()
    page.get_by_label("Back up now, type").select_option("full")
    page.get_by_role("button", name="Run now").click()
    assert "a full backup of ledger begins" in page.content()
    page.get_by_label("Suspend copying and replay, because").fill("disk exchange")
    page.get_by_role("button", name="Suspend").click()
    assert desk.orders == [("run", "ledger", "full"), ("suspend", "ledger", "disk exchange")]
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{home}/databases/ledger")
    assert page.get_by_role("button", name="Run now").count() == 0
    page.close()


def test_the_keyboard_reaches_all(browser: Any, home: str) -> None:
    page = browser.new_page()
    page.set_default_timeout(10_000)
    page.goto(home)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")
    reached = set()
    while (tag := page.evaluate("document.activeElement.tagName")) != "BODY":
        reached.add(page.evaluate("document.activeElement.getAttribute('href')"))
        assert tag in {"A", "BUTTON", "SUMMARY"}
        assert len(reached) < 50
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        page.keyboard.press("Tab")
    assert {"/databases/orders", "/databases/ledger"} <= reached
    page.close()


def test_an_open_page_shows_news_by_itself(browser: Any, home: str, desk: ShowDesk) -> None:
    page = browser.new_page()
    page.set_default_timeout(10_000)
    page.goto(home)
    page.get_by_text("Live.").wait_for(timeout=20_000)
    desk.board.put(Seen("ledger", datetime.now(UTC) - timedelta(seconds=1), overdue("ledger", datetime.now(UTC))))
    page.get_by_role("heading", name="3 of 5 databases need attention").wait_for(timeout=20_000)
    assert page.locator("#live").inner_text() == "3 of 5 databases need attention"
    page.close()


def test_without_javascript_all_is_there(browser: Any, home: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{home}/databases/orders")
    assert page.locator(".timeline rect.back").count() >= 3
    page.goto(f"{home}/login")
    page.get_by_label("The service's token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="mail").click()
    page.get_by_role("button", name="Run now").click()
    assert "a incremental backup of mail begins" in page.content()
    context.close()


def test_a_thousand_databases_are_painted_soon(browser: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = PageServer(showroom(1000, broken=True, now=datetime.now(UTC)), WebOptions(listen="127.0.0.1:0"), "db1")
    server.start()
    try:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        answer = page.goto(server.address)
        # Asked from outside: a page's policy forbids what waits inside of it to be made from text.
        paint = "performance.getEntriesByType('paint').find(one => one.name === 'first-contentful-paint')?.startTime"
        for _ in range(500):
            painted = page.evaluate(paint)
            if painted is not None:
                break
            page.wait_for_timeout(20)
        assert painted is not None, "nothing was painted in 10 s"
        with capsys.disabled():
            print(f"\n1,000 databases: first contentful paint {painted:.0f} ms, page {len(answer.body()):,} bytes")  # noqa: T201 - for the record
        assert len(answer.body()) < 200_000
        page.close()
    finally:
        server.stop()
    assert not [one for one in threading.enumerate() if one.name == "page" and one.is_alive()]
