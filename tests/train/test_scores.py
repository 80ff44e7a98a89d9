"""Measured scores: a replaced block is what the static network of that layout has, and nothing is measured twice."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from rich.console import Console
from safetensors.torch import load_file

import s2search
from s2search.document import read_json
from s2search.errors import InputError, S2SearchError, ScoreError
from s2search.network.config import ModelConfig
from s2search.network.network import S2DiT
from s2search.planner.plan import Plan
from s2search.preset import Preset
from s2search.reporting.score import score_text
from s2search.score.base import ScoreErrors
from s2search.score.check import CheckQuestion, Compared, ScoreCheck
from s2search.score.file import open_score
from s2search.score.judge import additive, predictors, spearman, with_pairs
from s2search.score.measured import MeasuredScore, Value, resampled
from s2search.solver.dynamic import Dynamic
from s2search.solver.exhaustive import Exhaustive
from s2search.solver.problem import Problem
from s2search.solver.questions.score_errors import stability
from s2search.space import Space
from s2search.testing.problems import random_problem
from s2search.text.hashing import Hashing
from s2search.training import score_check, scores
from s2search.training.captions import Captions
from s2search.training.data.clips import Clips
from s2search.training.noisy import judged_by
from s2search.training.score_check import assembled
from s2search.training.scores import FrozenModel
from tests.train.ranks import free_port

SIZES = Preset(name="nano", depth=3, channels=16, heads=2, feed_forward=32, text_channels=8, text_tokens=6)
ASKED: dict[str, Any] = {
    "candidates": "full,lcha,ssa",
    "runs": (2,),
    "steps": (2, 4),
    "batch": 4,
    "samples": 8,
}


@pytest.fixture(autouse=True, scope="module")
def _alone(one_thread: None) -> None:
    """Every test here."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of full attention whose weights are all different, and clips."""
    folder = tmp_path_factory.mktemp("scores")
    s2search.data_make("shapes[count=10]", folder / "clips", video="48x32", frames=9, clips=2, held_out=0.3)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = S2DiT(ModelConfig.new(SIZES, ("full",) * 3, velocity="residual"))
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="module")
def measured(made: Path) -> MeasuredScore:
    return s2search.score_measure(made / "model", made / "clips", made / "out", **ASKED)


def with_candidate(made: Path, first: int, layers: int, label: str) -> S2DiT:
    """The static network whose layout has the candidate there, with the weights that were trained for it."""
    teacher = S2DiT.from_pretrained(made / "model")
    layout = list(teacher.config.layout)
    layout[first : first + layers] = [label] * layers
    network = S2DiT(ModelConfig.new(SIZES, tuple(layout), velocity="residual")).eval()
    weights = dict(teacher.state_dict())
    for layer in range(first, first + layers):
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith(f"layers.{layer}.")}
    for name, tensor in load_file(made / f"out/blocks/{first:03}-{layers}.{label}.safetensors").items():
        part, _, rest = name.partition(".")
        if part == "layers":
            number, _, rest = rest.partition(".")
            weights[f"layers.{first + int(number)}.{rest}"] = tensor
        else:
            weights[name] = tensor
    network.load_state_dict(weights)
    return network


@pytest.mark.parametrize(
    ("first", "layers", "label"), [(0, 1, "ssa"), (1, 1, "lcha"), (2, 1, "ssa"), (0, 2, "ssa"), (1, 2, "ssa")]
)
def test_a_value_is_what_the_static_network_of_that_layout_loses(
    made: Path, measured: MeasuredScore, first: int, layers: int, label: str
) -> None:
    clips, teacher = Clips.load(made / "clips"), S2DiT.from_pretrained(made / "model")
    sample = judged_by(clips, "held-out", range(8), 8, 3.0)
    text = Hashing(channels=8, tokens=6).load(torch.device("cpu"), torch.float32).encode(sample.captions)

    def losses(network: S2DiT) -> torch.Tensor:
        with torch.no_grad():
            off = network(sample.x_BCTYX, sample.s_B[:, None], text) - sample.v_BCTYX
        return off.square().flatten(1).mean(1).double()

    rise_N = losses(with_candidate(made, first, layers, label)) - losses(teacher)
    if layers == 1:
        value = measured.values[label][first]
    else:
        (value,) = (run.value for run in measured.runs if (run.first, run.candidate) == (first, label))
    assert value.value == pytest.approx(-float(rise_N.mean()), abs=1e-6)
    assert value.error == pytest.approx(float(rise_N.std()) / 8**0.5, abs=1e-6)
    assert value.error > 0


