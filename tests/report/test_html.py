from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from s2search.cost import format_us
from s2search.latency.lookup import Lookup
from s2search.plan import Plan, Request, front
from s2search.report.html import front_html, save_html
from s2search.report.references import reference_plans
from s2search.score.published import Published
from s2search.solver.dynamic import Dynamic
from s2search.space import Space
from s2search.table import open_table

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1000,900"),
)


@pytest.fixture(scope="module")
def request_() -> Request:
    table = open_table("iphone-16-pro-max")
    return Request(
        table=table,
        scope=table.scope("stream"),
        space=Space.parse("lcha,ssa", depth=28),
        latency_model=Lookup(),
        score=Published(),
    )


@pytest.fixture(scope="module")
def plans(request_: Request) -> list[Plan]:
    return front(request_, Dynamic(), points=12)


def data_of(page: str) -> dict[str, object]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    found: dict[str, object] = json.loads(text)
    return found


def test_the_page_holds_every_point_and_loads_nothing(plans: list[Plan], request_: Request) -> None:
    page = front_html(plans, reference_plans(request_, Dynamic()))
    points = data_of(page)["points"]
    assert isinstance(points, list)
    assert [point["written"] for point in points] == [plan.written for plan in plans]
    assert not re.search(r"(?:src|href)\s*=|@import|url\(|fetch\(|XMLHttpRequest", page)


def test_a_hostile_name_stays_text(plans: list[Plan]) -> None:
    hostile = "</script><script>alert(1)</script>&amp;"
    origin = dataclasses.replace(plans[0].provenance, table=hostile)
    page = front_html([dataclasses.replace(plans[0], provenance=origin)])
    assert hostile not in page
    assert data_of(page)["table"] == hostile


def test_the_papers_layouts_are_offered_where_their_blocks_are_candidates(request_: Request) -> None:
    assert list(reference_plans(request_, Dynamic())) == ["SSA only", "LCHA only", "sandwich"]
    hourglass = dataclasses.replace(request_, space=Space.parse("lcha,ssa,kv_compressed", depth=28))
    assert "hourglass" in reference_plans(hourglass, Dynamic())
    shallow = dataclasses.replace(request_, space=Space.parse("ssa", depth=8))
    assert list(reference_plans(shallow, Dynamic())) == ["SSA only"]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[object]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)"
)
def test_pointing_at_a_point_shows_its_layout(browser, plans: list[Plan], request_: Request, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    save_html(front_html(plans, reference_plans(request_, Dynamic())), tmp_path / "front.html")
    browser.get((tmp_path / "front.html").as_uri())
    points = browser.find_elements(By.CSS_SELECTOR, '#chart [role="option"]')
    assert len(points) >= len(plans)
    for index in (2, len(plans) - 2):
        counts = " + ".join(f"{count} {label}" for label, count in plans[index].counts.items())
        heading = f"{counts}, {format_us(1000 * plans[index].latency_ms.predicted)}"
        point = next(point for point in points if point.get_attribute("aria-label") == heading)
        ActionChains(browser).move_to_element(point).perform()
        assert browser.find_element(By.ID, "written").text == plans[index].written
        strip = browser.find_element(By.ID, "strip")
        letters = "".join(text.text for text in strip.find_elements(By.TAG_NAME, "text"))
        assert letters.count("L") == plans[index].counts["lcha"]
        assert letters.count("S") == plans[index].counts["ssa"]
        assert plans[index].written in strip.get_attribute("aria-label")
    point.click()
    ActionChains(browser).send_keys(Keys.ARROW_LEFT).perform()
    assert browser.find_element(By.ID, "written").text == plans[len(plans) - 3].written
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
