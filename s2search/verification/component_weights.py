"""Whether the package of a text encoder or a decoder stores its source's weights, tensor by tensor."""

from __future__ import annotations

from torch import nn

from s2search.exporters.component.package import ComponentPackage
from s2search.verification.expected import changes_nothing, difference, half_digest, harmed, told
from s2search.verification.inspectors.base import inspector_of
from s2search.verification.result import CheckResult, judged


def check_weights(package: ComponentPackage, model: nn.Module) -> CheckResult:
    """Compare what every function stores with the network that the source gives.

    Core ML's converter gives some weights another name: the position embeddings that it looks up itself, mean and
    deviation as those of a batch norm. These are known by their numbers, rounded to float16.

    Args:
        package: Of the component.
        model: The network, from the package's source.

    Raises:
        CheckError: A file cannot be read.
    """
    inspector = inspector_of(package)
    expected = inspector.expects(model, model, 1)
    wanted, stored = expected.tensors, list(inspector.stored_tensors(package))
    differing: dict[str, str] = {}
    # What graphs of ONNX share comes once; a function of Core ML has all that it uses.
    files = dict.fromkeys(tensor.file if expected.shares else "" for tensor in stored)
    for file in files:
        ours = [tensor for tensor in stored if tensor.file == file or not file]
        found: set[str] = set()
        for tensor in ours:
            for name in expected.source_names(tensor.name):
                found.add(name)
                if problem := difference(expected.of(tensor.name), tensor):
                    differing.setdefault(name, f"{problem} in {tensor.file}")
        others = [tensor for tensor in ours if not expected.source_names(tensor.name)]
        digests = {half_digest(tensor.values.ravel()) for tensor in ours}
        for name in wanted.keys() - found:
            numbers = wanted[name].detach().numpy()
            if not (expected.shares and (changes_nothing(numbers) or half_digest(numbers.ravel()) in digests)):
                differing.setdefault(name, harmed(wanted[name], others))
    differing = {name: differing[name] for name in wanted if name in differing}
    beside = len({tensor.name for tensor in stored if not expected.source_names(tensor.name)})
    return judged(
        "weights",
        len(differing),
        0,
        "at most",
        unit="tensors differ",
        where=next(iter(differing), ""),
        why=told(differing, len(wanted), beside),
    )
