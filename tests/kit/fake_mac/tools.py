"""xcrun, devicectl and xcodebuild, as far as the runner and coremltools call them."""

from __future__ import annotations

import json
import re
import resource
import shutil
import sys
from pathlib import Path

import phone
from world import DEVICE, ROOT, UDID, count, faults, unplugged


def main(tool, *words):
    words = list(words)
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # the Mac's disk is full, not the phone's
    if tool == "xcodebuild":
        return xcodebuild(words)
    if tool == "xcrun":
        if words[0] == "-f":
            print(Path(__file__).parent / "bin" / words[1])
            return 0
        tool, words = words[0], words[1:]
    if tool == "coremlcompiler":
        return compile_package(*words)
    assert tool == "devicectl", tool
    return devicectl(words)


def xcodebuild(words):
    if faults().get("xcodebuild"):
        print('error: No signing certificate "iOS Development" found\n** BUILD FAILED **', file=sys.stderr)
        return 65
    assert f"platform=iOS,id={UDID}" in words
    settings = dict(word.split("=", 1) for word in words if re.fullmatch(r"[A-Z_]+=.*", word))
    app = Path(settings["SYMROOT"], "Release-iphoneos", "KitRunner.app")
    app.mkdir(parents=True, exist_ok=True)
    (app / "bundle").write_text(settings["PRODUCT_BUNDLE_IDENTIFIER"])
    assert settings["DEVELOPMENT_TEAM"]
    return 0


def compile_package(verb, package, folder):
    assert verb == "compile"
    if Path(package).stem in faults().get("does_not_compile", []):
        print(f"coremlcompiler: error: {package}: unsupported op 'surprise' in block main", file=sys.stderr)
        return 1
    made = Path(folder, f"{Path(package).stem}.mlmodelc")
    made.mkdir()
    written = Path(package, "model")  # of the tests' own kits; a real package is a folder of other names
    (made / "model").write_text(written.read_text() if written.exists() else Path(package).stem)
    return 0


def devicectl(words):
    options, rest = {}, []
    while words:
        word = words.pop(0)
        if word in (
            "-j",
            "--json-output",
            "-d",
            "--device",
            "--source",
            "--destination",
            "--domain-type",
            "--domain-identifier",
            "--user",
        ):
            options[word.lstrip("-")[0] if len(word) == 2 else word.lstrip("-")] = words.pop(0)
        elif word in ("--console", "--terminate-existing"):
            options[word.lstrip("-")] = True
        else:
            rest.append(word)
            if rest[:3] == ["device", "process", "launch"] and len(rest) == 4:
                rest += words
                break
    answer = options.get("json-output") or options.get("j")
    gone = unplugged()
    idle = ROOT / "idle"
    if rest == ["list", "devices"]:
        closed = gone or idle.exists()
        tunnel = {"connectionProperties": {"tunnelState": "disconnected" if closed else "connected"}}
        return say(answer, {"devices": [{**DEVICE, **tunnel}]})
    if gone:
        print("ERROR: The device is not connected. (com.apple.dt.CoreDeviceError error 1.)", file=sys.stderr)
        return 1
    assert options["device"] == DEVICE["identifier"]
    idle.unlink(missing_ok=True)
    match rest:
        case ["device", "info", "details"]:
            return say(answer, {"identifier": DEVICE["identifier"]})
        case ["device", "install", "app", app]:
            bundle = Path(app, "bundle").read_text()
            (ROOT / "phone" / bundle / "Documents").mkdir(parents=True, exist_ok=True)
            return say(answer, {"installedApplications": [{"bundleID": bundle, "databaseUUID": "1"}]})
        case ["device", "copy", "to"]:
            return copy(options["source"], container(options) / options["destination"], answer)
        case ["device", "copy", "from"]:
            return copy(container(options) / options["source"], options["destination"], answer)
        case ["device", "process", "launch", bundle, *arguments]:
            assert options["console"]
            return phone.run(ROOT / "phone" / bundle / "Documents" / "kit", arguments, count("launch"))
    raise AssertionError(rest)


def container(options):
    assert options["domain-type"] == "appDataContainer"
    return ROOT / "phone" / options["domain-identifier"]


def copy(source, destination, answer):
    source, destination = Path(source), Path(destination)
    if not source.exists():
        print("ERROR: The file does not exist. (com.apple.dt.CoreDeviceError error 7000.)", file=sys.stderr)
        return 1
    destination.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, destination, dirs_exist_ok=True)
    else:
        shutil.copy(source, destination)
    return say(answer, {"source": str(source), "destination": str(destination)})


def say(answer, result):
    Path(answer).write_text(json.dumps({"info": {"outcome": "success"}, "result": result}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
