"""Campaigns to draw, whole and hostile ones, and a page taken apart."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any, TypeVar

import msgspec
import numpy as np

import s2search
from s2search.lint.base import Finding
from s2search.lint.linter import lint_table
from s2search.planner.plan import Plan
from s2search.recalibration.attribution import Attribution
from s2search.recalibration.correction import TableCorrection
from s2search.recalibration.result import MISSES, Errors, LayoutTime, Recalibration, judgement_of
from s2search.reporting.report.campaign import CampaignParts, GivenPart, JudgedTable, Learnt, Recalibrated
from s2search.tables.table import LatencyTable, open_table
from s2search.training.judgement import Band, JudgedPart, ModelJudgement
from s2search.training.watch import Watched
from s2search.verification.result import CheckResult, Verification

TABLE = "iphone-16-pro-max"
HOSTILE = (
    "</script></style></title><script>document.title='owned'</script><img src=x onerror=x()>'`\u202e\x1b{{x}}"
    '" onclick="x()" style="background:url(x)'
)
_HTML_VOID = {"meta", "img", "br"}
_Part = TypeVar("_Part")


@dataclasses.dataclass(eq=False)
class Element:
    """An element of a page, with what is around it and in it."""

    tag: str
    attributes: dict[str, str]
    parent: Element | None
    words: list[str] = dataclasses.field(default_factory=list)
    children: list[Element] = dataclasses.field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.words) + "".join(child.text for child in self.children)

    @property
    def around(self) -> Iterator[Element]:
        here: Element | None = self
        while here is not None:
            yield here
            here = here.parent


class Page(HTMLParser):
    """All elements of a page, in order. Elements that are not closed where they were opened are an error."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.every: list[Element] = []
        self._open: list[Element] = []
        self.feed(markup)
        self.close()
        assert not self._open, self._open[-1].tag

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = self._begun(tag, attrs)
        if tag not in _HTML_VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._begun(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1].words.append(data)

    def _begun(self, tag: str, attrs: list[tuple[str, str | None]]) -> Element:
        parent = self._open[-1] if self._open else None
        element = Element(tag=tag, attributes={name: value or "" for name, value in attrs}, parent=parent)
        self.every.append(element)
        if parent:
            parent.children.append(element)
        return element

    def of(self, *tags: str) -> list[Element]:
        return [element for element in self.every if element.tag in tags]


def given(part: _Part, name: str) -> GivenPart[_Part]:
    return GivenPart(part=part, name=name, digest=f"sha256:{'0' * 64}", schema="s2search.x/1")


def whole_campaign() -> CampaignParts:
    """Return a campaign with all kinds of parts."""
    table = open_table(TABLE)
    front = s2search.frontier(table, budget="1.5GB", depth=8)
    plan = s2search.plan(table, budget=["40fps", "1.5GB"], depth=8, explain=True)
    return CampaignParts(
        tables=(given(judged(table), table.name), given(judged(open_table("amd-epyc")), "amd")),
        fronts=(given(front, "front.json"),),
        designs=(given(s2search.design(table, budget=["10fps", "1.3GB"]), "design.json"),),
        plans=(given(plan, "plan.json"),),
        promises=(given(s2search.plan_check(plan), "check.json"),),
        runs=(given(learnt(), "run"),),
        clips={"run": picture(64, 48)},
        verifications=(given(verification(plan), "report.json"),),
        recalibrations=(
            given(Recalibrated(found=recalibration(table), correction="factor 1.1"), "recalibration.json"),
        ),
    )


def judged(table: LatencyTable) -> JudgedTable:
    found = Finding(row=3, rule="rule_of_3", message="line 3 takes 7 ms less than line 2", remedy="measure 2 again")
    return JudgedTable(table=table, findings=(*lint_table(table), found), samples=("samples.jsonl",))


def learnt(steps: int = 300, strip: bytes | None = None) -> Learnt:
    band = Band(low=0.0, high=0.2, samples=12, loss=0.5, blind=0.9, also={"cos": 0.4})
    part = JudgedPart(name="held-out", samples=12, loss=0.5, blind=0.9, ratio=0.55, ratio_error=0.01, bands=(band,))
    looks = {"watch.mmd.net": 0.3, "watch.mmd_error.net": 0.1, "watch.std_ratio": 0.9, "watch.motion_ratio": 1.1}
    rows = [(step, "loss", 1 / (1 + step)) for step in range(1, steps)] + [(9, *pair) for pair in looks.items()]
    return Learnt(
        trainer="flow",
        steps=steps,
        data="clips",
        metrics=rows,
        judgement=ModelJudgement(steps=steps, parts=(part,)),
        watched=Watched.of(rows),
        strip=picture(64, 16) if strip is None else strip,
    )


