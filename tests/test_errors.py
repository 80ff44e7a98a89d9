from __future__ import annotations

from s2search.errors import InputError


def test_a_line_is_cut_in_its_middle_so_that_problem_and_remedy_stay() -> None:
    error = InputError(f"the name {'x' * 100_000!r} is wrong", allowed="y", remedy="take y")
    assert len(str(error)) < 4000
    assert str(error).startswith("the name 'xxx")
    assert str(error).endswith("is wrong; y; take y")
    assert len(error.problem) > 100_000


def test_a_line_of_ordinary_length_is_whole() -> None:
    line = str(InputError("a" * 3000, remedy="b"))
    assert line == "a" * 3000 + "; b"
