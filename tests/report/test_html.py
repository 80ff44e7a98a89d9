from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

import s2search
from s2search.cost import Budget
from s2search.errors import InputError
from s2search.latency.lookup import Lookup
from s2search.planner.find import front
from s2search.planner.frontier import Frontier
from s2search.planner.plan import Plan
from s2search.planner.references import reference_layouts
from s2search.planner.request import Request
from s2search.reporting.command import plan_command
from s2search.reporting.figures import front_figure
from s2search.reporting.html import front_html, save_html
from s2search.score.published import Published
from s2search.solver.dynamic import Dynamic
from s2search.space import Space
from s2search.tables.table import open_table
from tests.command import run_here

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

HOSTILE = "</script><script>document.title='owned'</script><!--<img src=x onerror=alert(1)>&amp;'\"\\\u2028"
NO_BROWSER = "no chromium here: apt-get install chromium chromium-driver"
needs_browser = pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("chromedriver")), reason=NO_BROWSER)


def ask(candidates: str = "lcha,ssa,kv_compressed", *, depth: int = 28, group_size: int = 1) -> Request:
    table = open_table("iphone-16-pro-max")
    return Request(
        table=table,
        scope=table.scope("stream"),
        space=Space.parse(candidates, depth=depth, group_size=group_size),
        latency_model=Lookup(),
        score=Published(),
        budgets=(Budget.parse("1.5GB"),),
    )


def data(page: str) -> Any:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    return json.loads(text)


def hostile(plan: Plan) -> Plan:
    """Return the plan with `HOSTILE` for every text that a file or a plugin could bring."""
    origin = dataclasses.replace(
        plan.provenance,
        table=HOSTILE,
        table_statement=HOSTILE,
        table_source=HOSTILE,
        score=HOSTILE,
        score_statement="x",
    )
    new = {"ssa": HOSTILE}
    return dataclasses.replace(
        plan,
        layout=tuple(new.get(label, label) for label in plan.layout),
        counts={new.get(label, label): count for label, count in plan.counts.items()},
        blocks={new.get(label, label): block for label, block in plan.blocks.items()},
        written=HOSTILE,
        provenance=origin,
    )


@pytest.fixture(scope="module")
def traced() -> Frontier:
    return front(ask(), Dynamic(), points=40)


@pytest.fixture(scope="module")
def plans(traced: Frontier) -> list[Plan]:
    return list(traced)


@pytest.fixture(scope="module")
def references(traced: Frontier) -> Mapping[str, Plan]:
    return traced.references


def open_page(browser: WebDriver, page: str, folder: Path) -> None:
    save_html(page, folder / "front.html")
    browser.get(f"file://{folder}/front.html")


def texts(browser: WebDriver, selector: str) -> list[str]:
    from selenium.webdriver.common.by import By

    return [element.text for element in browser.find_elements(By.CSS_SELECTOR, selector)]


