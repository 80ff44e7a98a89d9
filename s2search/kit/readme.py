"""README.md of a kit: what it is, the four commands, and the time that they take."""

from __future__ import annotations

from msgspec import UnsetType

from s2search.cost import format_bytes
from s2search.kit.manifest import KitManifest

# Estimates for a first visit, not measurements: no phone was at hand when they were written.
_FIRST_LOAD_S = 20.0
_LATER_LOAD_S = 2.0
_ROUND_TRIP_S = 2.0
_SET_UP_S = 420.0
_LONGER = 1.05  # a sustained load ends with a whole round

_TEXT = """# A measuring campaign for a phone

{rows} rows ({packages} packages, {weights}{wholes}) of the model `{preset}`, to be timed on an iPhone by a Mac.
{form}Made by {code_version} with coremltools {coremltools}. `manifest.json` says what is measured and in which order.
{shots}
You need a Mac with Xcode 16 or newer, Python 3.11 to 3.13, an Apple developer account (a free one will do), and an
iPhone with iOS 18 or newer: connected by cable, unlocked, Developer Mode on (Settings, Privacy & Security), screen set
never to lock, not in Low Power Mode, out of its case.

```
python3 -m pip install coremltools==9.0
python3 -m runner check
python3 -m runner run --team YOURTEAMID
s2search kit ingest results.jsonl
```

Run the first three in this folder on the Mac; Xcode shows the team identifier under Settings, Accounts. The fourth runs
anywhere that s2search is installed, beside `manifest.json`; it writes `latency_tables/<device>.coreml.<precision>/`.

Expect about {minutes:.0f} minutes for `run` (an estimate: {cold:.0f} for placement and cold samples,
{steady:.0f} for steady ones,{sustained} {set_up:.0f} to build two apps and copy packages).
If the phone is unplugged, the Mac sleeps or the command dies, nothing is lost: plug the phone in and repeat the third
command. It goes on from `results.jsonl`, the only file that has to come back.

What it does: Apple's driver in coremltools loads every package, tells on which compute unit each operation would run,
and takes cold samples; then the app in `swift/` times all rows in one process on the phone: warm-up until the times
settle, {rounds} rounds in a fresh order, a sentinel every {sentinel_every} rows, the phone's thermal state with every
sample, and a pause where it is too hot.
{load}
Not run so far: the Swift sources and the Xcode project were written on Linux, where neither can be compiled, and the
runner was tested against imitations of Apple's tools. If a step fails, its whole message is in `runner.log`.
"""


def readme(manifest: KitManifest) -> str:
    """Return a kit's README."""
    cold_s, steady_s, sustained_s = _expected_seconds(manifest)
    return _TEXT.format(
        rows=len(manifest.rows),
        packages=len({package.path for package in manifest.packages}),
        weights=format_bytes(manifest.weight_bytes),
        wholes=f", {len(manifest.programs)} rows of whole programs" if manifest.programs else "",
        preset=manifest.preset,
        form=_form_text(manifest),
        shots=_shots_text(manifest),
        code_version=manifest.code_version,
        coremltools=manifest.converter["coremltools"],
        minutes=expected_minutes(manifest),
        cold=cold_s / 60,
        steady=steady_s / 60,
        sustained=f" {sustained_s / 60:.0f} under sustained load," if sustained_s else "",
        load=_load_text(manifest),
        set_up=_SET_UP_S / 60,
        rounds=manifest.protocol.rounds,
        sentinel_every=manifest.protocol.sentinel_every,
    )


def _form_text(manifest: KitManifest) -> str:
    if isinstance(manifest.layout, UnsetType) or isinstance(manifest.state, UnsetType):
        return ""
    return f"The packages have the form of `--exporter 'coreml[layout={manifest.layout},state={manifest.state}]'`.\n"


def _shots_text(manifest: KitManifest) -> str:
    if isinstance(manifest.shots, UnsetType):
        return ""
    model = f"transfer[known={'+'.join(table.name for table in manifest.shots.known)}]"
    return (
        f"\nNot timed, because known tables predict it: {', '.join(manifest.shots.foretold)}.\n"
        f"Once the results are tables, add this to `s2search plan`: `--latency-model '{model}'`.\n"
    )


def _load_text(manifest: KitManifest) -> str:
    seconds, groups = manifest.protocol.sustained_s, len(manifest.groups)
    if seconds is None:
        return ""
    return f"""
Then sustained load: {groups} {"group" if groups == 1 else "groups"} of rows, each timed back to back for {seconds:g} s
without a pause, however hot the phone gets; the last third counts. Do not touch or move the phone meanwhile. A break,
such as an unplugged cable, starts that group's load from the beginning. `kit ingest` then writes two tables: the cold
one, and beside it `<device>.coreml.<precision>.sustained`.
"""


def expected_minutes(manifest: KitManifest) -> float:
    """Return an estimate for the whole campaign, in minutes."""
    return (sum(_expected_seconds(manifest)) + _SET_UP_S) / 60


def _expected_seconds(manifest: KitManifest) -> tuple[float, float, float]:
    """Return estimates for the cold, the steady and the sustained part, in seconds."""
    protocol, rows = manifest.protocol, len(manifest.rows)
    loads_s = _FIRST_LOAD_S + (protocol.cold_loads - 1) * (_LATER_LOAD_S + _ROUND_TRIP_S)
    cold_s = rows * (loads_s + protocol.cold_predictions * _ROUND_TRIP_S)
    sample_s = 2 * protocol.least_sample_ms / 1000
    warm_s = rows * (_LATER_LOAD_S + protocol.warm_up_calls * protocol.least_sample_ms / 1000)
    sustained_s = (
        0.0 if protocol.sustained_s is None else warm_s + len(manifest.groups) * protocol.sustained_s * _LONGER
    )
    return cold_s, warm_s + len(manifest.order) * sample_s, sustained_s
