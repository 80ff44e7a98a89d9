"""What the documents say, runs, names everything, and leads somewhere."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from s2search import registry
from s2search.tables.table import installed_tables
from s2search.verification.verify import CHECKS
from tests.pages import NOT_RUN, PAGES, ROOT, Block, Reader, blocks, run_here

DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
DECISIONS = sorted(path for path in (DOCS / "decisions").glob("*.md") if path.stem != "index")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def programs(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in ("console", "python")]


def reads_as_written(page: Path, folder: Path, *, slow: bool) -> None:
    for one in Reader(folder).read(page, slow=slow):
        assert one.block.text == one.printed, f"python -m tests.pages {name(page)} writes what is printed today"


@pytest.mark.parametrize("page", [page for page in PAGES if programs(page)], ids=name)
def test_a_pages_commands_and_programs_run_in_order_and_print_what_it_shows(page: Path, tmp_path: Path) -> None:
    reads_as_written(page, tmp_path, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(b.mark == "slow" for b in blocks(page))], ids=name)
def test_a_page_with_commands_of_minutes_runs_whole(page: Path, tmp_path: Path) -> None:
    reads_as_written(page, tmp_path, slow=True)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_page_shows_is_run_or_says_what_it_is(page: Path) -> None:
    before = None
    for block in blocks(page):
        if block.language == "" and before is not None and before.language in ("console", "python"):
            assert block.mark.startswith(("prints", "once: ")), f"{name(page)}: {block.text[:60]}"
        elif block.language == "":
            assert block.mark.startswith("once: "), f"{name(page)}: {block.text[:60]}"
        assert block.language in ("", "console", "python", "toml", "text", "yaml") or block.language.startswith("{"), (
            block.language
        )
        before = block


def test_what_pages_name_and_do_not_run_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for words in (line.split() for block in programs(page) for line in block.commands if line.startswith(NOT_RUN)):
            if words[0] == "make":
                assert re.search(rf"^{words[1]}:", makefile, flags=re.MULTILINE), words
            for extra in re.findall(r"\[(\w+)\]", words[-1] if words[0] == "pip" else ""):
                assert extra in PROJECT["optional-dependencies"], words
        for file in re.findall(r"`(?:python )?(tests/[\w/]+\.py)", page.read_text()):
            if page not in DECISIONS:  # their paths are those of their day
                assert (ROOT / file).exists(), f"{name(page)}: {file}"


def commands() -> list[str]:
    help_text = run_here(["--help"], ROOT)
    return re.findall(r"^  (\w+)  +[A-Z]", help_text.partition("Commands:")[2], flags=re.MULTILINE)


def test_every_command_has_a_page_that_the_index_and_the_help_lead_to(tmp_path: Path) -> None:
    found = commands()
    assert {"plan", "frontier", "measure", "plugins"} <= set(found)
    for command in found:
        page = (DOCS / f"{command}.md").read_text()
        assert f"s2search {command}" in page
        assert f"{{command-help}} {command}" in page
        assert f"]({command}.md)" in (DOCS / "index.md").read_text()


def test_every_subcommand_prints_its_options_on_a_page() -> None:
    pages = "".join(page.read_text() for page in DOCS.glob("*.md"))
    for command in ("plan", "table", "kit"):
        for sub in re.findall(
            r"^  (\w+)  +[A-Z]", run_here([command, "--help"], ROOT).partition("Commands:")[2], re.MULTILINE
        ):
            assert f"{{command-help}} {command} {sub}\n" in pages


MEMBERS = {
    "solvers": "plan",
    "latency_models": "transfer",
    "readers": "table",
    "profilers": "measure",
    "exporters": "export",
    "codecs": "stream",
    "texts": "stream",
    "qualities": "quality",
    "teachers": "cache",
    "trainers": "train",
}


@pytest.mark.parametrize(("family", "page"), MEMBERS.items())
def test_a_page_names_every_member_of_its_family(family: str, page: str) -> None:
    text = (DOCS / f"{page}.md").read_text()
    for member in registry.installed(family):
        assert re.search(rf"`{member}[`\[]|\| [^|]*\b{member}\b[^|]* \|", text), (
            f"docs/{page}.md does not name {member}"
        )


def test_pages_name_every_table_family_check_and_schema() -> None:
    table, plugin, verify, versions = (
        (DOCS / page).read_text() for page in ("table.md", "extend/plugin.md", "verify.md", "extend/versions.md")
    )
    assert not [found for found in installed_tables() if f"`{found}`" not in table]
    assert not [family for family in registry.FAMILIES if f"`s2search.{family}`" not in plugin]
    assert not [check.name for check in CHECKS if f"| `{check.name}` |" not in verify]
    code = "".join(path.read_text() for path in (ROOT / "s2search").rglob("*.py"))
    assert set(re.findall(r"s2search\.\w+/\d", code)) == set(
        re.findall(r"^\| `(s2search\.\w+/\d)`", versions, re.MULTILINE)
    )


def test_the_readme_is_short_and_begins_with_two_commands_and_their_answer() -> None:
    assert len(README.encode()) <= 12_000
    first, answer, *_ = blocks(ROOT / "README.md")
    assert first.commands == ["pip install .", "s2search plan --budget 10fps"]
    assert answer.mark == "prints"


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target, _, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(#([^)\s]+))?\)", text):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{name(page)}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), flags=re.MULTILINE)
            assert anchor in map(slug, headings), f"{name(page)}: {target}#{anchor}"


def test_the_index_of_decisions_has_every_entry_once_newest_first() -> None:
    stated = re.findall(
        r"^- (\d{4}-\d\d-\d\d) \[(.*)\]\(([\w.]+)#(.*)\)$", (DOCS / "decisions/index.md").read_text(), re.MULTILINE
    )
    found = []
    for page in DECISIONS:
        entries = re.findall(r"^## (.*)\n\n\*(\d{4}-\d\d-\d\d)(?: · superseded .*)?\*$", page.read_text(), re.MULTILINE)
        assert len(entries) == len(re.findall(r"^## ", page.read_text(), re.MULTILINE)), (
            f"{name(page)}: an entry without a date"
        )
        assert [date for _, date in entries] == sorted((date for _, date in entries), reverse=True), name(page)
        found += [(date, title, page.name, slug(title)) for title, date in entries]
    assert sorted(stated) == sorted(found)


def test_code_points_to_decisions_that_exist() -> None:
    pointers = []
    for path in [*(ROOT / "s2search").rglob("*.py"), *(ROOT / "blocks").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        pointers += re.findall(r"docs/decisions/([a-z]+)\.md(?:,\s+\"(.*?)\"\.)?", path.read_text())
    assert len(pointers) >= 20
    for page, title in pointers:
        text = (DOCS / f"decisions/{page}.md").read_text()
        assert not title or f"\n## {title}\n" in text, f"docs/decisions/{page}.md has no entry {title!r}"


def test_the_citation_names_the_release_and_the_paper() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {PROJECT['version']}\n" in citation
    assert "arXiv:2601.12719" in citation


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_stored_as_it_ran(notebook: Path) -> None:
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
