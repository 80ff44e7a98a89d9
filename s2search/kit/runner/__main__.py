"""`python3 -m runner check | run`, in the kit's folder on a Mac."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .apple import Apple, Phone, ToolError, UnpluggedError
from .cold import measure_cold
from .journal import Journal, RefusalError
from .steady import finished, measure_steady

_POLL_S = 1.0


def main() -> int:
    """Run a command; return its exit status: 0 done, 1 stopped before the end, 2 something to mend first."""
    options = _options()
    try:
        return _check() if options.command == "check" else _run(options)
    except RefusalError as refusal:
        print(f"runner: {refusal}", file=sys.stderr)
        return 2
    except ToolError as error:
        print(f"runner: {error.stage} failed: {error}; the whole message is in runner.log", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename} " if error.filename else ""
        print(f"runner: {where}cannot be used: {error.strerror}; fix that and repeat the command", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("runner: interrupted; nothing is lost: repeat the command", file=sys.stderr)
        return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m runner", description="Measure a phone with this Mac.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="see whether tools and phone are ready")
    run = commands.add_parser("run", help="measure; go on where the last run stopped")
    run.add_argument("--team", required=True, help="your Apple developer team identifier")
    run.add_argument("--chip", default="not stated", help="the phone's chip, for the table: Apple does not tell it")
    run.add_argument("--wait", type=float, default=600.0, help="seconds to wait for an unplugged phone")
    run.add_argument("--skip-cold", action="store_true", help="leave out placement and cold samples")
    return parser.parse_args()


def _check() -> int:
    manifest, _ = _manifest()
    apple = _apple(manifest)
    apple.check()
    phone = _phone(apple)
    print(f"{phone.kind}, {phone.os}, connected; {len(manifest['rows'])} rows, {len(manifest['order'])} samples: ready")
    return 0


def _run(options: argparse.Namespace) -> int:
    manifest, digest = _manifest()
    apple = _apple(manifest)
    apple.check()
    phone = _phone(apple)
    journal = Journal(Path("results.jsonl"))
    journal.begin(
        {
            "kit": digest,
            "device": phone.kind,
            "device_type": phone.product,
            "device_digest": hashlib.sha256(phone.udid.encode()).hexdigest()[:16],
            "chip": options.chip,
            "os": phone.os,
            "tools": {"coremltools": _version("coremltools"), "macos": platform.mac_ver()[0] or platform.platform()},
        }
    )
    kit = Path.cwd()
    while True:
        try:
            if not options.skip_cold:
                measure_cold(kit, manifest, journal, apple, phone, options.team)
            measure_steady(kit, manifest, journal, apple, phone, options.team)
            break
        except ToolError:
            if apple.is_connected(phone):
                raise
            _wait(apple, phone, options.wait)
        except UnpluggedError:
            _wait(apple, phone, options.wait)
    failed = {line["row"]: line for line in journal.of("failed")}
    for row, line in sorted(failed.items()):
        found = manifest["rows"][row]
        what = found["part"] or found["program"]["layout"]
        print(f"row {row} ({what}): {line['reason']} at {line['stage']}: {line['message']}")
    print(f"done: {len(journal.of('sample'))} samples; bring results.jsonl back to s2search kit ingest")
    return 0 if finished(manifest, journal) else 1


def _wait(apple: Apple, phone: Phone, seconds: float) -> None:
    print(f"{phone.name} is not connected; waiting up to {seconds:.0f} s for it", flush=True)
    end = time.monotonic() + seconds
    while not apple.is_connected(phone):
        if time.monotonic() >= end:
            raise RefusalError(f"{phone.name} did not come back; plug it in, unlock it and repeat the command")
        time.sleep(min(_POLL_S, seconds))


def _manifest() -> tuple[dict[str, Any], str]:
    try:
        content = Path("manifest.json").read_bytes()
    except OSError:
        raise RefusalError("there is no manifest.json here; change to the kit's folder") from None
    try:
        manifest = json.loads(content)
        paths = {package["path"] for package in manifest["packages"]}
    except (ValueError, KeyError, TypeError):
        raise RefusalError("manifest.json is not whole; copy the kit's folder again") from None
    if gone := sorted(path for path in paths if not Path(path).exists()):
        more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
        raise RefusalError(f"{gone[0]}{more} of {len(paths)} packages missing here; copy the kit's folder again")
    return manifest, f"sha256:{hashlib.sha256(content).hexdigest()}"


def _apple(manifest: dict[str, Any]) -> Apple:
    return Apple(Path("runner.log"), 4.0 * manifest["protocol"]["timeout_s"])


def _phone(apple: Apple) -> Phone:
    phones = [phone for phone in apple.phones() if phone.connected]
    if len(phones) != 1:
        found = ", ".join(phone.name for phone in phones) or "none"
        raise RefusalError(f"one connected iPhone is needed, and there is: {found}; plug in one and unlock it")
    if phones[0].developer_mode.lower() not in ("enabled", ""):
        raise RefusalError(f"Developer Mode of {phones[0].name} is {phones[0].developer_mode}; turn it on in Settings")
    return phones[0]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        raise RefusalError(f"there is no {name}; python3 -m pip install coremltools==9.0") from None


if __name__ == "__main__":
    sys.exit(main())
