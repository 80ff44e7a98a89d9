"""Looking, while a model is trained, at what it makes: the best average is kept, and a run that goes wrong is ended.

Distribution matching improves what a model makes for some hundreds of steps and may then harm it: colours saturate, or
nothing moves any more. No loss shows that. So a run that watches makes samples every so many steps, holds them against
held-out clips, and leaves the average that was nearest.

Looks are kept among the metrics of the run, and all that follows from them (the best one, whether to stop) is a
function of those rows: a run that was killed decides as one that was not.

Axes: N samples  C channels  T latent frames  Y X latent rows and columns
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from s2search.training.distance.watched import FROZEN_BELOW, SATURATED_ABOVE, WatchedDistance

if TYPE_CHECKING:
    from torch import Tensor, nn

    from s2search.training.distance.held_out import HeldOutDistance
    from s2search.training.run_folder import Row

_BEFORE = "watch."
_LEAST_ERROR = 1e-12


@dataclass(frozen=True, kw_only=True)
class SampleWatch:
    """How a run watches.

    Attributes:
        every: Steps between looks. The first weights and the last ones are looked at too.
        samples: That are made for a look.
        patience: Looks in a row that see the same fault before the run is ended; 0: it never is.
        made: Returns latents_NCTYX of samples by their numbers, which are in order, of a network.
        distance: Held-out clips to hold them against.
    """

    every: int
    samples: int
    patience: int
    made: Callable[[nn.Module, range], Tensor]
    distance: HeldOutDistance


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen.

    Attributes:
        step: Steps that were done.
        seen: What samples of the averaged weights were like then.
    """

    step: int
    seen: WatchedDistance

    @classmethod
    def of(cls, step: int, values: Mapping[str, float]) -> Self | None:
        """Return the look of such rows; None where some are missing."""
        values = {name.removeprefix(_BEFORE): value for name, value in values.items() if name.startswith(_BEFORE)}
        mmd, error = (
            {name.removeprefix(before): value for name, value in values.items() if name.startswith(before)}
            for before in ("mmd.", "mmd_error.")
        )
        std, motion = values.get("std_ratio"), values.get("motion_ratio")
        if not mmd or mmd.keys() != error.keys() or std is None or motion is None:
            return None
        return cls(step=step, seen=WatchedDistance(mmd=mmd, mmd_error=error, std_ratio=std, motion_ratio=motion))

    @property
    def values(self) -> dict[str, float]:
        """The rows of the metrics, without their step."""
        seen = self.seen
        found = {f"{_BEFORE}mmd.{name}": value for name, value in seen.mmd.items()}
        found |= {f"{_BEFORE}mmd_error.{name}": value for name, value in seen.mmd_error.items()}
        return found | {f"{_BEFORE}std_ratio": seen.std_ratio, f"{_BEFORE}motion_ratio": seen.motion_ratio}


@dataclass(frozen=True, kw_only=True)
class Watched:
    """All looks of a run, in the order of their steps."""

    looks: tuple[Look, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Self:
        """Return the looks among metrics, without one that a killed process tore."""
        found: dict[int, dict[str, float]] = {}
        for step, name, value in rows:
            found.setdefault(step, {})[name] = value
        looks = (Look.of(step, values) for step, values in sorted(found.items()))
        return cls(looks=tuple(look for look in looks if look is not None))

    def and_then(self, look: Look) -> Watched:
        """Return these looks and a later one."""
        return Watched(looks=(*self.looks, look))

    @property
    def best(self) -> Look | None:
        """The nearest to held-out clips of all looks behind the first step; a faulty one only where all are."""
        trained = [look for look in self.looks if look.step]
        sound = [look for look in trained if not (look.seen.saturated or look.seen.frozen)]
        return min(sound or trained, key=self.apart, default=None)

    def apart(self, look: Look) -> float:
        """Return how far samples were: the mean over networks of MMD^2 in standard errors of the first look."""
        scale = self.looks[0].seen.mmd_error
        parts = [value / max(scale[name], _LEAST_ERROR) for name, value in look.seen.mmd.items()]
        return sum(parts) / len(parts)

    def fault(self, patience: int) -> str:
        """Return, in words, what each of the last looks saw and is worse than at first; empty where there is nothing.

        Args:
            patience: How many looks; 0: none.
        """
        if not patience or len(self.looks) <= patience:
            return ""
        first, last = self.looks[0].seen, self.looks[-patience:]
        if all(look.seen.saturated and look.seen.std_ratio > first.std_ratio for look in last):
            now = last[-1].seen.std_ratio
            return f"saturated: standard deviation {now:.2f} times that of clips, above {SATURATED_ABOVE:g}"
        if all(look.seen.frozen and look.seen.motion_ratio < first.motion_ratio for look in last):
            return f"frozen: frames move {last[-1].seen.motion_ratio:.2f} times as clips do, below {FROZEN_BELOW:g}"
        return ""

    def said(self, patience: int) -> str:
        """Return in words what the run leaves, and why it ended; empty where it did not watch."""
        best = self.best
        if best is None:
            return ""
        count = len([look for look in self.looks if look.step])
        nearest = f"of {count} looks the nearest to held-out clips" if count > 1 else "the only one looked at"
        words = f"model/ is the average after step {best.step}, {nearest}"
        if not self.looks[0].step and self.apart(best) >= self.apart(self.looks[0]):
            words += "; it is no nearer than what the run began with"
        if best.seen.saturated or best.seen.frozen:
            fault = "saturated" if best.seen.saturated else "frozen"
            words += f"; every look saw a fault, and what this one makes is {fault}"
        if fault := self.fault(patience):
            words += f"; ended at step {self.looks[-1].step}: {fault}"
        return words
