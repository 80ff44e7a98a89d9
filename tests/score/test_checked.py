"""A measured score with its check: pairs of layers count where they were shown to predict better."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.stats import spearmanr

import s2search
from s2search.document import read_json
from s2search.errors import InputError, ScoreError
from s2search.score.check import Predictor, ScoreCheck
from s2search.score.checked import CheckedScore
from s2search.score.measured import MeasuredScore
from s2search.space import Space
from s2search.testing.scores import check_score
from tests.command import Outcome

SCORES = Path(__file__).parents[2] / "notebooks/scores"
TABLE = {"table": "iphone-16-pro-max", "candidates": "lcha,ssa"}


@pytest.fixture(scope="module")
def measured() -> MeasuredScore:
    return MeasuredScore.load(SCORES / "doom.score.json")


@pytest.fixture(scope="module")
def check() -> ScoreCheck:
    return read_json(SCORES / "doom.check.json", ScoreCheck, what="check")


def turned(check: ScoreCheck, **ranks: float) -> ScoreCheck:
    """The check, had some predictors ranked otherwise."""
    predictors = [dict(msgspec.to_builtins(one)) for one in check.predictors]
    for one in predictors:
        one["rank"] = ranks.get(one["name"].replace(" ", "_"), one["rank"])
    return dataclasses.replace(check, predictors=msgspec.convert(predictors, tuple[Predictor, ...]))


def test_a_layout_scores_what_the_check_predicted_with_pairs(measured: MeasuredScore, check: ScoreCheck) -> None:
    score, space = CheckedScore(measured=measured, check=check), Space.parse("lcha,ssa", depth=6)
    check_score(score, space)
    score_LC, pair_LCC = score.score_LC(space), score.pair_score_LCC(space)
    assert pair_LCC is not None
    for one in check.layouts:
        choice_L = [("lcha", "ssa").index(label) for label in one.layout]
        found = sum(score_LC[layer, c] for layer, c in enumerate(choice_L))
        assert -found == pytest.approx(one.additive)
        found += sum(pair_LCC[layer, choice_L[layer - 1], choice_L[layer]] for layer in range(1, 6))
        assert -found == pytest.approx(one.with_pairs)
    assert not pair_LCC[:, 0].any()  # of the high stream nothing was measured: its layers are the model's own
    assert not pair_LCC[:, :, 0].any()


def test_a_plan_counts_pairs_where_they_predicted_better(check: ScoreCheck) -> None:
    """Without them it puts three low layers in a run, which trains worse; with them it does not."""
    asked: dict[str, Any] = {**TABLE, "depth": 6, "budget": "65ms", "score": SCORES / "doom.score.json"}
    plain, plan = s2search.plan(**asked), s2search.plan(**asked, score_check=SCORES / "doom.check.json")
    assert plain.written == min(check.layouts, key=lambda one: one.additive).written == "L2S3L"
    best = min(check.layouts, key=lambda one: one.with_pairs or 0.0)
    assert (plan.written, plan.score) == (best.written, pytest.approx(-(best.with_pairs or 0.0)))
    tuned = {one.written: one.tuned for one in check.layouts}
    assert tuned[plan.written] < tuned[plain.written]
    assert plan.provenance.score_label == "measured with pairs"
    assert plan.provenance.score_digest != plain.provenance.score_digest
    assert "with pairs of layers it orders 20 layouts" in " ".join(str(plan).split())
    for solver in ("milp", "exhaustive"):
        assert s2search.plan(**asked, score_check=check, solver=solver).score == plan.score
    given = s2search.price(plain.written, **asked, score_check=check)
    assert given.score == pytest.approx(-next(one.with_pairs or 0 for one in check.layouts if one.written == "L2S3L"))
    assert given.upper_bound == plan.score
    front = s2search.frontier(**{**asked, "budget": ()}, score_check=check)
    assert front.at(latency="65ms").written == plan.written
    assert {change.name for change in plain.diff(plan).inputs} == {"score"}


def test_among_ties_a_score_with_pairs_chooses_by_them(check: ScoreCheck) -> None:
    asked: dict[str, Any] = {**TABLE, "depth": 6, "budget": "65ms", "tie_score": SCORES / "doom.score.json"}
    plain, plan = s2search.plan(**asked), s2search.plan(**asked, score_check=check)
    assert (plain.counts, plain.ties) == (plan.counts, plan.ties) == ({"lcha": 3, "ssa": 3}, 20)
    best = min(check.layouts, key=lambda one: one.with_pairs or 0.0)
    assert (plain.written, plan.written) == ("L2S3L", best.written)
    assert plan.tie_score is not None
    assert plan.tie_score.score == pytest.approx(-(best.with_pairs or 0.0))


def test_pairs_that_did_not_predict_better_do_not_count(measured: MeasuredScore, check: ScoreCheck) -> None:
    worse = turned(check, with_pairs=0.7)
    score, space = CheckedScore(measured=measured, check=worse), Space.parse("lcha,ssa", depth=6)
    assert score.pair_score_LCC(space) is None
    assert (score.name, score.digest) == (measured.name, measured.digest)
    assert "pairs of layers do not count: .70 (.74 to .98) with them" in score.statement
    unsure = dataclasses.replace(
        check,
        predictors=tuple(
            msgspec.structs.replace(one, low=0.4) if one.name == "with pairs" else one for one in check.predictors
        ),
    )
    assert not unsure.pairs_predict_better


def test_a_score_passes_by_what_it_predicts_with(check: ScoreCheck) -> None:
    by = {one.name: one for one in check.predictors}
    assert by["additive"].rank < by["begins low"].rank < by["with pairs"].rank
    assert by["with pairs, high first"].rank > 0 > by["additive, high first"].rank
    assert check.passed
    for ranks, why in (
        ({"with_pairs": 0.86}, "the rule 'begins low' has .87"),
        ({"with_pairs": 0.8699}, "the rule 'begins low' has .87"),  # as good, at what is printed
        (
            {"with_pairs": 0.79, "additive": 0.5, "begins_low": 0.5, "early_low": 0.5},
            "its rank is .79, and .80 is wanted",
        ),
        ({"with_pairs,_high_first": -0.1}, "those that begin high come in the reverse order (-.10)"),
    ):
        assert turned(check, **ranks).shortfalls == (why,)
    assert dataclasses.replace(check, predictors=()).shortfalls == ("nothing is predicted",)


@pytest.mark.parametrize("name", ["doom", "doom64", "shapes"])
def test_judged_on_its_own_layouts_a_score_is_as_it_was_checked(name: str) -> None:
    check = ScoreCheck.load(SCORES / f"{name}.check.json")
    again = s2search.score_judge(SCORES / f"{name}.score.json", check)
    assert [one.name for one in again.predictors] == [one.name for one in check.predictors]
    for one, other in zip(again.predictors, check.predictors, strict=True):
        assert (one.rank, one.low, one.high) == pytest.approx((other.rank, other.low, other.high))
    for layout, before in zip(again.layouts, check.layouts, strict=True):
        assert layout.additive == pytest.approx(before.additive)
        assert layout.with_pairs == pytest.approx(before.with_pairs)
    assert again.passed == check.passed


def test_no_way_of_counting_passes_at_both_widths(tmp_path: Path, s2search: Callable[..., Outcome]) -> None:
    """Why no such score orders the ties of `published` by default: see docs/score.md."""
    passed: dict[tuple[str, bool], dict[str, bool]] = {}
    models = "doom", "doom64", "shapes"
    for name, other in itertools.product(models, repeat=2):
        files = SCORES / f"{name}.score.json", SCORES / f"{other}.check.json"
        done = s2search("score", "judge", *map(str, files), "--out", str(tmp_path / "judged.json"))
        judged = ScoreCheck.load(tmp_path / "judged.json")
        assert done.code == (0 if judged.passed else 1)
        assert ("does not order layouts surely enough" in done.out) == (not judged.passed)
        CheckedScore(measured=MeasuredScore.load(files[0]), check=judged)  # it is of this score now
        for pairs in (False, True):
            one = turned(judged, additive=-1.0) if pairs else turned(judged, with_pairs=-1.0)
            assert one.pairs_predict_better == pairs
            passed.setdefault((name, pairs), {})[other] = one.passed
    narrow_and_wide = {key: (on["doom64"] or on["shapes"], on["doom"]) for key, on in passed.items()}
    assert (True, True) not in narrow_and_wide.values()
    assert narrow_and_wide["doom", True] == (False, True)
    assert all(narrow for (name, _), (narrow, _) in narrow_and_wide.items() if name != "doom")
    checks = [ScoreCheck.load(SCORES / f"{name}.check.json") for name in models]
    tuned = [{one.written: one.tuned for one in check.layouts if one.layout[0] == "lcha"} for check in checks]
    wide_L, narrow_L = ([of[key] for key in tuned[0]] for of in tuned[:2])
    assert spearmanr(wide_L, narrow_L).statistic < 0  # of one data set


@pytest.mark.parametrize(
    ("score", "check", "problem"),
    [
        ("no.json", "doom.check.json", "cannot be read"),
        ("doom.check.json", "doom.check.json", "is not a score of schema"),
        ("doom.score.json", "doom.score.json", "is not a check of a score"),
    ],
)
def test_what_cannot_be_judged_is_one_line(score: str, check: str, problem: str) -> None:
    with pytest.raises(ScoreError, match=problem):
        s2search.score_judge(SCORES / score, SCORES / check)


def edited(**changes: Any) -> dict[str, Any]:
    """The content of a check with other fields; `question` and `layout` change one inside."""
    content: dict[str, Any] = json.loads((SCORES / "doom.check.json").read_text())
    content["question"] |= changes.pop("question", {})
    content["layouts"][0] |= changes.pop("layout", {})
    content["predictors"][0] |= changes.pop("predictor", {})
    return content | changes


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"question": {"low": "nosuch", "low_layers": -4}}, "has the layout"),
        ({"layout": {"layout": ["lcha", "ssa", "lcha", "ssa", "ssa"]}}, "different depths"),
        ({"layout": {"layout": ["lcha"] * 6}}, "has the layout lcha-lcha"),
        ({"layouts": []}, "has 0 layouts; 2 to 1,000, each once"),
        ({"layouts": [json.loads((SCORES / "doom.check.json").read_text())["layouts"][0]] * 3}, "has 3 layouts"),
        ({"layout": {"tuned": 1e308}}, r"has the number 1e\+308"),
        ({"predictor": {"rank": 1e308}}, "has the predictor 'additive'"),
        ({"predictor": {"low": 0.9, "high": 0.1}}, "has the predictor 'additive'"),
        ({"predictor": {"name": "with pairs"}}, "has the predictor 'with pairs'"),
    ],
)
def test_a_check_that_contradicts_itself_is_one_line(tmp_path: Path, changes: Any, problem: str) -> None:
    (tmp_path / "check.json").write_text(json.dumps(edited(**changes)))
    with pytest.raises(ScoreError, match=problem) as raised:
        s2search.score_judge(SCORES / "doom.score.json", tmp_path / "check.json")
    assert len(str(raised.value)) < 400
    with pytest.raises(ScoreError):
        s2search.plan(score=SCORES / "doom.score.json", score_check=tmp_path / "check.json", **TABLE, depth=6)


def test_what_a_check_says_of_predictions_is_made_again(tmp_path: Path, check: ScoreCheck) -> None:
    """A stranger's file may claim ranks that its layouts do not have."""
    asked: dict[str, Any] = {**TABLE, "depth": 6, "budget": "65ms", "score": SCORES / "doom.score.json"}
    for predictors in ([], edited()["predictors"][:1]):
        (tmp_path / "check.json").write_text(json.dumps(edited(predictors=predictors)))
        plan = s2search.plan(**asked, score_check=tmp_path / "check.json")
        assert (plan.written, plan.provenance.score_label) == ("LSLSLS", "measured with pairs")
    worse = [msgspec.structs.replace(one, tuned=-one.tuned) for one in check.layouts]
    turned_round = dataclasses.replace(check, layouts=tuple(worse))
    assert s2search.plan(**asked, score_check=turned_round).provenance.score_label == "measured"


