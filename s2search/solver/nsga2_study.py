"""The optuna study behind nsga2: its sampler, its storage, its trials. Only this file imports optuna.

A trial's parameters are its candidates, `layer_0`, `layer_1`, ...; its values are score, latency (us) and memory
(bytes, the largest peak included). Layers with one allowed candidate are no parameters.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from s2search.errors import CheckError, InputError, ScoreError
from s2search.solver.problem import Problem
from s2search.solver.variation import Layout, Pricing, child, mutate, nondominated, repair, seeds

if TYPE_CHECKING:
    from s2search.solver.nsga2 import LayoutScore, Nsga2

_DIRECTIONS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE, StudyDirection.MINIMIZE]
_DIGEST = "s2search:problem"
_REPAIRED = 0.9  # of the children; the others keep the way through layouts that break a limit open
_BY_SCORE, _RIVALS = 0.8, 8  # measured: a larger share of 2 to 16 rivals closes the gap, most of it by here
_ATTEMPTS = 30  # at a layout that was not evaluated before
_LOCKED_S = 60.0  # how long an SQLite file may be locked by other processes


def evolve(solver: Nsga2, problem: Problem, score: LayoutScore | None) -> list[tuple[Layout, float]]:
    """Search a problem whose `group_size` is 1, and return the front of admitted layouts with their scores.

    Raises:
        InputError: The storage cannot be used.
        CheckError: The study in the storage belongs to another problem.
        ScoreError: The score of a layout is not finite.
    """
    with _quiet(), _storage_errors(solver.storage):
        sampler = _Sampler(problem, seed=solver.seed, population=solver.population)
        study = _open(solver, problem, sampler)
        search = _Search(study, sampler, score)
        search.run(solver)
        return search.front()


class _Sampler(optuna.samplers.NSGAIISampler):
    """NSGA-II whose generations start from good layouts and whose children are layouts that keep the limits.

    All randomness of a trial comes from the seed and the trial's number: processes that share a study differ.
    """

    def __init__(self, problem: Problem, *, seed: int, population: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            super().__init__(population_size=population, seed=seed, child_generation_strategy=self._child)
        self.problem, self.seed = problem, seed
        self.pricing = Pricing(problem)
        self.rng = np.random.default_rng(seed)
        self.first = seeds(self.pricing, self.rng, most=population)
        self.known: set[Layout] = set()  # evaluated, or under way
        self.space: dict[str, BaseDistribution] = {
            f"layer_{layer}": CategoricalDistribution(choices.tolist())
            for layer, choices in enumerate(self.pricing.choices_L)
            if len(choices) > 1
        }

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return all layers, from the first trial on."""
        return self.space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a layout: a child, or in the first generation a good one or a random one."""
        self.rng = np.random.default_rng([self.seed, trial.number])
        params = super().sample_relative(study, trial, search_space)
        return params or self._params(self._begin())

    def layout(self, params: Mapping[str, Any]) -> Layout:
        """Read a trial's parameters."""
        return tuple(int(params.get(f"layer_{i}", choices[0])) for i, choices in enumerate(self.pricing.choices_L))

    def _params(self, layout: Layout) -> dict[str, Any]:
        return {name: layout[int(name.removeprefix("layer_"))] for name in self.space}

    def _begin(self) -> Layout:
        for layout in self.first:
            if layout not in self.known:
                return layout
        return self._fresh(lambda: self.pricing.random(self.rng))

    def _child(
        self, study: optuna.Study, search_space: dict[str, BaseDistribution], parents: list[FrozenTrial]
    ) -> dict[str, Any]:
        return self._params(self._fresh(lambda: child(self.pricing, [self._pick(parents) for _ in range(2)], self.rng)))

    def _pick(self, parents: Sequence[FrozenTrial]) -> Layout:
        """Return the winner of a tournament: fewer broken limits, then, mostly, the better score.

        Where the score counts, more take part: the best answer is wanted more than an even front.
        """
        by_score = self.rng.random() < _BY_SCORE
        drawn = [parents[int(n)] for n in self.rng.integers(0, len(parents), _RIVALS if by_score else 2)]
        best = min(drawn, key=lambda trial: (sum(trial.constraints.values()), -trial.values[0] if by_score else 0.0))
        return self.layout(best.params)

    def _fresh(self, propose: Callable[[], Layout]) -> Layout:
        """Return a proposal that was not evaluated before; after many attempts, one that strays further."""
        layout = propose()
        for attempt in range(_ATTEMPTS):
            if self.rng.random() < _REPAIRED:
                layout = repair(self.pricing, layout, self.rng)
            if layout not in self.known:
                break
            layout = mutate(self.pricing, propose(), self.rng, changes=1.0 + attempt / 3)
        return layout


