"""The figure of verification's numbers."""

import dataclasses

from s2search.reporting.parity_figure import parity_figure
from s2search.verification.result import Verification, judged, not_run

BLOCKS = {"stem": 70.0, "layers.0": 62.0, "head": 66.0}
CHUNKS = {"chunk 0": 59.0, "chunk 1": 58.0}


def check(name, parts, threshold, mode="", *, required=True):
    found = judged(name, 1.0, threshold, "at least", unit="dB", required=required, parts=parts)
    return dataclasses.replace(found, mode=mode)


def drawn(*checks):
    found = Verification(
        passed=True,
        package="tiny",
        exporter="coreml",
        precision="float16",
        model_digest="sha256:0",
        plan_digest=None,
        environment={},
        checks=checks,
    )
    return parity_figure(found).axes


def lines(axes):
    found = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}
    return {label: values for label, values in found.items() if not label.startswith("_")}


def test_every_mode_has_its_marks_and_what_is_required_its_line():
    left, right = drawn(
        check("blocks.float16", BLOCKS, 60.0, "float16"),
        check("blocks.pessimistic", BLOCKS, 55.0, "pessimistic", required=False),
        check("stream.reuse_last", CHUNKS, 40.0, "float16"),
        check("stream.pessimistic", CHUNKS, 40.0, "pessimistic", required=False),
        check("stream.free_running", CHUNKS, 40.0, "float16", required=False),
    )
    assert lines(left) == {"float16": [70, 62, 66], "pessimistic": [70, 62, 66]}
    assert [label.get_text() for label in left.get_xticklabels()] == ["stem", "0", "head"]
    assert [text.get_text() for text in left.texts] == ["asked: 60 dB"]
    assert lines(right) == {"float16 reuse_last": [59, 58], "pessimistic": [59, 58]}
    assert [text.get_text() for text in right.texts] == ["asked: 40 dB"]


def test_a_package_that_runs_as_a_whole_has_no_blocks():
    left, right = drawn(not_run("blocks", "it runs as a whole"), check("stream.clean_pass", CHUNKS, 40.0))
    assert not lines(left)
    assert lines(right) == {"clean_pass": [59, 58]}