def test_a_plan_says_that_a_check_is_of_another_model() -> None:
    judged = s2search.score_judge(SCORES / "doom.score.json", SCORES / "shapes.check.json")
    asked: dict[str, Any] = {**TABLE, "depth": 6, "budget": "65ms", "score": SCORES / "doom.score.json"}
    assert "20 layouts of another model that were trained" in " ".join(
        str(s2search.plan(**asked, score_check=judged)).split()
    )
    front = " ".join(str(s2search.frontier(**{**asked, "budget": ()}, score_check=judged)).split())
    assert "score measured: held-out loss of a model of 6 layers" in front


@pytest.mark.parametrize(
    "run",
    [
        {"first": 9},
        {"layers": 1},
        {"layers": 7},
        {"candidate": "full"},
        {"first": 1},  # twice
    ],
)
def test_a_run_that_cannot_be_is_refused(measured: MeasuredScore, run: dict[str, Any]) -> None:
    other = msgspec.structs.replace(measured.runs[0], **run)
    with pytest.raises(ScoreError, match="has a run of"):
        dataclasses.replace(measured, runs=[other, *measured.runs[1:]])


def test_a_judgement_does_not_overwrite_what_it_judges(tmp_path: Path, s2search: Callable[..., Outcome]) -> None:
    for name in ("doom.score.json", "doom.check.json"):
        shutil.copy(SCORES / name, tmp_path / name)
    files = [str(tmp_path / name) for name in ("doom.score.json", "doom.check.json")]
    for out in files:
        before = Path(out).read_bytes()
        done = s2search("score", "judge", *files, "--out", out)
        assert (done.code, len(done.err.splitlines())) == (2, 1)
        assert "would overwrite what is judged" in done.err
        assert Path(out).read_bytes() == before


