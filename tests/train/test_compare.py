"""Comparisons: contenders are trained alike, judged on the same samples, and called worse only where that is sure."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import s2search
from s2search.api.compare import _made
from s2search.document import read_json
from s2search.errors import InfeasibleError, InputError, S2SearchError
from s2search.network.network import S2DiT
from s2search.reporting.compare import comparison_csv, comparison_figure
from s2search.training.captions import Captions, text_encoder
from s2search.training.compare import compare as compare_module
from s2search.training.compare.result import RunComparison
from s2search.training.compare.settings import ComparisonSettings
from s2search.training.compare.statistics import behind_the_best, errors_to_differ
from s2search.training.data.clips import Clips
from s2search.training.engine import Engine
from s2search.training.noisy import judged_by
from s2search.training.run_folder import Record
from s2search.training.settings import RunSettings
from tests.command import run_here
from tests.train.ranks import free_port

NANO = """
name = "nano"
depth = 4
channels = 16
heads = 2
feed_forward = 32
text_channels = 8
text_tokens = 6
"""
TABLE = "iphone-16-pro-max"


@pytest.fixture(autouse=True, scope="module")
def _alone(one_thread: None) -> None:
    """Every test here."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    s2search.data_make("shapes[count=16]", folder / "clips", video="32x32", frames=9, clips=2, held_out=0.4)
    (folder / "nano.toml").write_text(NANO)
    return folder


def asked(made: Path, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "seeds": [0, 1],
        "samples": 12,
        "run": {
            "data": str(made / "clips"),
            "model": {"preset": str(made / "nano.toml"), "layout": "LSSL"},
            "optimizer": {"steps": 4, "batch": 4, "warmup": 1, "lr": 3e-3},
            "engine": {"save_every": 1},
            "judge": {"samples": 4, "strips": 0},
        },
        "contenders": {"even": {}, "low": {"model.layout": "S4"}, "same": {"model": {"layout": "LS2L"}}},
    }
    return given | changes


@pytest.fixture(scope="module")
def whole(made: Path) -> Path:
    """A comparison from the first run to the last."""
    s2search.train_compare(asked(made), made / "whole")
    return made / "whole"


def read(folder: Path) -> RunComparison:
    return read_json(folder / "compare.json", RunComparison, what="comparison")


def losses_of(folder: Path) -> dict[tuple[str, int], list[float]]:
    _, *lines = map(json.loads, (folder / "losses.jsonl").read_text().splitlines())
    return {(line["contender"], line["seed"]): line["loss_N"] for line in lines}


def test_a_comparison_leaves_ordinary_runs_the_losses_of_every_sample_and_what_came_out(
    made: Path, whole: Path
) -> None:
    assert {path.name for path in whole.iterdir()} == {"losses.jsonl", "compare.json", "even", "low"}
    for name, layout in (("even", "LSSL"), ("low", "SSSS")):
        for seed in ("0", "1"):
            run = whole / name / seed
            assert {"run.json", "metrics.csv", "model", "judgement.json", "report.html"} <= {
                p.name for p in run.iterdir()
            }
            assert json.loads((run / "run.json").read_text())["settings"]["seed"] == int(seed)
            own = RunSettings.of(RunSettings.read(run / "run.toml"))
            assert own == read_json(run / "run.json", Record, what="run").settings  # `train` goes on with it
            saved = json.loads((run / "model/config.json").read_text())["layout"]
            assert "".join(label[0].upper() for label in saved) == layout
    found = read(whole)
    assert {one.name for one in found.contenders} == {"even", "low", "same"}
    assert losses_of(whole).keys() == {("even", 0), ("even", 1), ("low", 0), ("low", 1)}
    jsonschema.validate(json.loads((whole / "compare.json").read_text()), s2search.schema("run_comparison"))
    for line in (whole / "losses.jsonl").read_text().splitlines():
        jsonschema.validate(json.loads(line), s2search.schema("run_losses"))


def test_the_losses_are_those_of_the_saved_models_on_the_same_samples(made: Path, whole: Path) -> None:
    clips = Clips.load(made / "clips")
    sample = judged_by(clips, "held-out", range(12), 12, 3.0)
    for (name, seed), losses in losses_of(whole).items():
        model = S2DiT.from_pretrained(whole / name / str(seed) / "model").eval()
        captions = Captions(text_encoder("", model.config.preset), torch.device("cpu"), torch.float32)
        with torch.no_grad():
            off = model(sample.x_BCTYX, sample.s_B[:, None], captions.tokens(sample.captions)) - sample.v_BCTYX
        assert losses == pytest.approx(off.square().flatten(1).mean(1).tolist(), rel=1e-5)


