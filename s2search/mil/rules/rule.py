"""The rules that a Core ML package is held against: what was seen to work, what to fail, who says so, what to do.

None of it was measured here. The facts are of others' models on others' devices, and partly of one report each: a
package inside all of them is one of a kind that was seen to run on the Neural Engine, and not one that must.
"""

from __future__ import annotations

from dataclasses import dataclass

_APPLE = 'Apple, coreai-models, neural_engine_rules.md ("{}")'


@dataclass(frozen=True, kw_only=True)
class LintRule:
    """A rule and what is known of it.

    Attributes:
        name: Of the rule.
        works: What was seen to work.
        fails: What was seen to fail, or to be slow.
        source: Who says so.
        remedy: What to do about a finding.
        needs_run: Whether only a run with inputs tells; without one it is not looked at.
    """

    name: str
    works: str
    fails: str
    source: str
    remedy: str
    needs_run: bool = False


@dataclass(frozen=True, kw_only=True)
class RuleFinding:
    """One place where a package breaks a rule.

    Attributes:
        rule: Its name.
        function: In which function; empty where the whole package is meant.
        names: Operations, tensors or files, the first first.
        problem: What is found there, in one line.
    """

    rule: str
    function: str
    names: tuple[str, ...]
    problem: str


_OF_PLACE = (
    LintRule(
        name="float32_operation",
        works="float16 in every operation",
        fails="float32 operations run on GPU or CPU, and every change of processor costs 0.6 to 1.8 ms",
        source=f"{_APPLE.format('float32')}; coreai-torch issue 66",
        remedy="compute in float16 (divide what is too large for it before), or move float32 to the border",
    ),
    LintRule(
        name="states",
        works="no state, or one; in some models two that are packed",
        fails="three and more; a ring and a convolution's tail together fail at predict (status=0x1d)",
        source="CoreML-LLM, docs/MLSTATE_PATTERN.md and LFM2_CONVERSION_FINDINGS.md (ten variants bisected)",
        remedy="pack them into one, or let the host keep them: in as inputs, out as outputs of what is new",
    ),
    LintRule(
        name="state_width",
        works="a last axis of 64 bytes or a multiple (32 float16 numbers): 256 works",
        fails="270 fails",
        source=f"coremltools issue 2631 (open); {_APPLE.format('64 bytes')}",
        remedy="pad the last axis to a multiple of 32 float16 numbers, and mask what was added",
    ),
    LintRule(
        name="io_width",
        works="a last axis of 64 bytes or a multiple (32 float16 numbers), of inputs and outputs as of states",
        fails="270 fails as the width of a state; of inputs and outputs Apple asks the same",
        source=f"{_APPLE.format('64 bytes')}; coremltools issue 2631 (open)",
        remedy="pad the last axis to a multiple of 32 float16 numbers, and mask what was added",
    ),
    LintRule(
        name="ring_by_concat",
        works="the host writes the cache (in: read only, out: new keys and values), or one packed state by slices",
        fails="a ring of concat and slice inside the model: compiler error -14 in some graphs",
        source=f"{_APPLE.format('KV cache')}; CoreML-LLM, docs/DECODE_STATE_LAYOUTS.md",
        remedy="return only what is new and let the host write its ring, or assign slices of one packed state",
    ),
    LintRule(
        name="weight_file_size",
        works="weight files up to 2 GiB",
        fails="above 2,147,483,648 bytes the Neural Engine's compiler refuses the file",
        source="coremltools PR 2593, issues 1807, 2503 and 2758",
        remedy="split the model into a chain of packages, or store its weights in fewer bits",
    ),
    LintRule(
        name="package_size",
        works="packages below about 1 GB; shipped applications split into two to four",
        fails="above 1.0 to 1.4 GB silently on the GPU; a failed compile can end the process at the first predict",
        source="CoreML-LLM, docs/DECODE_STATE_LAYOUTS.md, section 2; coremltools issues 2503 and 2758",
        remedy="split the model into a chain of packages, or store its weights in fewer bits",
    ),
    LintRule(
        name="palette_with_state",
        works="palettes without a state; both, written by coremltools 8.3",
        fails="written by coremltools 9.0 both together crash after 100 to 200 predicts on the Neural Engine",
        source="coremltools issue 2716 (open)",
        remedy="let the host keep the state, or write the package with coremltools 8.3",
    ),
    LintRule(
        name="tool_version",
        works="palettes whose scale is in their tables",
        fails="palettes with a scale per channel, as coremltools 8.0 to 9.0 write them, fail at load",
        source="coremltools PR 2688 (open)",
        remedy="leave enable_per_channel_scale out, or write the package with a version that folds the scale in",
    ),
)
_OF_PROGRAM = (
    LintRule(
        name="no_cover",
        works="the operations that s2search's evaluator computes",
        fails="what this one does is not checked here",
        source="s2search, docs/package.md",
        remedy="report it, with the layer that it comes from",
    ),
    LintRule(
        name="rank_above_5",
        works="up to five axes",
        fails="Core ML takes no more",
        source="coremltools, ML Program format",
        remedy="reshape to fewer axes",
    ),
    LintRule(
        name="rank_above_4",
        works="four axes, channels before tokens (BC1S)",
        fails="the Neural Engine works on four; five are reported to be slower, and not wrong",
        source=_APPLE.format("layout"),
        remedy="join two axes; what a function returns may be reshaped as callers want it",
    ),
    LintRule(
        name="conv_3d",
        works="convolutions over two axes",
        fails="a convolution over three axes is reported never to run on the Neural Engine",
        source="ExecuTorch and LiteRT refuse it; s2search, docs/decisions/export.md",
        remedy="join the first axis with the channels: one grouped 2-D convolution gives the same",
    ),
    LintRule(
        name="softplus_above_10",
        works="relu(x) + log(1 + exp(-abs(x)))",
        fails="softplus is reported to fall to 0 above an input of about 10.4",
        source="coremltools issue 2687",
        remedy="write it out as above",
        needs_run=True,
    ),
)

#: All rules by name, those on where a package runs first.
RULES = {rule.name: rule for rule in (*_OF_PLACE, *_OF_PROGRAM)}
#: Those that say whether the Neural Engine runs a package; the others, whether it is right.
PLACE_RULES = tuple(rule.name for rule in _OF_PLACE)