def test_the_check_of_a_score_that_a_command_does_not_ask_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s2search: Callable[..., Outcome]
) -> None:
    """A front has no ties to choose among, and the command line may ask for another score than the project file."""
    monkeypatch.chdir(tmp_path)
    both = f'= "{SCORES}/doom.score.json"\nscore_check = "{SCORES}/doom.check.json"\n'
    Path("s2search.toml").write_text(f'depth = 6\ncandidates = "lcha,ssa"\ntie_score {both}')
    assert s2search("plan", "--budget", "65ms").code == 0
    assert s2search("frontier", "--points", "3").code == 0
    Path("s2search.toml").write_text(f'depth = 6\ncandidates = "lcha,ssa"\nscore {both}')
    assert "measured with pairs" in s2search("plan", "--budget", "65ms").out
    assert "measured with pairs" in s2search("frontier", "--points", "3").out
    assert s2search("plan", "--budget", "65ms", "--score", "published").code == 0


def test_pairs_of_a_candidate_that_was_not_checked_do_not_count(measured: MeasuredScore, check: ScoreCheck) -> None:
    lcha, ssa = Space.parse("lcha,ssa", depth=6).candidates
    other = type("Other", (type(ssa),), {"name": "other"})()
    both = dataclasses.replace(measured, values={**measured.values, "other": measured.values["ssa"]})
    question = msgspec.structs.replace(check.question, score=both.digest)
    score = CheckedScore(measured=both, check=dataclasses.replace(check, question=question))
    with pytest.raises(ScoreError, match="the check is of pairs of 'ssa', and the low candidate is 'other'"):
        score.pair_score_LCC(Space(candidates=(lcha, other), depth=6))
    assert score.pair_score_LCC(Space(candidates=(lcha,), depth=6)) is None