def test_a_model_loses_nothing_by_its_own_layer(measured: MeasuredScore) -> None:
    assert measured.values["full"] == [Value(value=0.0, error=0.0)] * 3
    assert all(value.earlier is not None for value in measured.values["ssa"])


def test_weights_of_equal_role_and_shape_are_taken_over(measured: MeasuredScore) -> None:
    lcha = measured.inherited["lcha"]
    assert {"table_6D", "attention.linear.query.weight", "cross_attention.key.weight", "attention.output.bias"} <= {
        *lcha
    }
    assert not any("local" in name or "feature_map" in name or "gate" in name for name in lcha)
    assert "attention.value.weight" in measured.inherited["ssa"]


def test_what_is_taken_over_is_equal_and_the_rest_is_left(made: Path) -> None:
    own = S2DiT.from_pretrained(made / "model").layers[1]
    layer = S2DiT(ModelConfig.new(SIZES, ("lcha",) * 3)).layers[1]
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    taken = scores.inherit(layer, own)
    after, there = layer.state_dict(), own.state_dict()
    for name, tensor in after.items():
        expected = there[name.replace(".linear.", ".")] if name in taken else before[name]
        assert torch.equal(tensor, expected), name
    assert not torch.equal(after["attention.linear.key.weight"], before["attention.linear.key.weight"])


@pytest.mark.slow
def test_training_longer_brings_a_candidate_nearer(made: Path, tmp_path: Path) -> None:
    asked = ASKED | {"steps": (1, 60), "candidates": "ssa", "runs": (), "samples": 16}
    found = s2search.score_measure(made / "model", made / "clips", tmp_path / "out", **asked)
    # Of a model with random weights, what differs from it may well be better; but training comes nearer.
    assert all(abs(value.value) < abs(value.earlier or 0.0) for value in found.values["ssa"])


class Killed(BaseException):
    """In place of a kill."""


def test_a_measurement_that_was_killed_goes_on_and_is_the_same(
    made: Path, measured: MeasuredScore, tmp_path: Path
) -> None:
    clips, model = Clips.load(made / "clips"), S2DiT.from_pretrained(made / "model").requires_grad_(False)
    captions = Captions(Hashing(channels=8, tokens=6), torch.device("cpu"), torch.float32)
    teacher = FrozenModel(model=model, clips=clips, captions=captions)
    question = scores.Question(
        model=model.weights_digest(),
        config=model.config.digest,
        data=clips.digest,
        text="hashing[channels=8,tokens=6]",
        candidates=("full", "lcha", "ssa"),
        runs=(2,),
        steps=(2, 4),
        batch=4,
        samples=8,
    )
    for end in (1, 3):

        def progress(done: int, total: int, label: str, end: int = end) -> None:
            if done == end:
                raise Killed

        with pytest.raises(Killed):
            scores.measure(teacher, question, tmp_path, progress=progress)
        assert len((tmp_path / "layers.jsonl").read_text().splitlines()) == 1 + end
    scores.measure(teacher, question, tmp_path)
    assert (tmp_path / "score.json").read_text() == (made / "out/score.json").read_text()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"steps": (5, 4)}, "steps are 5 and 4"),
        ({"candidates": "lcha,lhca"}, "no block is called 'lhca'"),
        ({"candidates": "lcha", "runs": (2,)}, "runs are of low candidates, and there is none"),
        ({"runs": (1,)}, "a run of 1 layers"),
        ({"samples": 1}, "samples is 1"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"text": "hashing[channels=9]"}, "have 9 channels, and the model reads 8"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_questions_are_one_line(made: Path, tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError) as error:
        s2search.score_measure(made / "model", made / "clips", tmp_path / "out", **(ASKED | changes))
    assert problem in str(error.value)


def test_another_question_in_the_same_folder_is_refused(made: Path, measured: MeasuredScore) -> None:
    with pytest.raises(InputError, match="belongs to another measurement of scores: samples is 8 there and 9 here"):
        s2search.score_measure(made / "model", made / "clips", made / "out", **(ASKED | {"samples": 9}))


