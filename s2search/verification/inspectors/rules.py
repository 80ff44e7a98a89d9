"""What in a package's graphs is known to go wrong, or slowly, on phones; inspectors look for it.

A convolution over three axes is refused by ExecuTorch and LiteRT and reported never to run on the Neural Engine. Core
ML takes five axes, and the Neural Engine works on four. softplus is reported to fall to 0 there above an input of about
10.4 (coremltools issue 2687).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

RULES = ("conv_3d", "rank_above_5", "rank_above_4", "softplus_above_10")
ADVICE = ("rank_above_4",)  # slower on a phone, and not wrong
LARGEST_SOFTPLUS = 10.0


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """The operations that break one rule.

    Attributes:
        rule: Its name.
        places: What people read: the kind of each operation, and its function.
        required: Whether a package with one is not verified.
        unit: What is counted.
        why: What is known of the rule, for people who see it broken.
    """

    rule: str
    places: tuple[str, ...]
    required: bool = True
    unit: str = "operations"
    why: str = ""


def by_rule(
    found: Iterable[tuple[str, str]], rules: Iterable[str] = RULES, advice: Collection[str] = ADVICE
) -> tuple[RuleResult, ...]:
    """Return what was found, for every rule that was looked for.

    >>> [(one.rule, one.places) for one in by_rule([("conv_3d", "Conv in first")], ["conv_3d", "rank_above_5"])]
    [('conv_3d', ('Conv in first',)), ('rank_above_5', ())]
    """
    places: dict[str, list[str]] = {rule: [] for rule in rules}
    for rule, place in found:
        places[rule].append(place)
    return tuple(
        RuleResult(rule=rule, places=tuple(some), required=rule not in advice) for rule, some in places.items()
    )
