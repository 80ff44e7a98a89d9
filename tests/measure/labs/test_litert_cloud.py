"""Google's lab devices through LiteRT's command line: the real one where it is installed, else what it printed once."""

import http.server
import json
import re
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

from s2search.errors import InputError
from s2search.measurement.jobs import JobAnswer, JobFailedError
from s2search.measurement.labs import litert_cloud
from s2search.measurement.labs.litert_cloud import LiteRTCloud

DATA = Path(__file__).parents[2] / "data"
RECORD = DATA / "labs" / "litert_cli.json"
OPERATION = "projects/p/locations/global/operations/op-1"
GCLOUD = """#!/bin/sh
echo "$*" >> "{folder}/gcloud.log"
case "$*" in
*print-access-token*) cat "{folder}/token";;
"storage cat "*) cat "{folder}/logcat.txt";;
esac
"""
LITERT = """#!{python}
import sys, time
print({printed!r}, flush=True)
time.sleep({sleep})
sys.exit({code})
"""


class Api(http.server.BaseHTTPRequestHandler):
    """The Device Run API: what is posted, and the answers in their order, the last one for ever."""

    posted, answers, tokens = [], [], []

    def do_POST(self):
        self.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.reply(200, {"name": OPERATION, "metadata": {"target": "projects/p/locations/global/sessions/s-1"}})

    def do_GET(self):
        self.tokens.append(self.headers["Authorization"])
        code, content = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        assert self.path == f"/{OPERATION}"
        self.reply(code, content)

    def reply(self, code, content):
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def finished(result="PASSED", files=("results.pb", "logcat.txt")):
    outputs = [{"gcsOutputFile": {"path": f"gs://p-devicerun/s-1/gpu-caiman-35/{name}"}} for name in files]
    job = {
        "displayName": "gpu-caiman-35",
        "result": {"resultType": result},
        "executionReports": [{"outputFiles": outputs}],
    }
    report = {"result": {"resultType": result}, "jobReports": [job]}
    return {"name": OPERATION, "done": True, "response": {"sessionReport": report}}


@pytest.fixture
def api(tmp_path, monkeypatch):
    Api.posted, Api.answers, Api.tokens = [], [(200, finished())], []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("DEVICE_RUN_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "gcloud", GCLOUD.format(folder=tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    (tmp_path / "token").write_text("token-1\n")
    log = (DATA / "adb" / "benchmark_model.gpu.txt").read_text().splitlines(keepends=True)
    (tmp_path / "logcat.txt").write_text("".join(f"11-30 10:00:00.1 4000 4000 I tflite : {line}" for line in log))
    (tmp_path / "m.tflite").write_bytes(b"TFL3")
    yield Api
    server.shutdown()
    server.server_close()


def program(path, text):
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def lab(api):
    return LiteRTCloud(phone="caiman-35", project="p").lab()


def said(tmp_path, monkeypatch, printed, *, sleep=0, code=1):
    """Put a program in the place of `litert` that prints, waits and ends."""
    program(tmp_path / "bin" / "litert", LITERT.format(python=sys.executable, printed=printed, sleep=sleep, code=code))
    monkeypatch.setattr(litert_cloud, "_litert", lambda: ["litert"])


def test_the_command_submits_is_stopped_and_leaves_the_operation(lab, api, tmp_path, monkeypatch):
    said(tmp_path, monkeypatch, json.loads(RECORD.read_text())["printed"], sleep=60)
    lab = LiteRTCloud(phone="caiman-35", project="p").lab()
    began = time.monotonic()
    assert lab.submit("s2search-1", tmp_path / "m.tflite") == OPERATION
    assert time.monotonic() - began < 30, "nobody waits for the command to see its session end"
    assert lab.find("s2search-1") is None


def test_any_process_reads_the_answer_and_where_it_ran(lab, api):
    api.answers = [(200, {"name": OPERATION, "done": False}), (200, finished())]
    assert lab.look(OPERATION) is None
    assert lab.look(OPERATION) == JobAnswer(ms=pytest.approx(3.0935), device="caiman-35", placement={"gpu": 49})


def test_a_token_that_ran_out_is_asked_for_again_once(lab, api, tmp_path):
    api.answers = [(401, {}), (200, finished())]
    assert lab.look(OPERATION) is not None
    assert (tmp_path / "gcloud.log").read_text().count("print-access-token") == 2
    api.answers = [(401, {})]
    with pytest.raises(
        InputError, match=r"does not know who asks: 401 .*; sign in: gcloud auth application-default login"
    ):
        lab.look(OPERATION)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (finished("FAILED"), f"the job {OPERATION} failed: it ended as FAILED; the same command submits it anew"),
        (
            {"done": True, "error": {"message": "device went away"}},
            f"the job {OPERATION} failed: device went away; the same command submits it anew",
        ),
    ],
)
def test_a_failed_session_is_one_line(lab, api, answer, line):
    api.answers = [(200, answer)]
    with pytest.raises(JobFailedError) as refusal:
        lab.look(OPERATION)
    assert str(refusal.value) == line