def test_a_model_with_low_layers_is_no_measure(made: Path, tmp_path: Path) -> None:
    S2DiT(ModelConfig.new(SIZES, ("full", "ssa", "full"))).save_pretrained(tmp_path / "mixed")
    with pytest.raises(InputError, match="the model has 'ssa', which runs in the low stream"):
        s2search.score_measure(tmp_path / "mixed", made / "clips", tmp_path / "out", **ASKED)


def test_the_file_is_read_as_it_was_written_and_plans(made: Path, measured: MeasuredScore) -> None:
    found = open_score(str(made / "out/score.json"))
    assert isinstance(found, MeasuredScore)
    assert found == measured
    assert found.digest == measured.digest
    plan = s2search.plan("iphone-16-pro-max", budget="400ms", candidates="lcha,ssa", score=str(made / "out/score.json"))
    assert plan.provenance.score_digest == measured.digest
    stable = plan.score_stability
    assert stable is not None
    assert stable.draws == 200
    assert len(stable.layers) == plan.depth
    assert stable.layout <= min(stable.layers)
    told = s2search.plan("iphone-16-pro-max", budget="400ms", candidates="lcha,ssa")
    assert (told.score_stability, told.score_error) == (None, None)


def test_another_score_chooses_among_the_layouts_that_tie(tmp_path: Path) -> None:
    """By the published score they all tie; here a low first layer costs most, then a low one in the middle."""
    values = {"lcha": [{"value": 0.0, "error": 0.01}] * 3}
    values["ssa"] = [{"value": value, "error": 0.02} for value in (-0.9, -0.5, -0.1)]
    score = score_of(values=values, depth=3)
    (tmp_path / "s.json").write_text(json.dumps(score))
    asked: dict[str, Any] = {"table": "iphone-16-pro-max", "depth": 3, "budget": "40ms"}
    plain, plan = s2search.plan(**asked), s2search.plan(**asked, tie_score=tmp_path / "s.json")
    assert (plan.score, plan.ties, plan.counts) == (plain.score, 3, {"lcha": 2, "ssa": 1})
    assert (plain.written, plan.written) == ("LSL", "L2S")
    assert plan.tie_break == "scored"
    assert plan.tie_score is not None
    assert plan.tie_score.score == pytest.approx(-0.1)
    assert plan.tie_score.error == pytest.approx((2 * 0.01**2 + 0.02**2) ** 0.5)
    printed = " ".join(str(plan).split())
    assert "shown is the best of them by another score mine -0.100000 +- 0.024495: made up" in printed
    near = s2search.plan(**asked, like=plain, max_changes=2, tie_score=tmp_path / "s.json")
    assert (near.written, near.tie_break) == ("LSL", "fewest changes")
    assert near.tie_score is not None
    plan.save(tmp_path / "p.json")
    assert Plan.load(tmp_path / "p.json").digest == plan.digest != plain.digest
    with pytest.raises(ScoreError, match="has no value for 'kv_compressed'"):
        s2search.plan(**asked, candidates="lcha,ssa,kv_compressed", tie_score=tmp_path / "s.json")
    with pytest.raises(InputError, match="--tie-score chooses among layouts, and --layout gives one"):
        s2search.plan(**asked, layout="LSL", tie_score=tmp_path / "s.json")
    (change,) = plain.diff(plan).inputs
    assert (change.name, change.before) == ("tie score", "none")


def written(folder: Path, scores: Any) -> Path:
    content = {"schema": "s2search.score/1", "name": "mine", "statement": "made up", "scores": scores}
    (folder / "own.json").write_text(json.dumps(content))
    return folder / "own.json"


