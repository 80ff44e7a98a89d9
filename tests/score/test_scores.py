from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from s2search.errors import InputError, ScoreError
from s2search.planner.evidence import scored
from s2search.score.file import ScoreFile, open_score
from s2search.score.published import Published
from s2search.space import Space
from s2search.testing.scores import check_score

SPACE = Space.parse("lcha,ssa", depth=4)


def write(folder: Path, scores: object, **other: object) -> Path:
    path = folder / "score.json"
    content = {"schema": "s2search.score/1", "name": "mine", "statement": "made up for a test", "scores": scores}
    path.write_text(json.dumps({**content, **other}))
    return path


def test_a_model_of_one_type_scores_minus_its_published_loss() -> None:
    """Source: S2DiT, table 3."""
    space = Space.parse("full,kv_compressed,lcha,ssa", depth=28)
    assert Published().score_LC(space).sum(axis=0) == pytest.approx([-0.252, -0.255, -0.259, -0.269])


def test_built_in_scores_pass_the_conformance_suite(tmp_path: Path) -> None:
    check_score(Published(), SPACE)
    check_score(open_score(str(write(tmp_path, {"lcha": [1, 2, 3, 4], "ssa": 0.5}))), SPACE)


def test_a_file_may_depend_on_the_position_or_not(tmp_path: Path) -> None:
    score = ScoreFile.load(write(tmp_path, {"lcha": [1, 2, 3, 4], "ssa": 0.5}))
    assert np.array_equal(score.score_LC(SPACE), [[1, 0.5], [2, 0.5], [3, 0.5], [4, 0.5]])


def test_a_score_never_takes_a_missing_value_for_zero(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="no value for 'ssa'; it has: lcha"):
        ScoreFile.load(write(tmp_path, {"lcha": 1.0})).score_LC(SPACE)
    with pytest.raises(ScoreError, match=r"no value for 'lcha\[gate=false\]'"):
        Published().score_LC(Space.parse("lcha[gate=false]", depth=4))


@pytest.mark.parametrize(
    ("scores", "other", "complaint"),
    [
        ({"lcha": [1, 2], "ssa": 1}, {}, "gives 2 layers for 'lcha', the plan has 4"),
        ({"lcha": "high", "ssa": 1}, {}, "is not a score of schema"),
        ({"lcha": 1, "ssa": 1}, {"schema": "s2search.score/9"}, "s2search.score/9"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, scores: object, other: dict[str, object], complaint: str) -> None:
    with pytest.raises(ScoreError, match=complaint):
        ScoreFile.load(write(tmp_path, scores, **other)).score_LC(SPACE)


def test_a_value_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ScoreError, match="the score of 'lcha' is nan"):
        ScoreFile(schema="s2search.score/1", name="mine", statement="made up", scores={"lcha": [1.0, float("nan")]})


def test_null_forbids_a_block_at_a_layer(tmp_path: Path) -> None:
    score = ScoreFile.load(write(tmp_path, {"lcha": [None, 2, 3, 4], "ssa": 0.5}))
    check_score(score, SPACE)
    score_LC, allowed_LC = scored(SPACE, score)
    assert allowed_LC.tolist() == [[False, True], [True, True], [True, True], [True, True]]
    assert score_LC[0].tolist() == [0.5, 0.5]
    none = ScoreFile.load(write(tmp_path, {"lcha": None, "ssa": [1, 2, None, 4]}))
    with pytest.raises(ScoreError, match=r"score.json' forbids every block at layer 2; a number for at least one"):
        scored(SPACE, none)
    grouped = Space.parse("lcha,ssa", depth=4, group_size=2)
    mixed = ScoreFile.load(write(tmp_path, {"lcha": [1, 2, None, 4], "ssa": [1, 2, 3, None]}))
    with pytest.raises(ScoreError, match="forbids every block at layers 2 to 3"):
        scored(grouped, mixed)


def test_a_score_too_large_names_file_block_layer_and_the_most(tmp_path: Path) -> None:
    score = ScoreFile.load(write(tmp_path, {"lcha": [1, 2, -1e6, 4], "ssa": 0.5}))
    with pytest.raises(
        ScoreError,
        match=r"score.json' gives 'lcha' at layer 2 the score -1e\+06; numbers up to 281,474 at 4 layers.*null",
    ):
        scored(SPACE, score)
    for value in (281_474, -281_474):
        scored(SPACE, ScoreFile.load(write(tmp_path, {"lcha": [1, 2, value, 4], "ssa": 0.5})))


def test_a_byte_order_mark_an_empty_file_and_a_newer_schema(tmp_path: Path) -> None:
    path = write(tmp_path, {"lcha": 1})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert ScoreFile.load(path).scores == {"lcha": 1}
    path.write_bytes(b"\xef\xbb\xbf")
    with pytest.raises(ScoreError, match=r"score.json' is not a score.*it is empty"):
        ScoreFile.load(path)
    write(tmp_path, {"lcha": 1}, schema="s2search.score/2")
    with pytest.raises(ScoreError, match=r"made by a newer s2search, its schema is 's2search.score/2'"):
        ScoreFile.load(path)
    with pytest.raises(ScoreError, match="Is a directory"):
        open_score(str(tmp_path))


def test_a_score_file_has_one_digest_wherever_it_lies(tmp_path):
    content = '{"schema": "s2search.score/1", "name": "mine", "statement": "made up", "scores": {"lcha": 1.0}}'
    (tmp_path / "one.json").write_text(content)
    (tmp_path / "two.json").write_text(content)
    one, two = (open_score(str(tmp_path / name)) for name in ("one.json", "two.json"))
    assert one.digest == two.digest


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"], ids=["too long", "a null"])
def test_a_name_that_no_file_can_have_is_refused_as_a_name(name: str) -> None:
    with pytest.raises(InputError):
        open_score(name)
