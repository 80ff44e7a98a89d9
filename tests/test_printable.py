"""Nothing that a stranger wrote moves a terminal's cursor."""

from __future__ import annotations

import io
import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Group
from rich.table import Table
from rich.text import Text

from s2search.border.printable import printable, printable_json
from s2search.errors import InputError
from s2search.reporting.console import PrintableConsole
from tests.command import run_here

ESCAPES = "\x1b[2J\x1b]0;title\x07\x9b1A\rover\x7f\u202etxt.exe\u2066\u2028"


def harmful(text: str) -> bool:
    return printable(text) != text


def test_of_all_characters_just_those_that_move_a_cursor_or_turn_text_around_are_replaced():
    turns = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    marks = "\u061c\u200e\u200f"  # Arabic letter mark, and those from left to right and from right to left
    for character in map(chr, range(sys.maxunicode + 1)):
        moves = unicodedata.category(character) in ("Cc", "Zl", "Zp") and character not in "\t\n"
        assert harmful(character) == (moves or unicodedata.bidirectional(character) in turns or character in marks)


def shown(renderable, **options) -> str:
    file = io.StringIO()
    PrintableConsole(file=file, width=80, markup=False, highlight=False, **options).print(renderable)
    return file.getvalue()


def test_no_text_reaches_a_terminal_with_what_moves_its_cursor():
    grid = Table(title=ESCAPES)
    grid.add_column(ESCAPES)
    grid.add_row(ESCAPES)
    grid.add_row(Text(ESCAPES, style="bold red"))
    text = shown(Group(ESCAPES, grid, Text(ESCAPES)))
    assert "title" in text
    assert not harmful(text)
    coloured = shown(Text("red", style="red"), force_terminal=True, color_system="standard")
    assert "\x1b[31mred" in coloured


def test_an_error_is_one_line_without_escape_sequences():
    line = str(InputError(f"the name {ESCAPES}", remedy=ESCAPES))
    assert not harmful(line)
    assert len(line.splitlines()) == 1


@given(st.dictionaries(st.text(), st.text()))
def test_json_keeps_its_value(value):
    text = json.dumps(value, ensure_ascii=False)
    assert json.loads(printable_json(text)) == value
    assert not harmful(printable_json(text))


@pytest.mark.parametrize("option", ["--table", "--score"])
def test_a_command_shows_a_name_with_escapes_as_text(option, tmp_path):
    done = run_here(["plan", option, "\x1b[31mred\x9b"], tmp_path)
    assert done.code == 2
    assert not harmful(done.err)
    assert "[31mred" in done.err