def test_a_score_without_the_candidates_of_the_layouts_is_refused(measured: MeasuredScore, check: ScoreCheck) -> None:
    without = {label: values for label, values in measured.values.items() if label != "ssa"}
    with pytest.raises(ScoreError, match="has no value for 'ssa'"):
        s2search.score_judge(dataclasses.replace(measured, values=without, runs=[]), check)


@pytest.mark.parametrize("depth", [2, 6, 11, 28])
def test_at_another_depth_a_low_model_has_the_same_pairs_in_all(
    measured: MeasuredScore, check: ScoreCheck, depth: int
) -> None:
    pair_LCC = CheckedScore(measured=measured, check=check).pair_score_LCC(Space.parse("lcha,ssa", depth=depth))
    assert pair_LCC is not None
    runs = measured.runs_of_two("ssa")
    single = [value.value for value in measured.values["ssa"]]
    beyond = [run.value - single[i] - single[i + 1] for i, run in enumerate(runs)]
    assert pair_LCC[1, 1, 1] * (depth - 1) == pytest.approx(beyond[0] * 5)  # the ends stay the ends
    if depth > 2:
        assert pair_LCC[-1, 1, 1] * (depth - 1) == pytest.approx(beyond[-1] * 5)
    if depth in (6, 11):
        assert pair_LCC.sum() == pytest.approx(sum(beyond), rel=0.35)