def test_a_score_that_chooses_among_ties_is_as_exact_as_the_one_that_is_searched_by(tmp_path: Path) -> None:
    """A number of millions beside others of thousandths hides none of them, or is refused."""
    asked: dict[str, Any] = {"table": "iphone-16-pro-max", "budget": "260ms"}
    small = [0.001 * layer for layer in range(28)]
    one, other = (
        s2search.plan(**asked, tie_score=written(tmp_path, {"lcha": [first, *small[1:]], "ssa": 0.0}))
        for first in (-1e4, 0.0)
    )
    assert one.tie_score is not None
    assert other.tie_score is not None
    assert (
        (one.written, one.tie_score.score) == (other.written, other.tie_score.score) == ("S16L12", pytest.approx(0.258))
    )
    with pytest.raises(S2SearchError, match="whose sum is not exact"):
        s2search.plan(**asked, tie_score=written(tmp_path, {"lcha": [-1e9, *small[1:]], "ssa": 0.0}))
    with pytest.raises(ScoreError, match="forbids 'lcha' at layer 0, and it only chooses among ties"):
        s2search.plan(**asked, tie_score=written(tmp_path, {"lcha": None, "ssa": [0.1] * 28}))


def test_a_journal_with_other_candidates_is_refused_before_anything_is_measured(made: Path, tmp_path: Path) -> None:
    s2search.score_measure(made / "model", made / "clips", tmp_path / "out", **ASKED)
    journal = tmp_path / "out/layers.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([lines[0], lines[1].replace('"ssa":', '"sss":'), *lines[3:]]))
    with pytest.raises(InputError, match="has candidates at layer 0 that were not asked for, or lacks some"):
        s2search.score_measure(made / "model", made / "clips", tmp_path / "out", **ASKED)
    assert len(journal.read_text().splitlines()) == len(lines) - 1