def test_what_came_out_is_what_the_losses_say(made: Path, whole: Path) -> None:
    found, losses = read(whole), losses_of(whole)
    low, even = (np.array([losses[name, seed] for seed in (0, 1)]) for name in ("low", "even"))
    best, other = (even, low) if even.mean() < low.mean() else (low, even)
    recordings = [
        clip.digest for clip in compare_module.judged_clips(Clips.load(made / "clips"), "held-out", range(12), 12)
    ]
    worst = found.contenders[-1]
    assert worst.behind == pytest.approx(other.mean() - best.mean())
    assert worst.behind_error == pytest.approx(naive_error(other - best, recordings))
    assert found.best.behind == found.best.behind_error == 0
    assert worst.loss == pytest.approx(other.mean())
    assert worst.loss_by_seed == pytest.approx(other.mean(axis=1))
    assert worst.ratio == pytest.approx(other.mean() / found.blind)
    assert found.recordings == len({*recordings})


def naive_error(d_RN: np.ndarray[Any, Any], recordings: list[str]) -> float:
    """The formula of docs/train.md for two contenders, by loops."""
    seeds, samples = d_RN.shape
    mean = sum(float(d) for d in d_RN.flat) / d_RN.size
    by_seed = [sum(row) / samples for row in d_RN.tolist()]
    of_seeds = sum((one - mean) ** 2 for one in by_seed) / (seeds - 1) / seeds
    sums: dict[str, float] = {}
    for n, recording in enumerate(recordings):
        sums[recording] = sums.get(recording, 0.0) + sum(d_RN[r][n] for r in range(seeds)) / seeds - mean
    of_samples = len(sums) / (len(sums) - 1) * sum(one**2 for one in sums.values()) / samples**2
    return float((of_seeds + of_samples) ** 0.5)


def test_equal_contenders_are_trained_once_and_share_the_result(whole: Path) -> None:
    even, same = ({one.name: one for one in read(whole).contenders}[name] for name in ("even", "same"))
    assert (even.trained_as, same.trained_as) == ("even", "even")
    assert (same.rank, same.loss, same.written) == (even.rank, even.loss, "LS2L")


class Killed(BaseException):
    """In place of a kill: nothing catches it."""