def test_a_session_without_a_log_proves_nothing(lab, api):
    api.answers = [(200, finished(files=("results.pb",)))]
    with pytest.raises(InputError, match=r"left no logcat\.txt"):
        lab.look(OPERATION)


def test_without_a_network_nothing_is_lost(lab, monkeypatch):
    monkeypatch.setattr(lab, "_endpoint", "http://127.0.0.1:9")
    with pytest.raises(
        InputError, match=r"^the Device Run API cannot be reached: .*; the same command goes on where this"
    ):
        lab.look(OPERATION)


@pytest.mark.parametrize(
    ("printed", "line"),
    [
        (
            "Fetching GCP access token...\nError: Failed to get a gcloud access token. Run 'gcloud auth "
            "application-default login' first.\nERROR: Your default credentials were not found.",
            "Google Cloud does not know who asks: ERROR: Your default credentials were not found.; sign in: gcloud",
        ),
        (
            "Error: Failed to submit benchmark: 429 Too Many Requests\n{}",
            "the lab takes no more jobs now: Failed to submit benchmark: 429 Too Many Requests; wait",
        ),
        (
            "Error: Failed to submit benchmark: 404 Not Found\n{}\n"
            "List DDP device ids with: gcloud beta device-run devices list --project <PROJECT_ID>",
            "the lab does not take the job: Failed to submit benchmark: 404 Not Found; list them: gcloud beta",
        ),
        (
            "Error: Failed to submit benchmark: <urlopen error [Errno -2] Name or service not known>",
            "the lab does not take",
        ),
        ("", "the lab does not take the job: it printed nothing; the same command goes on"),
    ],
)
def test_what_the_command_refuses_is_one_line(api, tmp_path, monkeypatch, printed, line):
    said(tmp_path, monkeypatch, printed)
    with pytest.raises(InputError) as refusal:
        LiteRTCloud(phone="x", project="p").lab().submit("a", tmp_path / "m.tflite")
    assert str(refusal.value).startswith(line)
    assert "\n" not in str(refusal.value)


def test_what_is_missing_is_said_in_one_line(api, monkeypatch):
    monkeypatch.setattr(litert_cloud, "missing_extra", lambda module: None)
    monkeypatch.delenv("LITERT_GCP_PROJECT", raising=False)
    assert LiteRTCloud().missing().startswith("no Google Cloud project is named; give litert_cloud[project=ID]")
    monkeypatch.setenv("LITERT_GCP_PROJECT", "p")
    assert LiteRTCloud().missing() is None
    monkeypatch.setenv("PATH", "")
    assert LiteRTCloud().missing().startswith("gcloud is not on PATH; install Google Cloud's command line, and sign in")
    with pytest.raises(InputError, match="cannot ask for the NPU; units: cpu, gpu"):
        LiteRTCloud(unit="npu")


def anonymous(session):
    """A session without what the command draws at random."""
    return json.loads(re.sub(r"litert-cli-benchmark-[0-9a-f]{8}", "litert-cli-benchmark-0", json.dumps(session)))


def test_the_real_command_submits_what_the_record_says(lab, api, tmp_path):
    pytest.importorskip("litert_cli", reason="litert-cli 0.2.1 is in an environment of its own")
    assert lab.submit("s2search-1", tmp_path / "m.tflite") == OPERATION
    record = json.loads(RECORD.read_text())
    assert anonymous(api.posted[0]) == record["session"]
    assert lab.look(OPERATION).placement == {"gpu": 49}


def test_the_record_asks_for_the_unit_and_leaves_the_first_calls_out():
    job = json.loads(RECORD.read_text())["session"]["sessionConfig"]["jobConfigs"][0]
    words = job["action"]["androidNativeBinary"]["args"]
    assert {"--use_gpu=true", "--num_runs=50", "--warmup_runs=3", "--min_secs=0.0", "--warmup_min_secs=0.0"} <= set(
        words
    )
    assert job["allocationConfig"]["deviceConfigs"][0]["requirement"] == {"deviceId": "caiman-35"}


def test_a_litert_beside_python_is_preferred(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert litert_cloud._litert() == ["litert"]
    program(tmp_path / "litert", "")
    assert litert_cloud._litert() == [str(tmp_path / "litert")]
    assert shutil.which(str(tmp_path / "litert"))
