"""Verification: whether a package keeps its promise, check by check."""

from __future__ import annotations

from collections.abc import Sequence

from s2search.reporting.report.campaign import GivenPart
from s2search.reporting.report.markup import Html, element, facts, joined, table, verdict
from s2search.reporting.report.origins import Origins
from s2search.reporting.verification import SIGNS, note_of, number_text
from s2search.reporting.verification import verdict as in_short
from s2search.verification.result import CheckResult, Verification

_WORDS = {"passed": "✓ passed", "failed": "✗ FAILED", "not_run": "– not run"}
_MOST = 120


def verifications_html(found: Sequence[GivenPart[Verification]], origins: Origins) -> Html:
    """Return every package's verdict, its checks, and what they ran in."""
    return joined(_one(given, origins) for given in found)


def _one(given: GivenPart[Verification], origins: Origins) -> Html:
    found = given.part
    digests = {"model": found.model_digest, "plan": found.plan_digest}
    told = ", ".join(f"{name} {digest[7:19]}" for name, digest in digests.items() if digest)
    pairs = [
        ("Exporter", origins.number(f"{found.exporter}, {found.precision}", f"{given.told}: exporter and precision")),
        (
            "What is in it",
            origins.number(told, f"{given.told}: model_digest and plan_digest of the package's manifest"),
        ),
        ("Checked in", origins.number(_environment(found), f"{given.told}: environment")),
    ]
    shown = found.checks[:_MOST]
    heads = ("check", "result", "value", "asked", "unit", "required", "arithmetic", "what there is to say")
    rows = [_check(check, given, origins) for check in shown]
    verdict_ = verdict(
        "good" if found.passed else "bad", origins.number(in_short(found), f"{given.told}: its checks, counted")
    )
    return joined(
        [
            element("h3", found.package),
            verdict_,
            facts(pairs),
            table(f"Checks of {found.package}", heads, rows, words=2, last_words=4),
        ]
    )


def _environment(found: Verification) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.environment.items())


def _check(check: CheckResult, given: GivenPart[Verification], origins: Origins) -> list[str]:
    origin = f"{given.told}: the check {check.name}"
    asked = "" if check.threshold is None else f"{SIGNS[check.bound]} {number_text(check.threshold)}"
    missed = check.status == "failed" and not check.required
    return [
        check.name,
        element("span", "✗ missed" if missed else _WORDS[check.status], class_=check.status),
        origins.number(
            "" if check.value is None else number_text(check.value), f"{origin}, measured {check.where}".rstrip()
        ),
        origins.number(asked, f"{origin}, its threshold"),
        check.unit,
        "yes" if check.required else "no",
        check.mode,
        origins.number(note_of(check), origin),
    ]
