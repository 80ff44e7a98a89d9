"""The Android profiler against a phone that answers adb as the recorded transcripts do."""

import dataclasses
import re
from pathlib import Path

import pytest

from s2search.errors import InputError
from s2search.measurement import adb
from s2search.measurement import executorch as executorch_xnnpack
from s2search.measurement.adb import Adb, executorch_ms
from s2search.measurement.adb_transport import AdbTransport, Transport, devices
from s2search.measurement.campaign import measure
from s2search.measurement.executorch import xnnpack_program
from s2search.measurement.litert import litert_ms, model_name
from s2search.measurement.samples import Protocol
from s2search.testing.profilers import check_profiler, miniature_items

DATA = Path(__file__).parents[1] / "data" / "adb"
ITEMS = [item for item in miniature_items() if item.key in ("stream ssa 1x3x3", "stream down 1x3x3")]


def transcript(name):
    return (DATA / name).read_text()


LOOK, WELL = "Pss:{:>17} kB\nVmHWM:\t{:>8} kB\n", "ended with 0\n"


class Phone(Transport):
    """Keeps what is pushed, runs the runner, and prints as the real tools do."""

    def __init__(self):
        self.files, self.log, self.commands, self.unplug_after = {}, "", [], None
        self.prints, self.quiet, self.edit = "benchmark_model.txt", False, lambda printed: printed
        self.watched = LOOK.format(8000, 9000) + LOOK.format(20000, 26000) + LOOK.format(18000, 26000) + WELL

    def run(self, *words, check=True):
        self.commands.append(words)
        if self.unplug_after is not None and len(self.commands) > self.unplug_after and check:
            raise InputError("`adb shell` failed with 1: adb: device '3A041FDD4003AB' not found", remedy="plug it in")
        match words:
            case ("devices",):
                return transcript("devices.txt")
            case ("shell", "getprop"):
                return transcript("getprop.txt")
            case ("shell", "dumpsys battery"):
                return transcript("battery.txt")
            case ("push", here, "/data/local/tmp/s2search/libraries"):
                assert here.endswith("/.")
                return f"{here}: 2 files pushed, 0 skipped.\n"
            case ("push", here, there):
                self.files[there] = Path(here).read_bytes()
                return f"{here}: 1 file pushed, 0 skipped. 37.3 MB/s ({len(self.files[there])} bytes in 0.021s)\n"
            case ("logcat", "-c"):
                self.log = ""
                return ""
            case ("logcat", "-d", "-s", "ExecuTorch:I"):
                return self.log
            case ("logcat", "-d", "-s", "tflite:V", "litert:V"):
                return self.log
            case ("shell", command) if "smaps_rollup" in command:
                assert "VmHWM" in command
                return self.watched
            case ("shell", command) if "/data/local/tmp/s2search/runner " in command:
                return self.benchmark(dict(re.findall(r"--(\w+)=(\S*)", command)))
            case ("shell", command) if command.startswith(("mkdir", "chmod", "rm -rf /data/local/tmp/s2search")):
                return ""
        raise AssertionError(f"adb does not know {words}")

    def benchmark(self, flags):
        assert self.files["/data/local/tmp/s2search/runner"]
        if "graph" in flags:
            assert self.files[flags["graph"]]
            printed = transcript(self.prints)
            if self.quiet:
                kept = [line for line in printed.splitlines(keepends=True) if " with delegate (" not in line]
                self.log = "".join(set(printed.splitlines(keepends=True)) - set(kept))
                printed = "".join(kept)
            return self.edit(printed)
        size = len(self.files[flags["model_path"]])
        assert all(self.files[name] for name in flags["inputs"].split(","))
        calls = int(flags["num_executions"])
        head = transcript("executor_runner.logcat.txt").split("11-23 10:15:02.153")[0]
        line = "11-23 10:15:02.153 21544 21544 I ExecuTorch: executor_runner.cpp:812] Iteration {} of {}: {:f} ms\n"
        slow = [50.0, 5.0, 2.0]
        times = [size / 1e4 * (slow[n] if n < 3 else 1 + 0.01 * (n % 2)) for n in range(calls)]
        self.log = head + "".join(line.format(n, calls, ms) for n, ms in enumerate(times, start=1))
        return ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnFakePhone(Adb):
    def transport(self):
        return PHONE