class _Search:
    """Trials asked for, evaluated and told, by this process; those of others are taken over as they finish."""

    def __init__(self, study: optuna.Study, sampler: _Sampler, score: LayoutScore | None) -> None:
        self.study, self.sampler, self.score = study, sampler, score
        self.pricing = sampler.pricing
        self.values: dict[Layout, list[float]] = {}
        self.finished = 0
        self.unsettled: list[int] = []
        self.seen = 0
        self.joined_at = len(study.get_trials(deepcopy=False))

    def run(self, solver: Nsga2) -> None:
        """Evaluate layouts until the study has its trials, or every layout is known."""
        best = -math.inf
        self._refresh()
        while self.finished < solver.trials and len(self.values) < self.sampler.problem.layouts:
            solver.progress(self.finished, solver.trials, _label(best))
            best = max(best, self._step())
            self._refresh()
        solver.progress(solver.trials, solver.trials, _label(best))

    def front(self) -> list[tuple[Layout, float]]:
        """Return the admitted layouts that no other dominates, by rising score."""
        admitted = sorted(layout for layout in self.values if self.sampler.problem.admits(layout))
        if not admitted:
            return []
        kept = nondominated(np.array([self.values[layout] for layout in admitted]))
        return [(admitted[n], self.values[admitted[n]][0]) for n in kept]

    def _step(self) -> float:
        """Evaluate one layout; return its score, or minus infinity where it breaks a limit."""
        trial = self.study.ask(self.sampler.space)
        layout = self.sampler.layout(trial.params)
        try:
            score = self._score(layout)
        except BaseException:
            self.study.tell(trial, state=TrialState.FAIL)
            raise
        price = self.sampler.problem.price(layout)
        violation = float(self.pricing.violation_N(np.array([layout]))[0])
        trial.set_constraint("violation", violation)
        self.study.tell(trial, [score, price.latency_us, price.total_bytes])
        return score if violation == 0 else -math.inf

    def _score(self, layout: Layout) -> float:
        if layout in self.values:
            return self.values[layout][0]
        if self.score is None:
            return self.sampler.problem.price(layout).score
        score = float(self.score(layout))
        if not math.isfinite(score):
            raise ScoreError(f"the score of the layout {layout} is {score}", allowed="finite numbers")
        return score

    def _refresh(self) -> None:
        """Take over what finished, and what other processes are at; trials older than this process may be dead."""
        trials = self.study.get_trials(deepcopy=False)
        numbers, self.unsettled = [*self.unsettled, *range(self.seen, len(trials))], []
        self.seen = len(trials)
        for trial in (trials[number] for number in numbers):
            if not trial.state.is_finished():
                self.unsettled.append(trial.number)
            if not self.sampler.space.keys() <= trial.params.keys():
                continue  # another process is still writing it
            layout = self.sampler.layout(trial.params)
            if trial.state == TrialState.COMPLETE:
                self.finished += 1
                self.values[layout] = trial.values
            if trial.state == TrialState.COMPLETE or trial.number >= self.joined_at:
                self.sampler.known.add(layout)


def _label(best: float) -> str:
    return "" if best == -math.inf else f"best score {best:.6g}"


def _open(solver: Nsga2, problem: Problem, sampler: _Sampler) -> optuna.Study:
    digest = _digest(problem)
    study = optuna.create_study(
        storage=None if solver.storage is None else _storage(solver.storage),
        study_name=solver.study or f"s2search-{digest[:16]}",
        directions=_DIRECTIONS,
        sampler=sampler,
        load_if_exists=True,
    )
    trials, attributes = study.get_trials(deepcopy=False), study.user_attrs
    if attributes.get(_DIGEST, None if trials else digest) != digest:
        raise CheckError(
            f"the study {study.study_name!r} in the storage belongs to another problem",
            remedy="give another study=... or another storage",
        )
    if _DIGEST not in attributes:
        study.set_user_attr(_DIGEST, digest)
    return study


def _storage(url: str) -> optuna.storages.RDBStorage:
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    options = {"connect_args": {"timeout": _LOCKED_S}} if url.startswith("sqlite") else {}
    for _ in range(4):  # processes that start together create the tables at once, and all but one fail
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs={**options})
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            if "exist" not in str(error) and "UNIQUE" not in str(error):
                raise
            time.sleep(0.25)
    return optuna.storages.RDBStorage(url, engine_kwargs={**options})


def _digest(value: object) -> str:
    """Return a digest of a problem's fields that make it another problem, the same on every machine."""
    digest = hashlib.sha256()
    for part in _parts(value):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _parts(value: object) -> Iterator[bytes]:
    if dataclasses.is_dataclass(value):
        for item in (item for item in dataclasses.fields(value) if item.compare):
            yield item.name.encode()
            yield from _parts(getattr(value, item.name))
    elif isinstance(value, np.ndarray):
        kind = "<f8" if value.dtype.kind == "f" else "<i8"
        yield f"{kind}{value.shape}".encode()
        yield np.ascontiguousarray(value, kind).tobytes()
    elif isinstance(value, Mapping):
        yield f"mapping of {len(value)}".encode()
        yield repr(sorted(value.items())).encode()
    elif isinstance(value, tuple):
        yield f"tuple of {len(value)}".encode()
        for item in value:
            yield from _parts(item)
    else:
        yield str(value).encode()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep optuna's log, a line per trial, off the terminal."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@contextmanager
def _storage_errors(url: str | None) -> Iterator[None]:
    """Turn whatever a database complains of into one line, its password left out."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise _unusable(url, error) from error


def _unusable(url: str | None, error: BaseException) -> InputError:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        name = make_url(url or "").render_as_string(hide_password=True)
    except ArgumentError:
        name = "" if "@" in (url or "") else str(url)
    cause = error.__cause__ or error
    reason = str(getattr(cause, "orig", None) or cause).splitlines()[0]
    return InputError(
        f"the storage {name!r} cannot be used: {reason}",
        allowed="an SQLAlchemy URL such as sqlite:///search.db",
        remedy="correct it, or check that its database can be reached",
    )