@pytest.mark.parametrize(("depth", "layout"), [(6, "LS3L2"), (6, "S6"), (28, "L4S8L4S8L4"), (9, "LSLSLSLSL")])
def test_the_error_of_a_layout_is_that_of_its_values_and_runs(
    measured: MeasuredScore, check: ScoreCheck, depth: int, layout: str
) -> None:
    """By the definition: every value and run is off by its error in turn, and the layout is scored again."""
    score, space = CheckedScore(measured=measured, check=check), Space.parse("lcha,ssa", depth=depth)
    choice_L, rng = space.parse_layout(layout), np.random.default_rng(0)

    def scored(values: Any, runs: Any) -> float:
        moved = dataclasses.replace(measured, values=values, runs=runs)
        score_LC, pair_LCC = moved.score_LC(space), moved.pairs_LCC(space)
        pairs = sum(pair_LCC[i, choice_L[i - 1], choice_L[i]] for i in range(1, depth))
        return float(score_LC[range(depth), choice_L].sum() + pairs)

    def off(value: Any) -> Any:
        return msgspec.structs.replace(value, value=value.value + value.error)

    known = scored(measured.values, measured.runs)
    moves = []
    for label, column in measured.values.items():
        for at, value in enumerate(column):
            moved = {**measured.values, label: [*column[:at], off(value), *column[at + 1 :]]}
            moves.append(scored(moved, measured.runs) - known)
    for at, run in enumerate(measured.runs):
        moved_run = msgspec.structs.replace(run, value=off(run.value))
        moves.append(scored(measured.values, [*measured.runs[:at], moved_run, *measured.runs[at + 1 :]]) - known)
    errors = score.errors(space)
    drawn = float(np.linalg.norm(moves))
    assert errors.of(choice_L) == pytest.approx(drawn, rel=1e-9)
    again = []
    for _ in range(3000):
        off_LC, off_LCC = errors.drawn(rng)
        assert off_LCC is not None
        pairs = sum(off_LCC[i, choice_L[i - 1], choice_L[i]] for i in range(1, depth))
        again.append(off_LC[range(depth), choice_L].sum() + pairs)
    assert np.std(again) == pytest.approx(drawn, rel=0.08)


def test_stability_is_that_of_layouts_priced_one_by_one(measured: MeasuredScore, check: ScoreCheck) -> None:
    asked: dict[str, Any] = {**TABLE, "depth": 5, "budget": "60ms", "score": SCORES / "doom.score.json"}
    one, other = (s2search.plan(**asked, score_check=check, solver=solver) for solver in ("dynamic", "exhaustive"))
    assert one.score_stability == other.score_stability
    assert one.score_error == other.score_error


def test_a_layout_is_as_unsure_as_the_runs_that_its_pairs_were_read_off(
    measured: MeasuredScore, check: ScoreCheck
) -> None:
    """Values without errors, and runs with large ones: only what pairs score can move the answer."""

    def stable(run_error: float) -> int:
        values = {
            label: [msgspec.structs.replace(value, error=0.0) for value in column]
            for label, column in measured.values.items()
        }
        runs = [
            msgspec.structs.replace(run, value=msgspec.structs.replace(run.value, error=run_error))
            for run in measured.runs
        ]
        score = dataclasses.replace(measured, values=values, runs=runs)
        question = msgspec.structs.replace(check.question, score=score.digest)
        asked: dict[str, Any] = {**TABLE, "depth": 6, "budget": "65ms", "score": score}
        plan = s2search.plan(**asked, score_check=dataclasses.replace(check, question=question))
        assert plan.score_stability is not None
        return plan.score_stability.layout

    assert stable(0.0) == 200
    assert stable(0.1) < 100


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"score": "published"},
            r"the check is of the score sha256:533391ba716a, and the score 'published' is sha256:",
        ),
        ({"score_check": "no.json"}, "'no.json' cannot be read"),
        ({"score_check": SCORES / "doom.score.json"}, "doom.score.json' is not a check of a score"),
    ],
)
def test_a_check_that_does_not_belong_is_one_line(changes: dict[str, Any], problem: str) -> None:
    asked: dict[str, Any] = {**TABLE, "depth": 6, "budget": "65ms", "score": SCORES / "doom.score.json"}
    with pytest.raises(InputError, match=problem):
        s2search.plan(**{**asked, "score_check": SCORES / "doom.check.json", **changes})


def test_pairs_of_two_low_candidates_were_not_measured(measured: MeasuredScore, check: ScoreCheck) -> None:
    lcha, ssa = Space.parse("lcha,ssa", depth=6).candidates
    other = type("Other", (type(ssa),), {"name": "other"})()
    two = Space(candidates=(lcha, ssa, other), depth=6)
    both = dataclasses.replace(measured, values={**measured.values, "other": measured.values["ssa"]})
    question = msgspec.structs.replace(check.question, score=both.digest)
    score = CheckedScore(measured=both, check=dataclasses.replace(check, question=question))
    with pytest.raises(ScoreError, match="pairs of 'ssa' and 'other' were not measured"):
        score.pair_score_LCC(two)
    bare = dataclasses.replace(measured, runs=measured.runs[:-1])
    question = msgspec.structs.replace(check.question, score=bare.digest)
    score = CheckedScore(measured=bare, check=dataclasses.replace(check, question=question))
    with pytest.raises(ScoreError, match="has 4 runs of two layers of 'ssa'; all 5"):
        score.pair_score_LCC(Space.parse("lcha,ssa", depth=6))
    with pytest.raises(ScoreError, match="the check is of the score"):
        CheckedScore(measured=bare, check=check)