PHONE = Phone()


PROGRAMS = {}


def program(call):
    """The real program of an item, exported once: that takes seconds."""
    item = type(call.module)
    PROGRAMS[item] = PROGRAMS.get(item) or xnnpack_program(call)
    return PROGRAMS[item]


@pytest.fixture(autouse=True)
def fresh_phone(monkeypatch):
    PHONE.__init__()
    monkeypatch.setattr(executorch_xnnpack, "xnnpack_program", program)
    monkeypatch.setattr(adb.shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.fixture
def runner(tmp_path):
    (tmp_path / "executor_runner").write_bytes(b"\x7fELF")
    return str(tmp_path / "executor_runner")


def test_executor_runner_is_read_without_its_first_calls():
    assert executorch_ms(transcript("executor_runner.logcat.txt"), 5) == pytest.approx(9.2)
    assert executorch_ms(transcript("executor_runner.stderr.txt"), 4) == pytest.approx(9.1)


def test_a_runner_that_stopped_early_or_logs_nothing_is_an_error_with_its_last_words():
    cut = transcript("executor_runner.logcat.txt").split("Iteration 4")[0]
    with pytest.raises(InputError, match=r"timed 3 of 5 calls: .*EXECUTORCH_ENABLE_LOGGING"):
        executorch_ms(cut, 5)
    with pytest.raises(InputError, match="timed 5 of 6 calls"):
        executorch_ms(transcript("executor_runner.logcat.txt"), 6)
    with pytest.raises(InputError, match="timed 0 of 4 calls: it printed nothing"):
        executorch_ms("", 4)


def test_benchmark_model_is_read_in_microseconds_without_its_warm_up():
    assert litert_ms(transcript("benchmark_model.txt")) == pytest.approx(9.3094)
    assert litert_ms("INFO: Inference timings in us: Init: 1, Inference (avg): 1.2e+06") == 1200
    with pytest.raises(InputError, match=r"printed no inference time: .*failed to load"):
        litert_ms("STARTING!\nERROR: failed to load the model\n")


@pytest.mark.slow
def test_it_keeps_the_contract_of_profilers(runner):
    check_profiler(OnFakePhone(runner=runner), ITEMS)


@pytest.mark.slow
def test_a_campaign_on_the_phone_ends_in_a_table_with_its_facts(tmp_path, runner):
    profiler = OnFakePhone(runner=runner)
    table = measure(profiler, ITEMS, tmp_path / "t", preset="mini", protocol=Protocol(rounds=2))
    assert (table.card.device, table.card.chip, table.card.os) == ("Example Phone 3", "QTI SM8850", "Android 16")
    assert table.card.protocol["conditions"]["celsius"]["first"] == 28.7
    assert table.card.protocol["conditions"]["battery_percent"]["first"] == 87
    assert {row.bytes_provenance for row in table.rows} == {"derived"}
    assert PHONE.commands[-1] == ("shell", "rm -rf /data/local/tmp/s2search")


def test_an_unplugged_phone_ends_the_run_and_the_same_command_goes_on(tmp_path, runner, monkeypatch):
    # What the programs hold is all the same to the phone; the slow tests push real ones.
    monkeypatch.setattr(executorch_xnnpack, "xnnpack_program", lambda call: (bytes(10_000), {"xnnpack": 1}))
    profiler = OnFakePhone(runner=runner)
    arguments = {"preset": "mini", "protocol": Protocol(rounds=4)}
    PHONE.unplug_after = 60
    with pytest.raises(InputError, match="not found"):
        measure(profiler, ITEMS, tmp_path / "t", **arguments)
    assert not (tmp_path / "t/card.json").exists()
    PHONE.unplug_after = None
    table = measure(profiler, ITEMS, tmp_path / "t", **arguments)
    assert {row.samples for row in table.rows if row.part != "long_skip"} == {4}


def test_litert_takes_files_that_were_converted_elsewhere(tmp_path, runner):
    (tmp_path / "models").mkdir()
    profiler = OnFakePhone(tool="litert", runner=runner, models=str(tmp_path / "models"))
    assert profiler.why_not() is None
    with pytest.raises(InputError, match=r"there is no .*stream-ssa-1x3x3\.tflite.*convert it with litert-torch"):
        profiler.prepare(ITEMS[0])
    (tmp_path / "models" / model_name(ITEMS[0])).write_bytes(b"TFL3")
    with profiler.session():
        prepared = profiler.prepare(ITEMS[0])
        assert prepared.time_ms(20) == pytest.approx(9.3094)
        assert prepared.memory().weight_bytes == 4


@pytest.fixture
def accelerated(tmp_path, runner):
    """Make a profiler of LiteRT on a unit of the phone, with one model and the vendor's libraries."""
    for folder in ("models", "libraries"):
        (tmp_path / folder).mkdir()
    (tmp_path / "models" / model_name(ITEMS[0])).write_bytes(b"TFL3")
    (tmp_path / "libraries" / "libLiteRtDispatch_Qualcomm.so").write_bytes(b"\x7fELF")
    told = {"tool": "litert", "runner": runner, "models": str(tmp_path / "models")}
    return lambda unit: OnFakePhone(**told, unit=unit, libraries=str(tmp_path / "libraries") if unit == "npu" else "")


@pytest.mark.parametrize("quiet", [False, True], ids=["on the terminal", "in Android's log alone"])
@pytest.mark.parametrize(
    ("unit", "prints", "ms"),
    [("gpu", "benchmark_model.gpu.txt", 3.0935), ("npu", "benchmark_litert_model.npu.txt", 1.38)],
)
def test_litert_is_timed_on_a_gpu_or_an_npu_that_took_every_operation(accelerated, unit, prints, ms, quiet):
    profiler = accelerated(unit)
    assert profiler.why_not() is None
    PHONE.prints, PHONE.quiet = prints, quiet
    with profiler.session():
        assert profiler.prepare(ITEMS[0]).time_ms(20) == pytest.approx(ms)
    device = profiler.device()
    assert (device.compute_unit, device.precision, device.threads) == (unit, "float16", None)
    assert device.runtime == f"LiteRT {unit.upper()}"
    command = next(words[-1] for words in PHONE.commands if "runner --graph" in words[-1])
    assert f"--use_{unit}=true --use_cpu=false --require_full_delegation=true" in command
    assert ("push", f"{profiler.libraries}/.", "/data/local/tmp/s2search/libraries") in PHONE.commands or unit == "gpu"
    folder = "/data/local/tmp/s2search/libraries"
    npu = command.startswith(f"LD_LIBRARY_PATH={folder} ADSP_LIBRARY_PATH={folder} ")
    assert npu == (f"--dispatch_library_path={folder}" in command) == (unit == "npu")


def test_what_a_gpu_left_to_the_cpu_is_refused_with_how_much(accelerated):
    PHONE.prints, PHONE.edit = "benchmark_model.gpu.txt", lambda text: text.replace("Replacing 49", "Replacing 46")
    profiler = accelerated("gpu")
    line = "stream ssa 1x3x3: 46 of 49 operations ran on the GPU, 3 on cpu; a row is of one unit"
    with profiler.session(), pytest.raises(InputError, match=line):
        profiler.prepare(ITEMS[0]).time_ms(20)


def test_a_delegate_that_could_not_be_made_is_no_measurement_of_its_unit(accelerated):
    PHONE.prints = "benchmark_model.txt"  # of the CPU: LiteRT goes on without an error
    profiler = accelerated("npu")
    with profiler.session(), pytest.raises(InputError, match="no line of the log proves that anything ran on the NPU"):
        profiler.prepare(ITEMS[0]).time_ms(20)


def test_an_npu_needs_the_vendors_libraries_and_executor_runner_is_of_the_cpu(accelerated):
    lacking = dataclasses.replace(accelerated("npu"), libraries="")
    assert lacking.why_not() == "no libLiteRtDispatch*.so is in ''; give adb[unit=npu,libraries=FOLDER]"
    with pytest.raises(InputError, match=r"XNNPACK on the CPU, not the GPU; give adb\[tool=litert,unit=gpu\]"):
        Adb(unit="gpu")


@pytest.mark.parametrize(
    ("printed", "serial", "reason"),
    [
        ("List of devices attached\n\n", "", "adb sees no phone; connect one with USB debugging switched on"),
        ("List of devices attached\nA\tunauthorized\n", "", "the phone A is unauthorized; unlock it"),
        ("List of devices attached\nA\toffline\n", "", "the phone A is offline"),
        ("List of devices attached\nA\tdevice\nB\tdevice\n", "", "adb sees 2 phones: A, B; choose one"),
        ("List of devices attached\nA\tdevice\n", "C", "adb sees no phone 'C', only A"),
        ("List of devices attached\nA\tdevice\nB\tdevice\n", "B", None),
        (
            "* daemon not running; starting now at tcp:5037\n* daemon started successfully\n"
            "List of devices attached\nA\tdevice\n",
            "",
            None,
        ),
    ],
)
def test_why_not_says_what_the_phone_needs(monkeypatch, printed, serial, reason):
    monkeypatch.setattr(Phone, "run", lambda self, *words: printed)
    found = devices(PHONE, serial)
    assert found is None if reason is None else found.startswith(reason)


def test_without_adb_or_a_runner_it_says_so_in_one_line(monkeypatch, runner):
    assert "no executor_runner for the phone at ''" in OnFakePhone().why_not()
    assert "no benchmark_model for the phone at ''" in OnFakePhone(tool="litert").why_not()
    assert "no folder of .tflite files" in OnFakePhone(tool="litert", runner=runner).why_not()
    monkeypatch.setattr(adb.shutil, "which", lambda name: None)
    assert Adb(runner=runner).why_not() == "adb is not on PATH; install Android's platform-tools, and connect a phone"


def test_the_real_transport_reports_a_failed_command_in_one_line(tmp_path, monkeypatch):
    """A stand-in for the adb program: it fails as the real one does when the cable is pulled."""
    program = tmp_path / "adb"
    program.write_text(
        "#!/bin/sh\ncase \"$*\" in\n*devices*) printf 'List of devices attached\\nA\\tdevice\\n';;\n"
        "*slow*) exec sleep 5;;\n*) echo \"adb: device 'A' not found\" >&2; exit 1;;\nesac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert devices(AdbTransport(serial="A"), "A") is None
    with pytest.raises(InputError, match=r"`adb push x y` failed with 1: adb: device 'A' not found; plug") as refusal:
        AdbTransport().run("push", "x", "y")
    assert "\n" not in str(refusal.value)
    assert "not found" in AdbTransport().run("push", "x", "y", check=False)
    with pytest.raises(InputError, match=r"did not answer `adb slow` within 0\.2 s"):
        AdbTransport(timeout_s=0.2).run("slow")


def test_what_the_tools_process_takes_stands_in_the_row(runner, tmp_path):
    profiler = OnFakePhone(runner=runner)
    table = measure(profiler, ITEMS, tmp_path / "t", preset="tiny", protocol=Protocol(rounds=2))
    for row in (row for row in table.rows if row.part != "long_skip"):
        assert row.memory_counter == "process pss+vm_hwm"
        assert (row.memory_steady_bytes, row.memory_peak_bytes) == (19000 * 1024, 26000 * 1024)
        assert row.memory_load_bytes is row.memory_first_bytes is None
        assert (row.unit_asked, row.unit_ran) == ("cpu", "cpu:1")


def test_a_phone_that_hides_pss_or_was_too_quick_to_be_seen_is_no_error():
    assert adb.resident_of("VmHWM:\t 10 kB\n" + WELL).columns["memory_steady_bytes"] is None
    assert adb.resident_of(WELL) is None


@pytest.mark.parametrize("printed", ["", "ended with 137\n", LOOK.format(1, 2)])
def test_a_tool_that_died_while_it_was_watched_is_an_error_in_one_line(printed):
    with pytest.raises(InputError, match="ended otherwise than well while its memory was watched") as refusal:
        adb.resident_of(printed)
    assert "\n" not in str(refusal.value)
