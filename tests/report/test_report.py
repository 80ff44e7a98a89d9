"""The page of a campaign: safe, small, alone, honest about where numbers come from, and readable by everybody."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import s2search
from s2search.document import as_json
from s2search.errors import InputError
from s2search.pipeline.record import Asked, PipelineRecord, StageRecord
from s2search.planner.frontier import Frontier
from s2search.recalibration.result import Recalibration
from s2search.reporting.colours import luminance
from s2search.reporting.design_page import design_html
from s2search.reporting.report.campaign import CampaignParts, Recalibrated
from s2search.reporting.report.page import MOST_BYTES, campaign_html
from s2search.reporting.report.picture import PictureAxis, fronts_svg
from s2search.tables.table import open_table
from s2search.training.run_folder import Record
from s2search.training.settings import RunSettings
from tests.conftest import Outcome
from tests.report.campaigns import (
    HOSTILE,
    TABLE,
    Element,
    Page,
    given,
    judged,
    learnt,
    numbers,
    picture,
    poisoned,
    put,
    recalibration,
    whole_campaign,
)

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

Run = Callable[..., Outcome]
NO_BROWSER = "no chromium here: apt-get install chromium chromium-driver"
needs_browser = pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("chromedriver")), reason=NO_BROWSER)
SECTIONS = ("tables", "fronts", "designs", "plans", "runs", "verifications", "recalibrations")


def drawn(campaign: CampaignParts, title: str = "A campaign") -> str:
    return campaign_html(campaign, title=title, version="0").html


@pytest.fixture(scope="module")
def campaign() -> CampaignParts:
    return whole_campaign()


@pytest.fixture(scope="module")
def markup(campaign: CampaignParts) -> str:
    return drawn(campaign)


@pytest.fixture(scope="module")
def page(markup: str) -> Page:
    return Page(markup)


@pytest.fixture(scope="module")
def evil(campaign: CampaignParts) -> str:
    """The page of a campaign in which every text is hostile."""

    def all_of(kind: str) -> tuple[Any, ...]:
        return tuple(given(poisoned(one.part), HOSTILE) for one in getattr(campaign, kind))

    table = open_table(TABLE)
    card = dataclasses.replace(
        table.card,
        **dict.fromkeys(("device", "chip", "os", "runtime", "runtime_version", "date"), HOSTILE),
        provenance=dataclasses.replace(table.card.provenance, source=HOSTILE, statement=HOSTILE),
        protocol={"marked": [HOSTILE], "sentinel_drift_percent": 1.0},
        assumptions=[HOSTILE],
    )
    rows = [dataclasses.replace(table.rows[0], part=HOSTILE, options=HOSTILE, note=HOSTILE)]
    found = judged(dataclasses.replace(table, name=HOSTILE, card=card, rows=rows))
    found = dataclasses.replace(found, samples=(HOSTILE,), findings=tuple(map(poisoned, found.findings)))
    run = dataclasses.replace(learnt(), trainer=HOSTILE, data=HOSTILE, judgement=poisoned(learnt().judgement))
    corrected = Recalibrated(found=poisoned(recalibration(table)), correction=HOSTILE)
    hostile = CampaignParts(
        tables=(given(found, HOSTILE),),
        fronts=all_of("fronts"),
        designs=all_of("designs"),
        plans=all_of("plans"),
        promises=all_of("promises"),
        runs=(given(run, HOSTILE),),
        clips={HOSTILE: b"no picture"},
        verifications=all_of("verifications"),
        recalibrations=(given(corrected, HOSTILE),),
    )
    return drawn(hostile, HOSTILE)


def test_no_text_of_a_stranger_becomes_markup_in_any_section(evil: str, page: Page) -> None:
    parsed = Page(evil)
    assert len(parsed.of("script")) == 1
    assert len(parsed.of("style")) == sum(title.parent in parsed.of("head") for title in parsed.of("title")) == 1
    known = {name for element in page.every for name in element.attributes}
    assert {name for element in parsed.every for name in element.attributes} <= known
    assert not [name for name in known if name.startswith("on")]
    assert {element.tag for element in parsed.every} <= {element.tag for element in page.every}
    assert not {"\u202e", "\x1b", "\x00"} & set(evil)
    for anchor in SECTIONS:
        (section,) = [element for element in parsed.of("section") if element.attributes["id"] == anchor]
        assert "<script>document.title='owned'</script>" in section.text, anchor


def test_the_policy_lets_only_the_pages_own_script_run(evil: str, markup: str) -> None:
    import base64
    import hashlib

    for page in map(Page, (evil, markup)):
        (policy,) = [one.attributes["content"] for one in page.of("meta") if "http-equiv" in one.attributes]
        (script,) = page.of("script")
        digest = base64.b64encode(hashlib.sha256("".join(script.words).encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in policy
        assert "default-src 'none'" in policy


def test_the_page_refers_to_nothing_outside_itself(evil: str, markup: str) -> None:
    for parsed in map(Page, (evil, markup)):
        for element in parsed.every:
            for name in ("src", "href", "xlink:href", "action", "poster", "srcset", "data", "formaction"):
                if name in element.attributes:
                    assert element.attributes[name].startswith(("#", "data:image/")), element.attributes
            assert "url(" not in element.attributes.get("style", "")
        (style,) = parsed.of("style")
        assert not re.search(r"url\(|@import|@font-face", "".join(style.words))
    ids = [element.attributes["id"] for element in Page(markup).every if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    targets = {e.attributes["href"][1:] for e in Page(markup).of("a")}
    assert targets <= set(ids)


def test_every_number_leads_to_its_origin_and_is_described_by_it(page: Page) -> None:
    origins = {e.attributes["id"] for e in page.of("li") if re.fullmatch(r"o\d+", e.attributes.get("id", ""))}
    numbers = [element for element in page.of("a") if element.attributes.get("class") == "n"]
    assert len(numbers) > 300
    for number in numbers:
        assert number.attributes["href"] == f"#{number.attributes['aria-describedby']}"
        assert number.attributes["aria-describedby"] in origins
    bare = []
    for cell in page.of("td", "dd"):
        for element in (cell, *inside(cell)):
            if not re.search(r"\d", "".join(element.words)):
                continue
            if not any(e.tag in ("code", "title") or "aria-describedby" in e.attributes for e in element.around):
                bare.append(element.text)
    assert bare == []


def inside(element: Element) -> Iterator[Element]:
    for child in element.children:
        if child.tag == "svg":  # pictures have a text of their own, and their numbers stand beside them
            continue
        yield child
        yield from inside(child)


def test_headings_come_in_order_and_tables_say_what_their_cells_are_of(page: Page, evil: str) -> None:
    for parsed in (page, Page(evil)):
        levels = [int(element.tag[1]) for element in parsed.of("h1", "h2", "h3", "h4", "h5", "h6")]
        assert levels.count(1) == 1
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
        assert all(element.attributes.get("scope") in ("col", "row") for element in parsed.of("th"))
        for table in parsed.of("table"):
            assert table.children[0].tag == "caption"
        for row in parsed.of("tr"):
            assert row.children[0].tag == "th", row.text
            assert row.parent is not None


def test_there_are_landmarks_and_every_picture_is_told(page: Page) -> None:
    tags = [element.tag for element in page.every]
    assert all(tags.count(tag) == 1 for tag in ("header", "nav", "main", "footer"))
    assert page.of("html")[0].attributes["lang"] == "en"
    assert all(image.attributes["alt"] for image in page.of("img"))
    for drawing in page.of("svg"):
        hidden = drawing.attributes.get("aria-hidden") == "true"
        assert hidden or (drawing.attributes["role"] == "img" and drawing.attributes["aria-label"])
    for section in page.of("section"):
        named = section.attributes["aria-labelledby"]
        assert [heading for heading in page.of("h2") if heading.attributes["id"] == named]


def test_text_can_be_read_in_both_themes_and_on_paper() -> None:
    from importlib import resources

    style = resources.files("s2search.reporting.report").joinpath("page.css").read_text()
    light, dark, paper = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part)) for part in themes(style))
    text = [("ink", "paper"), ("ink", "card"), ("dim", "paper"), ("dim", "card"), ("link", "paper"), ("link", "card")]
    text += [(kind, "paper") for kind in ("good", "doubt", "bad", "s1")] + [("paper", "ink")]
    text += [(f"v{n}-ink", f"v{n}") for n in range(1, 6)]
    for theme in (light, dark, paper):
        assert set(theme) == set(light)
        assert {f"{a} on {b}": r for a, b in text if (r := ratio(theme[a], theme[b])) < 4.5} == {}
        assert {n: r for n in range(6) if (r := ratio(theme[f"s{n}"], theme["paper"])) < 3} == {}


def themes(style: str) -> tuple[str, str, str]:
    light, rest = style.split("@media (prefers-color-scheme: dark)")
    dark, rest = rest.split("* { box-sizing", 1)
    return light, dark, rest.split("@media print")[1]


def ratio(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_sections_without_parts_say_so_and_so_does_the_list_of_what_was_not_measured() -> None:
    table = open_table(TABLE)
    page = Page(drawn(CampaignParts(tables=(given(judged(table), table.name),))))
    missing = next(element for element in page.of("section") if element.attributes["id"] == "missing").text
    for anchor in SECTIONS[1:]:
        (section,) = [element for element in page.of("section") if element.attributes["id"] == anchor]
        assert "Nothing was given." in section.text
        assert section.children[0].text.rstrip("?") in missing
    assert "Nothing was given" not in page.of("section")[1].text
    assert "22 rows derived, 6 rows estimated" in missing


def test_a_plan_of_another_table_and_a_package_of_another_plan_are_named(campaign: CampaignParts) -> None:
    amd = campaign.tables[1:]
    other = dataclasses.replace(campaign.verifications[0].part, plan_digest=f"sha256:{'9' * 64}")
    strange = dataclasses.replace(campaign, tables=amd, verifications=(given(other, "report.json"),))
    page = Page(drawn(strange))
    missing = next(element for element in page.of("section") if element.attributes["id"] == "missing").text
    assert "Parts that do not go together" in missing
    assert "plan.json was made from iphone-16-pro-max.coreml.w4a8" in missing
    assert "made from a plan (999999999999) that is not here" in missing
    assert "do not go together" not in drawn(campaign)


@pytest.mark.parametrize("pictures", [1, 24])
def test_the_page_stays_small_whatever_goes_in(campaign: CampaignParts, pictures: int) -> None:
    front = campaign.fronts[0].part
    many = Frontier(plans=front.plans * 400, references=front.references)
    noise = picture(1600, 300, noise=True)
    run = learnt(steps=100_000, strip=noise)
    large = dataclasses.replace(
        campaign,
        fronts=(given(many, "many.json"),),
        runs=tuple(given(run, f"run {n}") for n in range(pictures)),
        verifications=tuple(
            given(dataclasses.replace(one.part, checks=one.part.checks * 200), "x") for one in campaign.verifications
        ),
    )
    found = campaign_html(large, title="Large", version="0")
    assert len(found.html.encode()) <= MOST_BYTES
    assert (found.notes == ()) == (pictures == 1)
    shown = [image.attributes["src"] for image in Page(found.html).of("img")]
    assert len(shown) == pictures + 1
    assert all(source.startswith("data:image/jpeg;base64,") for source in shown)


def test_only_pixels_of_a_picture_come_in_and_what_is_none_is_left_out() -> None:
    bomb = bytearray(picture(8, 8))
    bomb[16:24] = (100_000).to_bytes(4, "big") * 2
    for strip, why in ((b"<svg onload=x>", "it is no PNG picture"), (bytes(bomb), "100000x100000 pixels")):
        found = campaign_html(CampaignParts(runs=(given(learnt(strip=strip), "run"),)), title="t", version="0")
        assert why in found.html
        assert any(why in note for note in found.notes)
        assert not Page(found.html).of("img")
    page = drawn(CampaignParts(runs=(given(learnt(strip=picture(8, 8, comment="<script>x</script>")), "run"),)))
    import base64

    (image,) = Page(page).of("img")
    assert b"script" not in base64.b64decode(image.attributes["src"].partition(",")[2])


@pytest.mark.parametrize("kind", ["fronts", "designs", "plans", "promises", "verifications"])
def test_no_number_of_a_file_ends_the_page_with_a_traceback(campaign: CampaignParts, kind: str) -> None:
    part = getattr(campaign, kind)[0].part
    content = msgspec.to_builtins(part)
    drawn_pages = 0
    places = sorted(numbers(content), key=str)
    for path in random.Random(0).sample(places, min(25, len(places))):
        for new in (0, -1, 1e308, -1e308):
            with contextlib.suppress(msgspec.ValidationError, InputError):
                changed = msgspec.convert(put(content, path, new), type(part))
                drawn(CampaignParts(**{kind: (given(changed, "x"),)}))
                drawn_pages += 1
    assert drawn_pages > 5


def test_fronts_far_apart_are_drawn_on_a_logarithmic_axis_and_each_keeps_its_form() -> None:
    slow = s2search.frontier("amd-epyc", video="512x288", depth=4)
    fast = s2search.frontier("h100", video="512x288", depth=4)
    rows = {"slow": ["a"] * len(slow), "fast": ["b"] * len(fast)}
    both = fronts_svg({"slow": slow.plans, "fast": fast.plans}, {}, rows)
    assert "logarithmic" in both
    assert "logarithmic" not in fronts_svg({"slow": slow.plans}, {}, rows)
    forms = [e.attributes["d"] for e in Page(both).of("path") if e.attributes.get("class") in ("s0", "s1")]
    assert len(set(forms)) == 2
    axis = PictureAxis.around([1.0, 1000.0], 0, 300, log=True)
    assert axis(10.0) - axis(1.0) == pytest.approx(axis(100.0) - axis(10.0))


def test_a_recalibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = recalibration(open_table(TABLE))
    (tmp_path / "found.json").write_text(found.to_json())
    assert Recalibration.load(tmp_path / "found.json").to_json() == found.to_json()
    (tmp_path / "found.json").write_text('{"schema": "s2search.recalibration/1"}')
    with pytest.raises(InputError, match="not a recalibration"):
        Recalibration.load(tmp_path / "found.json")


def test_the_command_knows_documents_and_folders_by_what_they_say(s2search: Run, tmp_path: Path) -> None:
    assert s2search("plan", "--depth", "4", "--budget", "1GB", "--out", "plan.json").code == 0
    (tmp_path / "front.json").write_text(s2search("frontier", "--depth", "4", "--json").out)
    (tmp_path / "found.json").write_text(recalibration(open_table(TABLE)).to_json())
    table = next(Path(__file__).parents[2].joinpath("latency_tables").glob("h100*"))
    done = s2search(
        "report", "page.html", "front.json", "plan.json", "found.json", str(table), "--title", "Mine & yours"
    )
    assert (done.code, done.err) == (0, ""), done.err
    page = Page((tmp_path / "page.html").read_text())
    assert page.of("h1")[0].text == page.of("title")[0].text == "Mine & yours"
    tables = next(element for element in page.of("section") if element.attributes["id"] == "tables")
    assert [h.text for h in page.of("h3") if tables in h.around] == [table.name, "iphone-16-pro-max.coreml.w4a8"]
    assert "lacks: Verification" in done.out
    assert "lacks: The front" not in done.out


def test_folders_of_runs_are_told_by_stages_and_nothing_outside_them_is_read(s2search: Run, tmp_path: Path) -> None:
    settings = RunSettings.of({"data": "clips"})
    stages = {"flow": StageRecord(state="done", asked=Asked()), "..": StageRecord(state="done", asked=Asked())}
    PipelineRecord(stages={**stages, "../outside": stages["flow"]}).save(make(tmp_path / "whole") / "stages.json")
    for folder in (tmp_path / "whole" / "flow", tmp_path / "alone", tmp_path / "outside", tmp_path):
        run = msgspec.structs.replace(settings, trainer=f"trainer of {folder.name}")
        Record(settings=run, digests={"model": "sha256:1"}, versions={}).save(make(folder) / "run.json")
        (folder / "metrics.csv").write_text("step,name,value\n1,loss,0.5\n2,loss,0.4\n")
        (folder / "strip.png").write_bytes(picture(16, 8))
    (tmp_path / "whole" / "flow" / "judgement.json").write_text(as_json(learnt().judgement))
    done = s2search("report", "page.html", "whole", "alone")
    assert (done.code, done.err) == (0, ""), done.err
    page = Page((tmp_path / "page.html").read_text())
    assert [h.text for h in page.of("h3") if "trainer" in h.text] == [
        "whole/flow: trainer of flow",
        "alone: trainer of alone",
    ]
    assert len(page.of("img")) == 2
    missing = next(element for element in page.of("section") if element.attributes["id"] == "missing").text
    assert "alone was not judged on held-out clips" in missing
    assert "whole/flow was not judged" not in missing


def make(folder: Path) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    return folder


def test_a_page_that_cannot_be_written_is_one_line_before_any_work(s2search: Run, tmp_path: Path) -> None:
    for place in ("/proc/page.html", "nowhere/page.html", "-"):
        done = s2search("report", place, "not-there.json")
        assert (done.code, len(done.err.splitlines())) == (2, 1)
        assert "cannot be written" in done.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"schema": "s2search.kit/1"}', "its schema is 's2search.kit/1'"),
        ('{"schema": "s2search.plan/1"}', "is not a plan"),
        ("[1]", "holds no JSON object"),
        ("<html>", "cannot be read as JSON"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_part_is_refused_in_one_line(s2search: Run, tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "part.json").write_text(content)
    done = s2search("report", "page.html", "part.json")
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), done.err
    assert said in done.err
    assert not (tmp_path / "page.html").exists()


def test_a_report_of_nothing_and_a_strange_folder_say_what_a_report_takes(s2search: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for words in (("report", "page.html"), ("report", "page.html", "folder")):
        done = s2search(*words)
        assert (done.code, len(done.err.splitlines())) == (2, 1)
        assert "s2search.plan/1" in done.err
        assert "a training run" in done.err


def test_a_design_page_has_a_design_for_every_cell(campaign: CampaignParts) -> None:
    design = campaign.designs[0].part
    page = Page(design_html([design, design]))
    cells = [e for e in page.of("a") if e.attributes["href"].startswith("#d")]
    articles = {e.attributes["id"] for e in page.of("article")}
    assert {cell.attributes["href"][1:] for cell in cells} == articles
    assert sum("the answer" in cell.text for cell in cells) >= 2
    assert as_json(json.loads(as_json(design))) == as_json(design)


def shown(browser: WebDriver, markup: str, folder: Path) -> None:
    (folder / "page.html").write_text(markup)
    browser.get(f"file://{folder}/page.html")


def complaints(browser: WebDriver) -> list[Any]:
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]  # type: ignore[no-untyped-call]


@needs_browser
def test_in_a_browser_keys_lead_from_number_to_number_and_show_origins(
    browser: WebDriver, markup: str, tmp_path: Path
) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    shown(browser, markup, tmp_path)
    tip = browser.find_element(By.ID, "tip")
    first = browser.find_element(By.CSS_SELECTOR, "#short a.n")
    browser.execute_script("arguments[0].focus()", first)  # type: ignore[no-untyped-call]
    origin = browser.find_element(By.ID, str(first.get_attribute("aria-describedby")))
    assert tip.is_displayed()
    assert tip.text == origin.text.strip()
    first.send_keys(Keys.ARROW_RIGHT)
    second = browser.switch_to.active_element
    assert second.text != first.text
    assert (first.get_attribute("tabindex"), second.get_attribute("tabindex")) == ("-1", "0")
    second.send_keys(Keys.ESCAPE)
    assert not tip.is_displayed()
    second.send_keys(Keys.ENTER)
    back = browser.find_element(By.CSS_SELECTOR, "#origins button")
    browser.execute_script("arguments[0].click()", back)  # type: ignore[no-untyped-call]
    assert browser.switch_to.active_element.text == second.text
    assert complaints(browser) == []


@needs_browser
def test_in_a_browser_nothing_hostile_runs_and_narrow_pages_do_not_scroll_sideways(
    browser: WebDriver, evil: str, markup: str, tmp_path: Path
) -> None:
    shown(browser, evil, tmp_path)
    assert browser.title.startswith("</script>")
    assert browser.execute_script("return document.images.length") == 1  # type: ignore[no-untyped-call]
    assert complaints(browser) == []
    narrow = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    for page in (evil, markup):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
        shown(browser, page, tmp_path)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390  # type: ignore[no-untyped-call]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@needs_browser
def test_in_a_browser_a_cell_of_the_matrix_shows_its_design(
    browser: WebDriver, campaign: CampaignParts, tmp_path: Path
) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    shown(browser, design_html([campaign.designs[0].part]), tmp_path)

    def open_articles() -> list[str]:
        return [a.get_attribute("id") or "" for a in browser.find_elements(By.TAG_NAME, "article") if a.is_displayed()]

    answer = browser.find_element(By.CSS_SELECTOR, ".matrix .answer a")
    assert open_articles() == [str(answer.get_attribute("href")).partition("#")[2]]
    browser.execute_script("arguments[0].focus()", answer)  # type: ignore[no-untyped-call]
    answer.send_keys(Keys.ARROW_LEFT)
    here = browser.switch_to.active_element
    assert here.get_attribute("href") != answer.get_attribute("href")
    assert open_articles() == [str(here.get_attribute("href")).partition("#")[2]]
    assert complaints(browser) == []