def point_at(browser: WebDriver, plan: Plan, kind: str = ".point:not(.reference)") -> None:
    """Move the mouse onto the point of a plan, as a reader would."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    counts = " + ".join(f"{n} {label}" for label, n in plan.counts.items() if n)
    (point,) = browser.find_elements(By.CSS_SELECTOR, f"{kind}[aria-label*='{counts}']")
    ActionChains(browser).move_to_element(point.find_element(By.CSS_SELECTOR, ".mark")).perform()


def shown_layout(browser: WebDriver) -> tuple[str, list[str]]:
    """Return the strip as one reads it: the letters from left to right, and the stream in which each one stands."""
    from selenium.webdriver.common.by import By

    layers = browser.find_elements(By.CSS_SELECTOR, "#strip .layer")
    lanes = {text.text: text.location["y"] for text in browser.find_elements(By.CSS_SELECTOR, "#strip .lane")}
    by_place = sorted(layers, key=lambda layer: layer.location["x"])
    streams = [min(lanes, key=lambda lane: abs(lanes[lane] - layer.location["y"])) for layer in by_place]
    return "".join(layer.text for layer in by_place), streams


def errors(browser: WebDriver) -> list[Any]:
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]  # type: ignore[no-untyped-call]


def test_the_page_holds_every_plan_of_the_front_and_every_reference(
    plans: list[Plan], references: Mapping[str, Plan]
) -> None:
    told = data(front_html(plans, references))
    labels = [block["label"] for block in told["blocks"]]
    for point, plan in zip(told["points"] + told["references"], [*plans, *references.values()], strict=True):
        assert tuple(labels[i] for i in point["layout"]) == plan.layout
        assert (point["latency_ms"], point["score"], point["written"]) == (
            plan.latency_ms.predicted,
            plan.score,
            plan.written,
        )
    assert [point["name"] for point in told["references"]] == ["SSA only", "LCHA only", "sandwich", "hourglass"]


def test_a_point_tells_its_interval_its_slack_and_where_it_comes_from(plans: list[Plan]) -> None:
    told = data(front_html(plans))
    facts = dict(told["points"][5]["facts"])
    latency = plans[5].latency_ms
    assert f"{latency.low:.1f} to {latency.high:.1f} ms by the derivation's own error" in facts["latency"]
    assert (told["points"][5]["low_ms"], told["points"][5]["high_ms"]) == (latency.low, latency.high)
    assert "of 1.50 GB, slack" in facts["memory"]
    assert any("derived from published totals: not a measurement" in line for line in told["provenance"])


def test_hostile_words_come_back_as_they_were_and_never_as_markup(plans: list[Plan]) -> None:
    page = front_html([hostile(plan) for plan in plans], {HOSTILE: hostile(plans[0])})
    told = data(page)
    assert told["table"] == told["score"] == told["points"][0]["written"] == told["references"][0]["name"] == HOSTILE
    assert page.count("</script>") == front_html(plans).count("</script>") == 2
    assert "<img" not in page
    assert "<!--" not in page


def test_the_page_loads_nothing(plans: list[Plan]) -> None:
    page = front_html(plans)
    assert not re.findall(r"\b(?:src|href|action|srcset)\s*=|url\(|@import|fetch\(|XMLHttp|WebSocket|import\(", page)
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page
    assert "{{" not in page


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'.*none/front.html' cannot be written: No such file"):
        save_html("", tmp_path / "none" / "front.html")


@pytest.mark.parametrize(
    ("candidates", "depth", "group_size", "names"),
    [
        ("lcha,ssa", 28, 1, ["SSA only", "LCHA only", "sandwich"]),
        ("lcha,ssa,kv_compressed", 28, 2, ["SSA only", "LCHA only", "sandwich", "hourglass"]),
        ("lcha,ssa,kv_compressed", 28, 4, ["SSA only", "LCHA only", "sandwich"]),
        ("lcha,ssa", 28, 7, ["SSA only", "LCHA only"]),
        ("lcha,ssa", 8, 1, ["SSA only", "LCHA only"]),
        ("kv_compressed", 28, 1, []),
    ],
)
def test_only_references_that_the_request_can_form_are_drawn(
    candidates: str, depth: int, group_size: int, names: list[str]
) -> None:
    found = reference_layouts(Space.parse(candidates, depth=depth, group_size=group_size))
    assert list(found) == names


def test_the_sandwich_is_the_published_one(references: Mapping[str, Plan]) -> None:
    sandwich = references["sandwich"]
    assert sandwich.written == "L4S8L4S8L4"
    assert sandwich.latency_ms.predicted == pytest.approx(260, abs=0.1)


def test_the_figure_names_the_references(plans: list[Plan], references: Mapping[str, Plan]) -> None:
    words = [text.get_text() for text in front_figure(plans, references).axes[0].texts]
    assert {*references} <= {*words}
    assert not {*references} & {text.get_text() for text in front_figure(plans).axes[0].texts}


def test_further_fronts_share_the_page_and_must_share_the_score(plans: list[Plan]) -> None:
    told = data(front_html(plans, {}, {"mine": plans[3:9]}))
    (mine,) = told["beside"]
    assert (mine["name"], len(mine["points"])) == ("mine", 6)
    assert [point["written"] for point in mine["points"]] == [plan.written for plan in plans[3:9]]
    scored = dataclasses.replace(plans[0].provenance, score_digest="sha256:" + "0" * 64)
    other = [dataclasses.replace(plan, provenance=scored) for plan in plans]
    for draw in (front_html, front_figure):
        with pytest.raises(InputError, match="'mine' is by the score 'published'"):
            draw(plans, {}, {"mine": other})


COMMANDS: list[dict[str, Any]] = [
    {
        "table": "iphone-16-pro-max",
        "depth": 12,
        "budget": ["120ms", "1.5GB"],
        "candidates": "lcha,ssa,kv_compressed",
    },
    {"table": "iphone-16-pro-max", "scenario": "clip", "depth": 8, "group_size": 2},
    {"table": "h100", "video": "512x288", "depth": 8, "budget": "6ms", "confidence": 0.9},
    {"table": ["iphone-16-pro-max:100ms,1GB", "h100:5ms"], "depth": 8},
    {"table": "amd-epyc", "video": "384x208", "latency_model": "interpolate", "depth": 6, "commit": "clean_pass"},
]


@pytest.mark.parametrize("asked", COMMANDS)
def test_the_command_of_a_plan_gives_its_layout_and_costs_again(asked: dict[str, Any], tmp_path: Path) -> None:
    plan = s2search.plan(**asked)
    words = shlex.split(plan_command(plan))
    assert words[:2] == ["s2search", "plan"]
    done = run_here([*words[1:], "--json"], tmp_path)
    assert (done.code, done.err) == (0, "")
    again = json.loads(done.out)
    assert (tuple(again["layout"]), again["score"], again["commit"]) == (plan.layout, plan.score, plan.commit)
    assert again["latency_ms"]["predicted"] == plan.latency_ms.predicted
    assert again["memory_bytes"]["budget"] == plan.memory_bytes.budget
    assert (len(again["devices"]), again["group_size"]) == (len(plan.devices), plan.group_size)


@needs_browser
def test_the_picture_is_saved_and_the_command_is_copied(
    browser: WebDriver, plans: list[Plan], references: Mapping[str, Plan], tmp_path: Path
) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    open_page(browser, front_html(plans, references, {"mine": plans[:4]}), tmp_path)
    text = browser.execute_script("return pictureText()")  # type: ignore[no-untyped-call]
    picture = ElementTree.fromstring(text)
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    (tmp_path / "front.svg").write_text(text)
    assert len([one for one in picture.iter() if "dot" in one.get("class", "")]) == len(plans) + 4
    assert {one.get("data-block") for one in picture.iter() if one.get("class") == "share"} == set(plans[0].counts)
    point_at(browser, plans[7])
    ActionChains(browser).click().perform()
    browser.execute_script(  # type: ignore[no-untyped-call]
        "window.copied = ''; Object.defineProperty(navigator, 'clipboard', { value: undefined });"
        "document.execCommand = () => { window.copied = document.activeElement.value; return true; };"
    )
    browser.find_element(By.ID, "copy-command").click()
    assert browser.execute_script("return copied") == plan_command(plans[7])  # type: ignore[no-untyped-call]
    assert texts(browser, "#copy-command") == ["copied"]
    assert errors(browser) == []


@needs_browser
def test_pointing_at_a_point_shows_its_layout(
    browser: WebDriver, plans: list[Plan], references: Mapping[str, Plan], tmp_path: Path
) -> None:
    open_page(browser, front_html(plans, references), tmp_path)
    for plan in (plans[0], plans[7], plans[-1]):
        point_at(browser, plan)
        letters, streams = shown_layout(browser)
        assert letters == "".join(label[0].upper() for label in plan.layout)
        assert streams == [f"{plan.blocks[label].stream} res" for label in plan.layout]
        assert texts(browser, "#written") == [plan.written]
        assert f"{plan.latency_ms.low:.1f} to" in texts(browser, "#facts")[0]
    assert "not a measurement" in texts(browser, "#provenance")[0]
    assert errors(browser) == []


@needs_browser
def test_pointing_at_a_name_shows_the_reference_and_not_the_dot_in_it(
    browser: WebDriver, plans: list[Plan], references: Mapping[str, Plan], tmp_path: Path
) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    open_page(browser, front_html(plans, references), tmp_path)
    (name,) = [e for e in browser.find_elements(By.CSS_SELECTOR, ".reference text") if e.text == "sandwich"]
    ActionChains(browser).move_to_element(name).perform()
    assert shown_layout(browser)[0] == "LLLLSSSSSSSSLLLLSSSSSSSSLLLL"
    assert texts(browser, "#heading")[0].startswith("sandwich: 12 lcha + 16 ssa")


@needs_browser
def test_a_clicked_point_stays_and_keys_step_along_the_front(
    browser: WebDriver, plans: list[Plan], tmp_path: Path
) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    open_page(browser, front_html(plans), tmp_path)
    point_at(browser, plans[6])
    ActionChains(browser).click().perform()
    point_at(browser, plans[20])
    assert texts(browser, "#written") == [plans[20].written]
    ActionChains(browser).move_to_element(browser.find_element(By.TAG_NAME, "h1")).perform()
    assert texts(browser, "#written") == [plans[6].written]
    for key, plan in ((Keys.ARROW_RIGHT, plans[7]), (Keys.END, plans[-1]), (Keys.ARROW_LEFT, plans[-2])):
        ActionChains(browser).send_keys(key).perform()
        assert texts(browser, "#written") == [plan.written]
    chosen = browser.find_elements(By.CSS_SELECTOR, "[role=option][aria-selected=true][tabindex='0']")
    assert len(chosen) == 1
    assert browser.switch_to.active_element == chosen[0]


@needs_browser
def test_one_point_and_five_hundred_points_can_be_read(browser: WebDriver, plans: list[Plan], tmp_path: Path) -> None:
    open_page(browser, front_html(plans[:1], {"itself": plans[0]}), tmp_path)
    assert shown_layout(browser)[0] == "S" * 28
    many = [
        dataclasses.replace(
            plans[0],
            layout=tuple("lcha" if layer < k % 28 else "ssa" for layer in range(28)),
            counts={"lcha": k % 28, "ssa": 28 - k % 28, "kv_compressed": 0},
            written=f"layout {k}",
            score=k**0.5,
            latency_ms=dataclasses.replace(plans[0].latency_ms, predicted=100.0 + k),
        )
        for k in range(500)
    ]
    open_page(browser, front_html(many), tmp_path)
    assert texts(browser, "#written") == ["layout 250"]
    assert shown_layout(browser)[0] == "L" * (250 % 28) + "S" * (28 - 250 % 28)
    assert errors(browser) == []


@needs_browser
def test_hostile_words_are_shown_and_not_run(browser: WebDriver, plans: list[Plan], tmp_path: Path) -> None:
    open_page(browser, front_html([hostile(plan) for plan in plans], {HOSTILE: hostile(plans[0])}), tmp_path)
    assert browser.title.startswith("Latency and score on </script>")
    assert "<img src=x" in texts(browser, "#written")[0]
    assert errors(browser) == []


@needs_browser
def test_a_narrow_screen_needs_no_sideways_scrolling(
    browser: WebDriver, plans: list[Plan], references: Mapping[str, Plan], tmp_path: Path
) -> None:
    browser.execute_cdp_cmd(  # type: ignore[no-untyped-call]
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    )
    open_page(browser, front_html(plans, references), tmp_path)
    width = browser.execute_script("return document.documentElement.scrollWidth")  # type: ignore[no-untyped-call]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})  # type: ignore[no-untyped-call]
    assert width <= 360