def verification(plan: Plan) -> Verification:
    checks = (
        CheckResult(
            name="parity", status="passed", value=91.5, unit="dB", threshold=40.0, bound="at least", why="chunk 2"
        ),
        CheckResult(name="latency", status="not_run", why="not asked for", required=False),
        CheckResult(name="sizes", status="failed", value=3.0, unit="MB", threshold=1.0, bound="at most", where="w.bin"),
    )
    return Verification(
        passed=False,
        package="package",
        exporter="onnx",
        precision="float32",
        model_digest=f"sha256:{'1' * 64}",
        plan_digest=plan.digest,
        environment={"torch": "2.9", "machine": "x86_64"},
        checks=checks,
    )


def recalibration(table: LatencyTable) -> Recalibration:
    sources = {f"{name}_ms": 0.5 for name in MISSES}
    miss = Attribution(
        **sources, errors_ms={"blocks": 0.1}, of_block_ms={"lcha": 0.2}, of_block_errors_ms={"lcha": 0.1}
    )
    times = tuple(
        LayoutTime(
            layout=f"L{n + 1}S{9 - n}",
            held_out=n > 2,
            is_package=n == 0,
            predicted_ms=9.0 + n,
            corrected_ms=10.0 + n,
            measured_ms=10.1 + n,
            error_ms=0.1,
            miss=miss,
        )
        for n in range(8)
    )
    return Recalibration(
        table=table.name,
        table_digest=table.digest,
        runtime="onnxruntime",
        chip="a chip",
        scope="stream 512x288",
        date="2026-11-30",
        correction=TableCorrection(kind="factor", factor=1.1),
        cross_validated={"factor": 0.02},
        fitted=Errors.of(times, held_out=False),
        held_out=Errors.of(times, held_out=True),
        judgement=judgement_of(times, (1.0, 1.0)),
        drift_percent=1.5,
        layouts=times,
        marked=("it drifted by 9 %",),
        samples_digest=f"sha256:{'2' * 64}",
        left_out=("L9: it did not load",),
        new_table="new",
        new_digest=f"sha256:{'3' * 64}",
    )


def picture(width: int, height: int, *, noise: bool = False, comment: str = "") -> bytes:
    """Return a PNG, of one colour or of noise that no codec makes small."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    pixels_HWC = np.zeros((height, width, 3), np.uint8)
    if noise:
        pixels_HWC = np.random.default_rng(0).integers(0, 256, pixels_HWC.shape, np.uint8)
    told, out = PngInfo(), io.BytesIO()
    told.add_text("comment", comment)
    Image.fromarray(pixels_HWC).save(out, "PNG", pnginfo=told)
    return out.getvalue()


def poisoned(value: _Part) -> _Part:
    """Return a document in which every text that its type allows to be anything is `HOSTILE`, also names of blocks."""
    content, kind = msgspec.to_builtins(value), type(value)
    for n, text in enumerate(sorted(_texts(content))):
        changed = _replaced(content, text, f"{HOSTILE}{n}")
        try:
            msgspec.convert(changed, kind)
            written = msgspec.to_builtins(msgspec.convert(changed, kind))
        except (msgspec.ValidationError, s2search.S2SearchError):
            continue
        if _texts(written) == _texts(changed):  # no name of a field, which would be dropped in silence
            content = changed
    found: _Part = msgspec.convert(content, kind)
    assert any(text.startswith(HOSTILE) for text in _texts(content))
    return found


def numbers(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield where numbers stand in what JSON holds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield path
    for key, one in value.items() if isinstance(value, dict) else ():
        yield from numbers(one, (*path, key))
    for place, one in enumerate(value) if isinstance(value, list | tuple) else ():
        yield from numbers(one, (*path, place))


def put(value: Any, path: tuple[str | int, ...], new: float) -> Any:
    """Return what JSON holds with another number at a place."""
    if not path:
        return new
    if isinstance(value, dict):
        return {key: put(one, path[1:], new) if key == path[0] else one for key, one in value.items()}
    return [put(one, path[1:], new) if place == path[0] else one for place, one in enumerate(value)]


def _texts(value: Any) -> set[str]:
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        return {text for pair in value.items() for one in pair for text in _texts(one)}
    return {text for one in value for text in _texts(one)} if isinstance(value, list | tuple) else set()


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, str):
        return new if value == old else value
    if isinstance(value, dict):
        return {_replaced(key, old, new): _replaced(one, old, new) for key, one in value.items()}
    return [_replaced(one, old, new) for one in value] if isinstance(value, list | tuple) else value
