"""One or two examples for the end of every help, by the words of the command."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "plan": ("plan --budget 10fps --budget 1.5GB", "plan --layout L4S8L4S8L4 --budget 260ms --explain"),
    "plan check": (
        "plan check plan.json --table new-table",
        "plan check plan.json --tolerance 5% --junit plan.xml --json",
    ),
    "plan diff": ("plan diff before.json after.json", "plan diff before.json after.json --json"),
    "plan precision": ("plan precision sensitivity.json --least-db 30",),
    "design": (
        "design --budget 10fps --budget 1.2GB",
        "design --budget 30fps --choose 'steps=1|2|4,video=512x288|768x432'",
    ),
    "frontier": (
        "frontier --out front.csv --budget 1.5GB --html front.html",
        "frontier --table h100 --video 512x288 --confidence 0.95 --json",
    ),
    "measure": ("measure --out mine", "measure --out mine --profiler onnxruntime --role block --rounds 60"),
    "stream": (
        "stream --preset s2dit-tiny --random-weights --out video.mp4",
        "stream --package step --package decoder --out video.mp4",
    ),
    "sensitivity": ("sensitivity weights --out sensitivity.json",),
    "export": (
        "export weights --exporter onnx --out package",
        "export --exporter coreml --part dct --out decoder",
    ),
    "verify": ("verify package", "verify package --threshold stream=50 --json"),
    "package": ("package lint model.mlpackage", "package evaluate model.mlpackage --inputs x.npz"),
    "package lint": ("package lint model.mlpackage", "package lint package --json"),
    "package evaluate": (
        "package evaluate model.mlpackage --inputs x.npz --mode float32",
        "package evaluate mine --inputs x.npz --function first --out y.npz",
    ),
    "recalibrate": (
        "recalibrate mine --out mine-corrected --preset s2dit-tiny",
        "recalibrate --score pipeline --out corrected",
    ),
    "report": ("report campaign.html plan.json pipeline", "report phone.html --table h100 front.json"),
    "run": ("run --preset nano --out pipeline", "run --preset mine.toml --out mine --dry-run"),
    "plugins": ("plugins",),
    "schema": ("schema", "schema plan"),
    "table list": ("table list", "table list --json"),
    "table": ("table show iphone-16-pro-max", "table lint mine"),
    "table retabulate": ("table retabulate mine",),
    "table lint": ("table lint iphone-16-pro-max", "table lint measurements.csv --json"),
    "table evaluate": ("table evaluate layouts.csv",),
    "table import": ("table import hat latencies.csv --out theirs",),
    "table compare": ("table compare mine theirs",),
    "table merge": ("table merge monday tuesday --out both --overlap pool",),
    "table show": ("table show iphone-16-pro-max --figure table.png",),
    "table transfer": ("table transfer --known one.csv --known two.csv --target mine.csv",),
    "data": ("data make videos --out clips", "data inspect clips"),
    "data make": (
        "data make videos --out clips --video 128x64 --frames 33",
        "data make 'shapes[count=500]' --out clips --video 128x64",
    ),
    "data inspect": ("data inspect clips", "data inspect clips --json"),
    "data verify": ("data verify clips",),
    "cache": (
        "cache make 'local[folder=run/model]' --data clips --out cache",
        "cache inspect cache",
    ),
    "cache make": (
        "cache make 'local[folder=run/model]' --data clips --out cache",
        "cache make 'wan22[folder=wan]' --data clips --out cache --dry-run",
    ),
    "cache inspect": ("cache inspect cache", "cache inspect cache --json"),
    "cache verify": ("cache verify cache --data clips",),
    "distance": (
        "distance train clips",
        "distance measure run/model --data clips --network net.safetensors",
    ),
    "distance train": ("distance train clips --out distance.safetensors",),
    "distance measure": (
        "distance measure run/model --data clips --network net.safetensors",
        "distance measure a b --data clips --network n --steps 1,2,4 --json",
    ),
    "kit": ("kit build --out kit", "kit ingest kit/results.jsonl"),
    "score": ("score measure run/model --data clips --out scores",),
    "score measure": (
        "score measure model --data clips --out scores --candidates lcha,ssa",
        "score measure model --data clips --out scores --runs 2 --runs 4",
    ),
    "score judge": ("score judge scores/score.json other/check.json --figure judge.png",),
    "score check": ("score check scores model --data clips --figure check.png",),
    "train": (
        "train --data clips --out run --set optimizer.steps=500",
        "train run.toml --out run --dry-run",
    ),
    "train compare": (
        "train compare compare.toml --out layouts --figure layouts.png",
        "train compare compare.toml --out layouts --csv layouts.csv",
    ),
    "kit build": (
        "kit build --out kit --contexts --layouts 15 --package package",
        "kit build --out kit --shots 2 --known h100 --sustained 5m",
    ),
    "kit ingest": ("kit ingest kit/results.jsonl --out latency_tables",),
    "": ("plan --budget 10fps", "plan --help"),
}


def epilog(command: str) -> str:
    """Return the end of a command's help. The first line keeps Typer from joining the others."""
    return "\n".join(["\b", "Examples:", *(f"  s2search {line}" for line in EXAMPLES[command])])