@pytest.mark.parametrize("steps", [2, 6, 11])
def test_a_comparison_killed_on_the_way_ends_to_the_bit_like_one_that_was_not(
    made: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    own, left = Engine.step, steps

    def step(self: Engine, *words: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return own(self, *words)

    monkeypatch.setattr(Engine, "step", step)
    with pytest.raises(Killed):
        s2search.train_compare(asked(made), tmp_path / "out")
    left = 4 * 4 - steps  # and no step more is done than is left
    s2search.train_compare(asked(made), tmp_path / "out")
    assert left == 0
    for name in ("losses.jsonl", "compare.json"):
        assert (tmp_path / "out" / name).read_text() == (whole / name).read_text()
    s2search.train_compare(asked(made), tmp_path / "out")
    assert left == 0


def test_ctrl_c_keeps_the_steps_and_the_command_says_so(
    made: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Engine.step

    def step(self: Engine, networks: Any, moved: Any, number: int) -> Any:
        if number == 2 and self.run.settings.seed == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return own(self, networks, moved, number)

    toml(made, tmp_path / "compare.toml")
    monkeypatch.setattr(Engine, "step", step)
    done = run_here(["train", "compare", "compare.toml", "--out", "out"], tmp_path)
    assert done.code == 130
    assert done.err.endswith(
        "interrupted; the runs and steps so far are kept: the same command goes on where it stopped\n"
    )
    monkeypatch.setattr(Engine, "step", own)
    again = run_here(["train", "compare", "compare.toml", "--out", "out"], tmp_path)
    assert again.code == 0, again.err
    assert losses_of(tmp_path / "out") == losses_of(whole)


def toml(made: Path, path: Path, **changes: Any) -> None:
    """Write a comparison as a file."""

    def lines(stated: dict[str, Any], before: str) -> list[str]:
        plain = [f"{json.dumps(k)} = {json.dumps(v)}" for k, v in stated.items() if not isinstance(v, dict)]
        tables = [(f"{before}{json.dumps(k)}", v) for k, v in stated.items() if isinstance(v, dict)]
        return plain + [line for k, v in tables for line in (f"[{k}]", *lines(v, f"{k}."))]

    path.write_text("\n".join(lines(asked(made, **changes), "")))


def test_the_command_prints_and_writes_the_comparison(made: Path, whole: Path, tmp_path: Path) -> None:
    toml(made, tmp_path / "compare.toml")
    words = ["train", "compare", "compare.toml", "--out", str(whole)]
    done = run_here([*words, "--csv", "x.csv", "--figure", "x.png"], tmp_path)
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    assert "2 models under 2 seeds, 4 steps of 4; 12 held-out samples of" in done.out
    assert "same is even: they are equal, and were trained once" in done.out
    assert "UNTRAINED: none of them is better than the blind baseline" in done.out
    assert "2 seeds: that says little of how sure a difference is; take 3 or more" in done.err
    rows = list(csv.DictReader(io.StringIO((tmp_path / "x.csv").read_text())))
    assert [row["contender"] for row in rows] == [one.name for one in read(whole).contenders]
    assert float(rows[-1]["loss_seed_1"]) == read(whole).contenders[-1].loss_by_seed[1]
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"
    printed = run_here([*words, "--json"], tmp_path)
    assert json.loads(printed.out) == json.loads((whole / "compare.json").read_text())


def test_train_still_takes_a_run_and_a_file_called_compare_is_written_with_a_dot(made: Path, tmp_path: Path) -> None:
    settings = asked(made)["run"]
    words = [
        f"{table}.{key} = {json.dumps(value)}"
        for table in ("model", "optimizer", "judge")
        for key, value in settings[table].items()
    ]
    (tmp_path / "compare").write_text("\n".join([f"data = {json.dumps(settings['data'])}", *words]))
    done = run_here(["train", "./compare", "--out", "run"], tmp_path)
    assert done.code == 0, done.err
    assert "run: 4 steps" in done.out
    assert run_here(["train", "--dry-run", "./compare"], tmp_path).code == 0
    for words, problem in (
        (["compare"], "Missing argument 'comparison'"),
        (["./compare", "more"], "Got unexpected extra argument(s) (more)"),
        (["--out", "x", "nowhere"], "the run 'nowhere' cannot be read"),
        (["compare", "nowhere"], "the comparison 'nowhere' cannot be read"),
    ):
        done = run_here(["train", *words], tmp_path)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert problem in done.err


@pytest.mark.slow
def test_two_processes_divide_the_runs_and_leave_what_one_does(made: Path, whole: Path, tmp_path: Path) -> None:
    toml(made, tmp_path / "compare.toml")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2"}
    environment["MASTER_PORT"] = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "s2search", "train", "compare", "compare.toml", "--out", "out"],
            cwd=tmp_path,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    printed = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert "2 models under 2 seeds" in printed[0]
    assert printed[1] == ""
    assert (tmp_path / "out/compare.json").read_text() == (whole / "compare.json").read_text()
    lines = [len((tmp_path / "out" / name).read_text().splitlines()) for name in ("losses.jsonl", "losses.1.jsonl")]
    assert lines == [1 + 2, 1 + 2]


# Statistics.


def shaped(draw: Any) -> tuple[np.ndarray[Any, Any], list[str]]:
    contenders, seeds, samples = draw(st.integers(2, 5)), draw(st.integers(1, 4)), draw(st.integers(2, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    recordings = [str(n % draw(st.integers(2, samples))) for n in range(samples)]
    return rng.standard_normal((contenders, seeds, samples)), recordings if len({*recordings}) > 1 else [
        "0",
        *"1" * (samples - 1),
    ]


losses_and_recordings = st.composite(shaped)()


@given(losses_and_recordings)
def test_what_all_contenders_have_in_common_changes_no_difference_and_no_error(
    given: tuple[np.ndarray[Any, Any], list[str]],
) -> None:
    loss_CRN, recordings = given
    hard = 100 * np.random.default_rng(1).standard_normal((1, *loss_CRN.shape[1:]))
    one, other = behind_the_best(loss_CRN, recordings), behind_the_best(loss_CRN + hard, recordings)
    assert one.best == other.best
    assert other.behind_C == pytest.approx(one.behind_C, abs=1e-9)
    assert other.error_C == pytest.approx(one.error_C, abs=1e-9)


@given(losses_and_recordings, st.randoms(use_true_random=False))
def test_no_order_of_contenders_seeds_or_samples_matters(
    given: tuple[np.ndarray[Any, Any], list[str]], random: Any
) -> None:
    loss_CRN, recordings = given
    c, r, n = ([*range(size)] for size in loss_CRN.shape)
    for places in (c, r, n):
        random.shuffle(places)
    one = behind_the_best(loss_CRN, recordings)
    other = behind_the_best(loss_CRN[np.ix_(c, r, n)], [recordings[place] for place in n])
    assert other.behind_C == pytest.approx(one.behind_C[c])
    assert other.error_C == pytest.approx(one.error_C[c])


@given(losses_and_recordings)
def test_two_contenders_have_the_error_of_the_formula(given: tuple[np.ndarray[Any, Any], list[str]]) -> None:
    loss_CRN, recordings = given
    if loss_CRN.shape[1] > 1:
        found = behind_the_best(loss_CRN[:2], recordings)
        difference = loss_CRN[1 - found.best] - loss_CRN[found.best]
        assert found.error_C[1 - found.best] == pytest.approx(naive_error(difference, recordings))
        assert found.behind_C[1 - found.best] == pytest.approx(difference.mean())


def test_samples_of_one_recording_stand_together() -> None:
    """Every sample twice says no more than once."""
    loss_CRN = np.random.default_rng(0).standard_normal((3, 2, 40))
    once = behind_the_best(loss_CRN, [str(n) for n in range(40)])
    twice = behind_the_best(np.repeat(loss_CRN, 2, axis=2), [str(n // 2) for n in range(80)])
    assert twice.error_C == pytest.approx(once.error_C)
    assert twice.recordings == once.recordings == 40


@pytest.mark.parametrize("contenders", [2, 13])
@pytest.mark.parametrize(
    ("of_seeds", "of_samples", "seeds"), [(1.0, 0.3, 3), (0.0, 2.0, 3), (0.3, 2.0, 2), (0.0, 2.0, 1)], ids=str
)
def test_of_equal_contenders_one_is_called_worse_in_five_of_a_hundred_comparisons_or_fewer(
    contenders: int, of_seeds: float, of_samples: float, seeds: int
) -> None:
    rng, wrong, times = np.random.default_rng(0), 0, 400
    recordings = [str(n % 30) for n in range(60)]
    for _ in range(times):
        hard_1RN = 5 * rng.standard_normal((1, seeds, 60)) + 5 * rng.standard_normal((1, 1, 60))
        luck_CR1 = of_seeds * rng.standard_normal((contenders, seeds, 1))
        taste_C1N = of_samples * np.tile(rng.standard_normal((contenders, 1, 30)), 2)
        rest_CRN = rng.standard_normal((contenders, seeds, 60))
        found = behind_the_best(hard_1RN + luck_CR1 + taste_C1N + rest_CRN, recordings)
        wrong += bool(found.worse_C.any())
    assert wrong / times <= 0.08


def test_a_true_difference_is_found_and_its_error_is_about_right() -> None:
    """A contender of ten that is behind by 1, where seeds vary by .1 and samples of a recording by 1."""
    rng, times, behind, errors, surely = np.random.default_rng(0), 100, [], [], 0
    recordings = [str(n % 100) for n in range(200)]
    for _ in range(times):
        luck_CR1, taste_C1N = 0.1 * rng.standard_normal((10, 3, 1)), np.tile(rng.standard_normal((10, 1, 100)), 2)
        loss_CRN = luck_CR1 + taste_C1N + rng.standard_normal((10, 3, 200))
        loss_CRN[0] -= 2.5
        loss_CRN[1] -= 1.5
        found = behind_the_best(loss_CRN, recordings)
        assert found.best == 0
        behind.append(found.behind_C[1])
        errors.append(found.error_C[1])
        surely += bool(found.worse_C[1])
    assert surely >= 0.95 * times
    assert np.mean(behind) == pytest.approx(1.0, abs=0.05)
    assert 0.9 <= np.mean(np.square(errors)) / np.var(behind) <= 1.6


def test_it_takes_two_errors_at_least_and_more_of_few_seeds_or_many_contenders() -> None:
    assert errors_to_differ(2, 200, 5000) == 2.0
    assert errors_to_differ(2, 3, 500) > errors_to_differ(2, 6, 500)
    assert errors_to_differ(13, 5, 500) > errors_to_differ(3, 17, 500)


# The layouts that a table and a budget make.


def layouts_of(made: Path, depth: int = 8, **changes: Any) -> dict[str, tuple[str, ...]]:
    (made / "deep.toml").write_text(NANO.replace("depth = 4", f"depth = {depth}"))
    layouts = {"table": TABLE, "budget": "80ms"} | changes
    run = asked(made)["run"] | {"model": {"preset": str(made / "deep.toml")}}
    return _made(ComparisonSettings.of(asked(made, run=run, layouts=layouts, contenders={})))[1]


def streams(layout: tuple[str, ...]) -> str:
    return "".join("s" if label == "ssa" else "h" for label in layout)


@pytest.mark.parametrize(("depth", "budget"), [(8, "80ms"), (8, "100ms"), (12, "110ms"), (28, "260ms")])
def test_layouts_have_the_counts_of_published_and_keep_the_budget(made: Path, depth: int, budget: str) -> None:
    found = layouts_of(made, depth, budget=budget)
    counts = Counter(found["published"])
    assert found["published"] == s2search.plan(TABLE, depth=depth, budget=budget).layout
    randoms = [layout for name, layout in found.items() if name.startswith("random ")]
    assert len(randoms) == 5
    for layout in (*randoms, found["one low run"], found["most even"]):
        assert Counter(layout) == counts
    others = [layout for name, layout in found.items() if not name.startswith("random ")]
    assert len({*randoms}) == 5
    assert not {*randoms} & {*others}
    assert streams(found["one low run"]).strip("h") == "s" * counts["ssa"]
    assert streams(found["one low run"])[0] + streams(found["one low run"])[-1] == "hh"
    assert (found["lcha only"], found["ssa only"]) == (("lcha",) * depth, ("ssa",) * depth)
    for name in ("published", "hourglass", "one low run", "most even"):
        layout = ",".join(f"{label}*1" for label in found[name])
        assert s2search.price(layout, TABLE, depth=depth, budget=budget, candidates="lcha,ssa,kv_compressed").fits, name


@pytest.mark.parametrize("budget", ["74ms", "80ms", "95ms", "130ms"])
def test_the_hourglass_has_the_most_high_layers_that_fit_at_equal_ends(made: Path, budget: str) -> None:
    layout = layouts_of(made, budget=budget, random=0)["hourglass"]
    first, middle, last = (len(part) for part in streams(layout).partition(streams(layout).strip("h")))
    assert {*layout} == {"kv_compressed", "ssa"}
    assert first >= 1 <= last
    assert middle >= 1
    assert abs(first - last) <= 1
    more = f"K{first + 1}S{middle - 1}K{last}"

    def fits(text: str) -> bool:
        return s2search.price(text, TABLE, depth=8, budget=budget, candidates="ssa,kv_compressed").fits

    assert fits(f"K{first}S{middle}K{last}")
    assert middle == 1 or not fits(more)


def test_a_measured_score_adds_its_layout_and_one_with_pairs_where_its_check_kept_them(made: Path) -> None:
    scores = Path(__file__).parents[2] / "notebooks/scores"
    given = {"score": str(scores / "doom.score.json"), "score_check": str(scores / "doom.check.json")}
    found = layouts_of(made, 6, budget="50ms", random=0, **given)
    plan = functools.partial(s2search.plan, TABLE, depth=6, budget="50ms", score=given["score"])
    assert found["measured"] == plan().layout
    assert found["measured, pairs"] == plan(score_check=given["score_check"]).layout != found["measured"]
    kept_none = {"score": str(scores / "doom64.score.json"), "score_check": str(scores / "doom64.check.json")}
    found = layouts_of(made, 6, budget="50ms", random=0, **kept_none)
    assert "measured" in found
    assert "measured, pairs" not in found


def test_random_layouts_are_the_same_for_the_same_seed(made: Path) -> None:
    assert layouts_of(made, seed=3) == layouts_of(made, seed=3)
    assert layouts_of(made, seed=3) != layouts_of(made, seed=4)


def test_random_layouts_are_none_of_the_others_even_where_hardly_any_are_left(made: Path) -> None:
    found = layouts_of(made, 4, budget="45ms", random=4)  # of six orders of two and two
    randoms = {layout for name, layout in found.items() if name.startswith("random ")}
    assert len(randoms) == 4
    assert not randoms & {found[name] for name in ("published", "one low run", "most even")}


def test_contenders_say_what_they_cost_and_which_are_over_the_budget(made: Path, tmp_path: Path) -> None:
    layouts = {"table": TABLE, "budget": "40ms", "random": 0}
    given = asked(made, layouts=layouts, seeds=[0], contenders={"full": {"model.layout": "F4"}})
    given["run"] = given["run"] | {"optimizer": {"steps": 1, "batch": 4}}
    found = s2search.train_compare(given, tmp_path / "out")
    by_name = {one.name: one for one in found.contenders}
    assert (by_name["lcha only"].fits, by_name["ssa only"].fits, by_name["published"].fits) == (False, True, True)
    assert by_name["lcha only"].latency_ms == s2search.price("L4", TABLE, depth=4).latency_ms.predicted
    assert by_name["full"].fits is by_name["full"].latency_ms is None
    assert by_name["published"].written == s2search.plan(TABLE, depth=4, budget="40ms").written
    losses = [one.loss for one in found.contenders]
    assert losses == sorted(losses)
    assert [one.rank for one in found.contenders] == [1 + len({*losses[:n]} - {loss}) for n, loss in enumerate(losses)]
    assert "over the budget" in [text.get_text() for text in comparison_figure(found).legends[0].get_texts()]
    assert comparison_csv(found).count("\n") == 1 + len(found.contenders)


def test_the_comparison_that_is_shipped_names_different_layouts_of_one_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    settings = ComparisonSettings.of(ComparisonSettings.read(Path("notebooks/compare.toml")))
    _, layouts = _made(settings)
    assert {"measured", "measured, pairs", "published", "hourglass", "one low run", "most even"} < layouts.keys()
    assert Counter(layouts["published"]) == {"lcha": 4, "ssa": 4}
    assert len(settings.seeds) >= 3


# Bad input.

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no contender": ({"contenders": {}}, "there are 0 contenders, and nothing to compare; add [contenders.NAME]"),
    "one contender": ({"contenders": {"a": {}}}, "there is one contender, 'a', and nothing to compare it with"),
    "equal ones": (
        {"contenders": {"a": {}, "b": {}}},
        "there are 2 contenders with one layout, and nothing to compare",
    ),
    "no seed": ({"seeds": []}, "the seeds are []; one or more different ones"),
    "a seed twice": ({"seeds": [1, 1]}, "the seeds are [1, 1]"),
    "one sample": ({"samples": 1}, "samples is 1; 2 to 1,000,000"),
    "too many samples": ({"samples": 10**12}, "samples is 1000000000000; 2 to 1,000,000"),
    "a seed that no run has": ({"seeds": [0, 2**63 - 1]}, "the seeds are [0, 9223372036854775807]"),
    "a name of the answer": ({"contenders": {"even": {}, "compare.json": {}}}, "a contender is called 'compare.json'"),
    "a long name": ({"contenders": {"even": {}, "a" * 300: {}}}, "100 bytes at most"),
    "names that differ in capitals": ({"contenders": {"a": {}, "A": {}}}, "would have the folder 'a'"),
    "no shift": ({"shift": 0}, "shift is 0.0; above 0"),
    "unknown key": ({"sample": 4}, "no setting of a comparison is called 'sample' (did you mean 'samples'?)"),
    "unknown key of layouts": (
        {"layouts": {"table": TABLE, "candidate": "lcha"}},
        "no setting of a comparison is called 'layouts.candidate' (did you mean 'layouts.candidates'?)",
    ),
    "wrong type": ({"samples": "many"}, "the setting samples: Expected `int`"),
    "unknown key of the run": ({"run": {"datum": "x"}}, "no setting of a run is called 'datum' (did you mean 'data'?)"),
    "unknown key of a contender": (
        {"contenders": {"a": {}, "b": {"model.layouts": "L4"}}},
        "the contender 'b': no setting of a run is called 'model.layouts' (did you mean 'model.layout'?)",
    ),
    "another depth": (
        {"contenders": {"a": {}, "b": {"model.layout": "L5"}}},
        "the contender 'b': the layout has 5 layers and the preset 'nano' 4",
    ),
    "a preset of another depth": (
        {"contenders": {"a": {}, "b": {"model.preset": "s2dit-tiny", "model.layout": "L8"}}},
        "the contender 'b' has 8 layers, and the others 4",
    ),
    "other steps": (
        {"contenders": {"a": {}, "b": {"optimizer": {"steps": 9}}}},
        "the contender 'b' changes optimizer.steps, which all have in common; set it in [run]",
    ),
    "a seed of its own": ({"contenders": {"a": {}, "b": {"seed": 9}}}, "the contender 'b' has a seed of its own"),
    "a name that is no folder": ({"contenders": {"a/b": {}, "b": {}}}, "a contender is called 'a/b'"),
    "one folder for two": (
        {"contenders": {"a b": {}, "a-b": {"model.layout": "S4"}}},
        "two contenders would have the folder 'a-b'",
    ),
    "layouts without a table": ({"layouts": {"budget": "80ms"}}, "[layouts] names no table; set layouts.table"),
    "a check without a score": (
        {"layouts": {"table": TABLE, "score_check": "x"}},
        "layouts.score_check is given without layouts.score",
    ),
    "too many random ones": (
        {"layouts": {"table": TABLE, "budget": "40ms", "random": 50}},
        "50 random layouts are asked for, and",
    ),
    "the name of a made one": (
        {"layouts": {"table": TABLE, "budget": "40ms", "random": 0}, "contenders": {"published": {}}},
        "[layouts] makes a contender 'published' too; rename yours",
    ),
    "a budget of nothing": ({"layouts": {"table": TABLE, "budget": "1ms"}}, "no layout fits"),
    "an unknown table": ({"layouts": {"table": "nope"}}, "nope"),
}


@pytest.mark.parametrize(
    "edit",
    [
        lambda line: line.update(loss_N=line["loss_N"][:-1]),
        lambda line: line.update(loss_N=[]),
        lambda line: line["loss_N"].__setitem__(0, 1e308),
        lambda line: line["loss_N"].__setitem__(0, -1.0),
        lambda line: line.update(contender="nobody"),
        lambda line: line.update(seed=9),
        lambda line: line.update(layout=["ssa"] * 9),
    ],
    ids=["short", "empty", "huge", "negative", "nobody", "no seed", "deep"],
)
def test_a_line_of_losses_that_cannot_be_is_refused(made: Path, whole: Path, tmp_path: Path, edit: Any) -> None:
    place = Path(shutil.copytree(whole, tmp_path / "copy"))
    heading, *lines = map(json.loads, (place / "losses.jsonl").read_text().splitlines())
    edit(lines[1])
    (place / "losses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (heading, *lines)))
    with pytest.raises(InputError, match=r"a line of losses\.jsonl in .* is of another comparison, or was changed"):
        s2search.train_compare(asked(made), place)


def test_a_run_that_stands_twice_with_other_losses_is_refused(made: Path, whole: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(whole, tmp_path / "copy"))
    text = (place / "losses.jsonl").read_text()
    line = json.loads(text.splitlines()[1])
    (place / "losses.jsonl").write_text(text + json.dumps(line) + "\n")
    s2search.train_compare(asked(made), place)  # the same again says nothing else
    line["loss_N"][0] += 1e-3
    (place / "losses.jsonl").write_text(text + json.dumps(line) + "\n")
    with pytest.raises(InputError, match="is of another comparison, or was changed"):
        s2search.train_compare(asked(made), place)


def test_a_comparison_says_by_which_table_it_prices(made: Path, tmp_path: Path) -> None:
    from s2search.tables.table import open_table

    given = asked(made, layouts={"table": "iphone-16-pro-max", "budget": "45ms", "random": 0}, seeds=[0])
    given["run"]["optimizer"]["steps"] = 1
    found = s2search.train_compare(given, tmp_path / "out")
    assert found.table == open_table("iphone-16-pro-max").digest
    assert found.layouts.budget == "45ms"
    heading = json.loads((tmp_path / "out/losses.jsonl").read_text().splitlines()[0])
    assert heading["table"] == found.table


def test_what_all_runs_share_may_be_written_with_dots(made: Path, whole: Path) -> None:
    given = asked(made)
    flat = {"data": given["run"]["data"]}
    flat |= {
        f"{table}.{key}": v for table, inner in given["run"].items() if table != "data" for key, v in inner.items()
    }
    assert s2search.train_compare(given | {"run": flat}, whole).contenders == read(whole).contenders


@pytest.mark.parametrize(("changes", "problem"), BAD.values(), ids=BAD)
def test_a_bad_comparison_is_one_line_before_any_training(
    made: Path, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(S2SearchError) as error:
        s2search.train_compare(asked(made, **changes), tmp_path / "out")
    assert problem in str(error.value)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, InfeasibleError) == ("fits" in problem)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"seeds": [0, 1, 2]}, "seeds.2 is absent there and 2 here"),
        ({"samples": 13}, "samples is 12 there and 13 here"),
        ({"run": {"optimizer": {"steps": 5, "batch": 4}}}, "run.optimizer.steps is 4 there and 5 here"),
        (
            {"contenders": {"even": {}, "low": {"model.layout": "S3L"}}},
            "contenders.low.model.layout is 'S4' there and 'S3L' here",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_another_comparison_in_the_same_folder_is_refused(
    made: Path, whole: Path, change: dict[str, Any], problem: str
) -> None:
    given = asked(made)
    if "run" in change:
        change = {"run": given["run"] | {"optimizer": {**given["run"]["optimizer"], "steps": 5}}}
    with pytest.raises(InputError, match=r"losses\.jsonl' belongs to another comparison: ") as error:
        s2search.train_compare(given | change, whole)
    assert problem in str(error.value)


def test_other_clips_in_the_same_folder_are_refused(made: Path, whole: Path, tmp_path: Path) -> None:
    s2search.data_make("shapes[count=16,seed=1]", tmp_path / "clips", video="32x32", frames=9, clips=2, held_out=0.4)
    given = asked(made)
    shutil.copytree(whole, tmp_path / "out")
    given["run"] = given["run"] | {"data": str(tmp_path / "clips")}
    with pytest.raises(InputError, match=r"run\.data is "):
        s2search.train_compare(given, tmp_path / "out")
    shutil.copytree(made / "clips", tmp_path / "own")
    given["run"]["data"] = str(tmp_path / "own")
    s2search.train_compare(given | {"seeds": [0]}, tmp_path / "moved")
    shutil.rmtree(tmp_path / "own")
    shutil.move(tmp_path / "clips", tmp_path / "own")
    with pytest.raises(InputError, match=r"inputs\.even\.data is 'sha256:"):
        s2search.train_compare(given | {"seeds": [0]}, tmp_path / "moved")


def test_a_folder_of_something_else_is_refused(made: Path, whole: Path) -> None:
    with pytest.raises(InputError, match="is not empty, and no comparison; choose another folder"):
        s2search.train_compare(asked(made), whole / "even/0")


def test_equal_layouts_are_trained_apart_where_something_else_differs(made: Path, tmp_path: Path) -> None:
    given = asked(made, seeds=[0], contenders={"a": {}, "b": {"optimizer.lr": 1e-4}, "c": {"trainer": "flow[shift=5]"}})
    found = s2search.train_compare(given, tmp_path / "out")
    assert {one.trained_as for one in found.contenders} == {"a", "b", "c"}
    assert len({one.loss for one in found.contenders}) == 3


def test_a_contender_that_searches_its_layout_has_the_ones_that_it_found(made: Path, tmp_path: Path) -> None:
    s2search.plan(TABLE, depth=4, budget="45ms").save(tmp_path / "plan.json")
    searched = {"trainer": "layout_search[draws=1]", "model.plan": str(tmp_path / "plan.json")}
    layouts = {"table": TABLE, "budget": "45ms", "random": 0}
    s2search.plan(TABLE, depth=4, budget="45.1ms").save(tmp_path / "other.json")
    other = searched | {"model.plan": str(tmp_path / "other.json")}
    plans = {"planned": {"model.plan": searched["model.plan"]}, "other plan": {"model.plan": other["model.plan"]}}
    given = asked(made, layouts=layouts, contenders={"searched": searched, "other": other, **plans})
    found = s2search.train_compare(given, tmp_path / "out")
    (one,) = (one for one in found.contenders if one.name == "searched")
    left = [json.loads((tmp_path / f"out/searched/{seed}/model/config.json").read_text())["layout"] for seed in (0, 1)]
    assert [list(layout) for layout in one.layouts] == list(map(list, dict.fromkeys(map(tuple, left))))
    assert one.fits
    trained_as = {one.name: one.trained_as for one in found.contenders}
    assert (trained_as["searched"], trained_as["other"]) == ("searched", "other")
    assert (trained_as["planned"], trained_as["other plan"]) == ("published", "published")


def test_a_plan_of_another_table_is_refused(made: Path, tmp_path: Path) -> None:
    s2search.plan("h100", depth=4, video="512x288").save(tmp_path / "plan.json")
    contenders = {"a": {}, "b": {"model.plan": str(tmp_path / "plan.json")}}
    layouts = {"table": TABLE, "budget": "40ms", "random": 0}
    with pytest.raises(
        InputError, match=r"the plan of the contender 'b' has the table h100.* and \[layouts\] has iphone"
    ):
        s2search.train_compare(asked(made, layouts=layouts, contenders=contenders), tmp_path / "out")


def test_held_out_clips_of_one_recording_are_refused_before_any_training(made: Path, tmp_path: Path) -> None:
    s2search.data_make("shapes[count=4]", tmp_path / "clips", video="32x32", frames=9, clips=2, held_out=0.25)
    given = asked(made)
    given["run"] = given["run"] | {"data": str(tmp_path / "clips")}
    with pytest.raises(InputError, match="all held-out clips are of one recording"):
        s2search.train_compare(given, tmp_path / "out")
    assert not (tmp_path / "out").exists()