@pytest.mark.parametrize(
    ("device", "problem"), [("meta", "on the device 'meta'; cpu, cuda"), ("warp", "no device 'warp'; cpu, cuda")]
)
def test_a_device_that_is_none_is_one_line(made: Path, tmp_path: Path, device: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        s2search.score_measure(made / "model", made / "clips", tmp_path / "out", **ASKED, device=device)


def test_only_the_first_of_several_processes_speaks(s2search: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = s2search("plan", "--budget", "260ms")
    monkeypatch.setenv("RANK", "1")
    other = s2search("plan", "--budget", "260ms")
    assert "layouts tie" in first.out
    assert (first.code, other.code, other.out) == (0, 0, "")


def test_layouts_that_tie_in_a_draw_do_not_make_one_another_unsure(tmp_path: Path) -> None:
    one = {"value": -0.1, "error": 0.01}
    score = score_of(depth=1, values={"lcha": [one], "ssa": [{"value": -0.3, "error": 0.01}]})
    (tmp_path / "s.json").write_text(json.dumps(score))
    plan = s2search.plan("iphone-16-pro-max", depth=6, budget="60ms", score=tmp_path / "s.json")
    assert plan.ties is not None
    assert plan.ties > 1
    assert plan.score_stability is not None
    assert plan.score_stability.layout == 200


def test_a_front_by_a_measured_score_has_its_errors_in_every_form(tmp_path: Path) -> None:
    values = {
        "lcha": [{"value": -0.1, "error": 0.02}, {"value": -0.3, "error": 0.04}],
        "ssa": [{"value": -0.5, "error": 0.03}, {"value": -0.6, "error": 0.04}],
    }
    (tmp_path / "s.json").write_text(json.dumps(score_of(values=values)))
    front = s2search.frontier(depth=2, candidates="lcha,ssa", score=tmp_path / "s.json")
    low = front.plans[0]
    assert low.written == "S2"
    assert low.score_error == pytest.approx(0.05)
    assert low.score_range == pytest.approx((-1.1 - 1.96 * 0.05, -1.1 + 1.96 * 0.05))
    low.save(tmp_path / "p.json")
    assert Plan.load(tmp_path / "p.json").score_error == low.score_error
    assert "-1.100000 +- 0.050000" in str(front)
    assert "-1.100000 +- 0.050000" in front._repr_html_()
    assert front.to_pandas()["score_error"][0] == pytest.approx(0.05)
    bars = front.plot().containers
    (ends,) = [bar[2][0].get_segments() for bar in bars if bar.has_yerr]
    assert [tuple(end[:, 1]) for end in ends] == [pytest.approx(plan.score_range) for plan in front]
    pyplot.close("all")
    assert "score_error" not in s2search.frontier(depth=2, candidates="lcha,ssa").to_pandas()


def score_of(**changes: Any) -> dict[str, Any]:
    one = {"value": -0.1, "error": 0.01, "earlier": None}
    found: dict[str, Any] = {
        "schema": "s2search.score/2",
        "name": "mine",
        "statement": "made up",
        "depth": 2,
        "channels": 64,
        "values": {"lcha": [one, one], "ssa": [one, one]},
        "samples": 512,
        "steps": [90, 180],
    }
    return found | changes


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"depth": 3}, "gives 2 layers for 'lcha', and its depth is 3"),
        ({"values": {"lcha": [{"value": 1e999, "error": 0}, {"value": 0, "error": 0}]}}, "score"),
        ({"values": {"lcha": [{"value": 0, "error": -1}, {"value": 0, "error": 0}]}}, "has the value 0.0 +- -1.0"),
        ({"depth": 0, "values": {"lcha": []}}, "has a depth of 0; at least 1"),
        ({"values": {"lcha": [{"value": 0, "error": 1e308}] * 2}}, "has the value 0.0 +- 1e+308"),
        ({"valuse": 3}, "no key of the score of schema s2search.score/2"),
        ({"values": {"lcha": [{"value": 0, "eror": 0}]}}, "eror"),
        ({"schema": "s2search.score/3"}, "was made by a newer s2search"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_file_that_is_none_is_one_line(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    (tmp_path / "s.json").write_text(json.dumps(score_of(**changes)).replace("Infinity", "1e999"))
    with pytest.raises(InputError) as error:
        open_score(str(tmp_path / "s.json"))
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_another_depth_keeps_the_ends_and_about_the_sum() -> None:
    values = np.array([9.0, 1.0, 1.0, 1.0, 5.0])
    for depth in (5, 6, 12, 28):
        found = resampled(values[:, None], depth)[:, 0]
        assert found[0] * depth == pytest.approx(9.0 * 5)
        assert found[-1] * depth == pytest.approx(5.0 * 5)
        assert found.sum() == pytest.approx(values.sum(), rel=0.3)
    assert np.array_equal(resampled(values[:, None], 5)[:, 0], values)


def test_a_score_that_lacks_a_candidate_says_which_it_has(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps(score_of()))
    with pytest.raises(ScoreError, match="has no value for 'full'; it has: lcha, ssa"):
        open_score(str(tmp_path / "s.json")).score_LC(Space.parse("lcha,full", depth=2))


def even_errors(problem: Problem, error_LC: Any) -> ScoreErrors:
    """Every layer has a value of its own."""
    layers = len(problem.score_LC)
    return ScoreErrors(error_KC=np.broadcast_to(error_LC, problem.score_LC.shape), share_LK=np.eye(layers))


@pytest.mark.parametrize(("there", "here"), [(2, 2), (3, 7), (6, 28), (7, 3)])
def test_the_error_of_a_layouts_score_is_that_of_draws_from_the_measured_values(there: int, here: int) -> None:
    """By the definition: the values are drawn, all layers are read off them, and the layout's are added."""
    rng = np.random.default_rng(there)
    error_KC, value_KC = rng.uniform(0.1, 1, (there, 2)), rng.normal(size=(there, 2))
    values = {
        label: [Value(value=float(v), error=float(e)) for v, e in zip(value_KC[:, c], error_KC[:, c], strict=True)]
        for c, label in enumerate(("lcha", "ssa"))
    }
    score = msgspec.convert(score_of(depth=there, values=msgspec.to_builtins(values)), MeasuredScore)
    space, choice_L = Space.parse("lcha,ssa", depth=here), rng.integers(0, 2, here)
    label = [block.label for block in space.candidates]
    order = [("lcha", "ssa").index(name) for name in label]
    drawn = [
        resampled(value_KC + rng.standard_normal(error_KC.shape) * error_KC, here)[:, order][
            range(here), choice_L
        ].sum()
        for _ in range(4000)
    ]
    errors = score.errors(space)
    assert errors.of(choice_L.tolist()) == pytest.approx(np.std(drawn), rel=0.06)
    from_errors = [errors.drawn(rng)[0][range(here), choice_L].sum() for _ in range(4000)]
    assert np.std(from_errors) == pytest.approx(np.std(drawn), rel=0.08)
    assert np.mean(from_errors) == pytest.approx(0, abs=4 * np.std(drawn) / 4000**0.5)


@pytest.mark.parametrize("seed", range(4))
def test_stability_counts_what_brute_force_counts(seed: int) -> None:
    problem = random_problem(np.random.default_rng(seed), layers=5, candidates=3)
    choice_L = Exhaustive().solve(problem).choice_L
    errors = even_errors(problem, np.random.default_rng(seed + 100).uniform(0, 0.2, problem.score_LC.shape))
    one = stability(problem, choice_L, errors.drawn, Dynamic(), draws=20)
    assert one == stability(problem, choice_L, errors.drawn, Exhaustive(), draws=20)
    assert one.layout <= min(one.layers)
    sure = stability(problem, choice_L, even_errors(problem, 0.0).drawn, Dynamic(), draws=5)
    assert (sure.layout, min(sure.layers)) == (5, 5)


def test_errors_as_large_as_the_scores_leave_little_sure() -> None:
    problem = random_problem(np.random.default_rng(1), layers=8, candidates=3)
    choice_L = Dynamic().solve(problem).choice_L
    spread = float(problem.score_LC.std())
    small, large = (
        stability(problem, choice_L, even_errors(problem, e * spread).drawn, Dynamic(), draws=60) for e in (0.01, 3)
    )
    assert small.layout > large.layout
    assert large.layout < 20


@pytest.fixture(scope="module")
def checked(made: Path, measured: MeasuredScore) -> ScoreCheck:
    return s2search.score_check(
        made / "out", made / "model", made / "clips", layouts=3, seeds=2, steps=2, batch=4, samples=8
    )


def test_a_layout_is_assembled_of_the_blocks_that_were_measured(made: Path, measured: MeasuredScore) -> None:
    """With one low layer it is the replaced model itself, and loses exactly what its score says."""
    captions = Captions(Hashing(channels=8, tokens=6), torch.device("cpu"), torch.float32)
    model = S2DiT.from_pretrained(made / "model").requires_grad_(False)
    teacher = FrozenModel(model=model, clips=Clips.load(made / "clips"), captions=captions)
    network = assembled(teacher, made / "out", ("full", "ssa", "full"))
    expected = with_candidate(made, 1, 1, "ssa").state_dict()
    found = network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    several = assembled(teacher, made / "out", ("ssa", "lcha", "ssa")).state_dict()
    first, last = (load_file(made / f"out/blocks/{layer:03}-1.ssa.safetensors") for layer in (0, 2))
    assert torch.allclose(several["down.mix.weight"], (first["down.mix.weight"] + last["down.mix.weight"]) / 2)
    assert torch.equal(several["layers.2.table_6D"], last["layers.0.table_6D"])


def test_a_check_predicts_sums_and_tunes_what_was_assembled(checked: ScoreCheck, measured: MeasuredScore) -> None:
    assert len({one.layout for one in checked.layouts}) == 3
    for one in checked.layouts:
        assert sum(label == "ssa" for label in one.layout) == 1
        summed = -sum(measured.values[label][layer].value for layer, label in enumerate(one.layout))
        assert one.additive == pytest.approx(summed)
        assert one.with_pairs == pytest.approx(summed)  # one low layer has no neighbour
        assert one.tuned != one.assembled
    assert [one.name for one in checked.predictors] == [
        *("additive", "with pairs", "begins low", "ends low", "early low", "switches", "longest low run")
    ]
    assert all(-1 <= one.low <= one.rank <= one.high <= 1 for one in checked.predictors[:2])


def test_layouts_that_begin_high_are_drawn_where_only_they_are_asked_for() -> None:
    asked: dict[str, Any] = {"score": "", "model": "", "data": "", "high": "lcha", "low": "ssa", "low_layers": 2}
    question = CheckQuestion(**asked, begins_high=True, layouts=99)
    drawn = score_check.drawn_layouts(question, 5)
    assert len(set(drawn)) == len(drawn) == 6  # two of the four layers behind the first
    assert all(layout[0] == "lcha" and layout.count("ssa") == 2 for layout in drawn)
    every = score_check.drawn_layouts(CheckQuestion(**asked, layouts=99), 5)
    assert {layout for layout in every if layout[0] == "lcha"} == set(drawn)
    assert len(every) == 10
    with pytest.raises(InputError, match="4 of 5 layers are low, the first of them high; 1 to 3"):
        CheckQuestion(**asked | {"low_layers": 4}, begins_high=True).check(5)
    with pytest.raises(InputError, match="layouts is 1001"):
        CheckQuestion(**asked, layouts=1001).check(5)


@pytest.mark.parametrize("begins_high", [False, True])
def test_of_millions_of_layouts_a_few_are_drawn_and_none_is_listed(
    begins_high: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_check.itertools, "combinations", lambda *_: pytest.fail("all are listed"))
    asked: dict[str, Any] = {"score": "", "model": "", "data": "", "high": "lcha", "low": "ssa", "low_layers": 14}
    question = CheckQuestion(**asked, begins_high=begins_high, layouts=50)
    drawn = score_check.drawn_layouts(question, 28)
    assert drawn == score_check.drawn_layouts(question, 28)
    assert len(set(drawn)) == 50
    assert all(layout.count("ssa") == 14 for layout in drawn)
    assert {layout[0] for layout in drawn} == ({"lcha"} if begins_high else {"lcha", "ssa"})


def test_pairs_are_what_a_run_loses_beyond_its_layers(measured: MeasuredScore) -> None:
    layout = ("ssa", "ssa", "lcha")
    run = next(run for run in measured.runs if run.first == 0)
    expected = -(run.value.value + measured.values["lcha"][2].value)
    assert with_pairs(measured, layout) == pytest.approx(expected)
    assert additive(measured, layout) == pytest.approx(-sum(measured.values[x][i].value for i, x in enumerate(layout)))


def test_a_check_that_was_stopped_goes_on_and_is_the_same(made: Path, checked: ScoreCheck) -> None:
    lines = (made / "out/check.jsonl").read_text().splitlines(keepends=True)
    (made / "out/check.jsonl").write_text("".join(lines[:3]) + lines[3][:20])
    again = s2search.score_check(
        made / "out", made / "model", made / "clips", layouts=3, seeds=2, steps=2, batch=4, samples=8
    )
    assert again == checked
    assert (made / "out/check.jsonl").read_text() == "".join(lines)


def made_up(predicted: list[float], tuned: list[float]) -> ScoreCheck:
    layouts = [("lcha",) * n + ("ssa",) + ("lcha",) * (7 - n) for n in range(8)]
    question = CheckQuestion(score="", model="", data="", high="lcha", low="ssa", low_layers=1)
    compared = tuple(
        Compared(layout=layout, written="", additive=one, with_pairs=None, assembled=0.0, tuned=other, seeds_std=0.0)
        for layout, one, other in zip(layouts, predicted, tuned, strict=True)
    )
    return ScoreCheck(question=question, layouts=compared, predictors=tuple(predictors(compared, question)))


def test_what_passes_ranks_well_surely_and_better_than_any_rule() -> None:
    rng = np.random.default_rng(0)
    tuned = [3.0, 1.0, 4.0, 1.5, 5.0, 9.0, 2.0, 6.0]
    good = made_up([x + 0.01 * rng.standard_normal() for x in tuned], tuned)
    assert good.passed
    assert good.predictors[0].rank > 0.95
    assert not made_up([-x for x in tuned], tuned).passed
    assert not made_up(list(rng.standard_normal(8)), tuned).passed
    name, others = "additive, high first", list(good.predictors[2:])
    assert good.predictors[1].name == name
    reverse = made_up([60.0, *range(7, 0, -1)], [60.0, *range(1, 8)])  # but for the one that begins low
    assert reverse.predictors[1].rank == pytest.approx(-1)
    turned = dataclasses.replace(good, predictors=(good.predictors[0], reverse.predictors[1], *others))
    assert not turned.passed
    early = [8.0 - n for n in range(8)]  # the place of the low layer decides all, and a rule knows that as well
    assert made_up(early, early).predictors[0].low > 0.9
    assert not made_up(early, early).passed


def test_ranks_are_those_of_scipy() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    for _ in range(20):
        one, other = rng.integers(0, 5, 12).astype(float), rng.standard_normal(12)
        assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert spearman(np.zeros(4), np.arange(4.0)) == 0.0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"low_layers": 3}, "3 of 3 layers are low"),
        ({"low": "lcha"}, "'lcha' does not run in the low stream"),
        ({"high": "kv_compressed"}, "kv_compressed.safetensors' cannot be read: No such file"),
        ({"seeds": 0}, "seeds is 0"),
        ({"samples": 9}, "belongs to another check of a score: samples is 8 there and 9 here"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_check_is_one_line(made: Path, checked: ScoreCheck, tmp_path: Path, changes: Any, problem: str) -> None:
    folder = made / "out"
    if "high" in changes:
        shutil.copytree(folder, tmp_path / "out")
        (tmp_path / "out/check.jsonl").unlink()
        folder = tmp_path / "out"
    asked = {"layouts": 3, "seeds": 2, "steps": 2, "batch": 4, "samples": 8} | changes
    with pytest.raises((InputError, ScoreError)) as error:
        s2search.score_check(folder, made / "model", made / "clips", **asked)
    assert problem in str(error.value)


def test_a_score_of_other_weights_is_refused(made: Path, measured: MeasuredScore, tmp_path: Path) -> None:
    S2DiT(ModelConfig.new(SIZES, ("full",) * 3)).save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="was measured on the weights sha256:"):
        s2search.score_check(made / "out", tmp_path / "other", made / "clips")


@pytest.mark.slow
def test_two_processes_measure_and_check_what_one_does(
    made: Path, measured: MeasuredScore, checked: ScoreCheck, tmp_path: Path
) -> None:
    def both(*words: str) -> list[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2"}
        environment["MASTER_PORT"] = free_port()
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "s2search", "score", *words],
                env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        return [process.communicate(timeout=300)[0] for process in started]

    data, model, out = f"--data={made / 'clips'}", str(made / "model"), tmp_path / "out"
    printed = both(
        *("measure", model, data, f"--out={out}", "--candidates=full,lcha,ssa", "--runs=2", "--steps=2", "--steps=4"),
        *("--batch=4", "--samples=8"),
    )
    assert (out / "score.json").read_bytes() == (made / "out/score.json").read_bytes()
    assert "rise of the held-out loss" in printed[0]
    assert printed[1] == ""
    lines = [len((out / name).read_text().splitlines()) for name in ("layers.jsonl", "layers.1.jsonl")]
    assert lines == [1 + 3, 1 + 2]
    both("check", str(out), model, data, "--layouts=3", "--seeds=2", "--steps=2", "--batch=4", "--samples=8")
    assert read_json(out / "check.json", ScoreCheck, what="check") == checked


def test_clips_of_other_latents_are_refused_and_their_own_model_is_measured(made: Path, tmp_path: Path) -> None:
    s2search.data_make(
        "shapes[count=10]", tmp_path / "four", video="48x32", frames=9, held_out=0.3, codec="dct[channels=4]"
    )
    with pytest.raises(InputError, match="has latents of 4 channels, and the model denoises 16"):
        s2search.score_measure(made / "model", tmp_path / "four", tmp_path / "out", **ASKED)
    S2DiT(ModelConfig.new(SIZES, ("full",) * 3, latent_channels=4)).save_pretrained(tmp_path / "model")
    asked = ASKED | {"candidates": "lcha,ssa"}
    found = s2search.score_measure(tmp_path / "model", tmp_path / "four", tmp_path / "out", **asked)
    assert set(found.values) == {"lcha", "ssa"}
    checked = s2search.score_check(
        tmp_path / "out", tmp_path / "model", tmp_path / "four", layouts=3, seeds=1, steps=1, batch=4, samples=8
    )
    assert len(checked.layouts) == 3


def test_a_model_that_candidates_improve_is_said_to_be_untrained(measured: MeasuredScore, tmp_path: Path) -> None:
    def printed(score: MeasuredScore) -> str:
        with (console := Console(width=200)).capture() as shown:
            console.print(score_text(score, tmp_path))
        return shown.get()

    worse = dataclasses.replace(measured, values={"ssa": [Value(value=-0.1, error=0.01)] * 3}, runs=[])
    better = dataclasses.replace(worse, values={"ssa": [Value(value=0.1, error=0.01), *worse.values["ssa"][1:]]})
    assert "LOWER" not in printed(worse)
    assert "1 of 3 LOWER the loss" in printed(better)
