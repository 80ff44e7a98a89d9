"""Embedl Hub's device cloud: its own client against a server here, or what that asked for once."""

import http.server
import io
import json
import sys
import threading
import types
import zipfile
from pathlib import Path

import pytest

from s2search.errors import InputError
from s2search.measurement.jobs import JobAnswer, JobFailedError
from s2search.measurement.labs import embedl
from s2search.measurement.labs.base import LabPhone
from s2search.measurement.labs.embedl import Embedl, EmbedlLab

DATA = Path(__file__).parents[2] / "data"
RECORD = DATA / "labs" / "embedl_hub.json"
LOG = (DATA / "adb" / "benchmark_model.gpu.txt").read_text()
AT = "2026-11-30T12:00:00Z"
DEVICE = {"name": "Galaxy S25", "os": "15", "vendor": "Samsung", "platform": "ANDROID", "type": "PHONE"}
JOB = {"id": "job-1", "status": "COMPLETED", "createdAt": AT, "result": "PASSED"}
FILES = {"Host_Machine_Files/tflite-logs.txt": LOG}


class Hub(http.server.BaseHTTPRequestHandler):
    """The API of the device cloud and the storage behind it."""

    asked, uploaded, refusal = [], {}, None
    job, files = JOB, FILES

    def reply(self, content, code=200):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self):
        if self.path == "/archive":
            content = io.BytesIO()
            with zipfile.ZipFile(content, "w") as archive:
                for name, text in self.files.items():
                    archive.writestr(name, text)
            return self.reply(content.getvalue())
        if self.refusal and self.path.startswith(self.refusal[0]):
            return self.reply(self.refusal[2], self.refusal[1])
        cpu = {"architecture": "arm64", "frequency": "MHz", "clock": 4320.0}
        here = f"http://{self.headers['Host']}"
        return self.reply(
            {
                "data": {
                    "/api/device-cloud/devices": [DEVICE | {"cpu": cpu}],
                    "/api/device-cloud/jobs/job-1": self.job,
                    "/api/device-cloud/jobs/job-1/artifacts": {"jobId": "job-1", "url": f"{here}/archive"},
                }[self.path]
            }
        )

    def do_POST(self):
        body = self.body()
        self.asked.append((self.path, json.loads(body) if body else None))
        if self.refusal and self.path.startswith(self.refusal[0]):
            return self.reply(self.refusal[2], self.refusal[1])
        here = f"http://{self.headers['Host']}"
        place = {"id": "place-1", "url": f"{here}/put", "createdAt": AT, "status": "CREATED"}
        return self.reply({"data": self.job | {"status": "PENDING"} if self.path.endswith("jobs") else place})

    def do_PUT(self):
        with zipfile.ZipFile(io.BytesIO(self.body())) as archive:
            self.uploaded |= {name: archive.read(name) for name in archive.namelist()}
        self.reply({})

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    pytest.importorskip("embedl_hub", reason="embedl-hub 0.0.7 is in an environment of its own")
    for name, value in {"asked": [], "uploaded": {}, "refusal": None, "job": Hub.job, "files": Hub.files}.items():
        monkeypatch.setattr(Hub, name, value)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Hub.port = server.server_port
    yield Hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def make(hub):
    from embedl_hub._internal.tracking.rest_api import ApiConfig
    from embedl_hub.tracking import Client

    config = ApiConfig(base_url=f"http://127.0.0.1:{hub.port}/", api_key="key")
    return lambda phone="Galaxy S25", unit="gpu": EmbedlLab(Client(config), phone, unit, 50)


@pytest.fixture
def model(tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"TFL3")
    return tmp_path / "m.tflite"


def test_the_clients_own_classes_submit_and_answer_a_job(make, hub, model):
    lab = make()
    assert lab.phone() == LabPhone(name="Samsung Galaxy S25", os="Android 15")
    assert lab.submit("s2search-1", model) == "job-1"
    assert hub.uploaded["model.tflite"] == b"TFL3"
    assert make().look("job-1") == JobAnswer(ms=pytest.approx(3.0935), device="Galaxy S25", placement={"gpu": 49})
    assert lab.find("s2search-1") is None


def test_the_record_is_what_the_clients_classes_ask_for_today(make, hub, model):
    make().submit("s2search-1", model)
    record = json.loads(RECORD.read_text())
    assert [list(one) for one in hub.asked] == record["asked"]
    assert json.loads(hub.uploaded["benchmark-params.json"]) == record["benchmark-params.json"]
    make(unit="cpu").submit("s2search-2", model)
    assert "use_gpu" not in json.loads(hub.uploaded["benchmark-params.json"])


@pytest.mark.parametrize("status", ["PENDING", "PENDING_DEVICE", "RUNNING", "STOPPING"])
def test_a_job_that_waits_or_runs_has_no_answer(make, monkeypatch, status):
    monkeypatch.setattr(Hub, "job", Hub.job | {"status": status, "result": None})
    assert make().look("job-1") is None


def test_a_failed_job_is_one_line(make, monkeypatch):
    monkeypatch.setattr(Hub, "job", Hub.job | {"result": "ERRORED"})
    with pytest.raises(
        JobFailedError, match=r"^the job job-1 failed on Embedl Hub: it ended as ERRORED; the same command"
    ):
        make().look("job-1")


@pytest.mark.parametrize("files", [{}, {"other.txt": ""}])
def test_a_job_without_a_log_proves_nothing(make, monkeypatch, files):
    monkeypatch.setattr(Hub, "files", files)
    with pytest.raises(InputError, match=r"^the job job-1 left no tflite-logs\.txt; look at it on Embedl Hub$"):
        make().look("job-1")


def test_what_fell_back_to_the_cpu_is_counted(make, monkeypatch):
    monkeypatch.setattr(Hub, "files", {"tflite-logs.txt": LOG.replace("Replacing 49", "Replacing 40")})
    assert make().look("job-1").placement == {"gpu": 40, "cpu": 9}


QUOTA = {"message": "Too many", "errors": [{"code": "job_quota_exceeded", "detail": "Quota of 10 jobs a day."}]}


@pytest.mark.parametrize(
    ("refusal", "line"),
    [
        (
            ("/api/device-cloud/jobs", 429, QUOTA),
            "Embedl Hub takes no more jobs now: Quota of 10 jobs a day; wait; the same",
        ),
        (
            ("/api/device-cloud/devices", 401, {}),
            "Embedl Hub says: 401 Invalid or expired API key.*; sign in: embedl-hub",
        ),
        (("/api/device-cloud/uploads", 500, {}), "Embedl Hub says: 500 .*; the same command goes on"),
    ],
)
def test_what_the_service_refuses_is_one_line(make, hub, model, refusal, line):
    hub.refusal = refusal
    with pytest.raises(InputError, match=line) as refused:
        make().submit("a", model)
    assert "\n" not in str(refused.value)


def test_an_unknown_device_is_named(make):
    with pytest.raises(InputError, match=r"^Embedl Hub: .*'?Pixel'?.*; see its list of devices$"):
        make("Pixel").phone()


def test_no_network_is_one_line(make, hub, model):
    hub.port = 9
    lab = make()
    lab._client.api_config.base_url = "http://127.0.0.1:9/"
    with pytest.raises(InputError, match=r"^Embedl Hub cannot be reached: .*; the same command goes on where this one"):
        lab.phone()


def test_without_a_key_it_says_how_to_sign_in(hub, monkeypatch, tmp_path):
    monkeypatch.delenv("EMBEDL_HUB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    said = Embedl(phone="x", models=str(tmp_path)).why_not()
    assert said.startswith("Embedl Hub says: No API key found")
    assert said.endswith("sign in: embedl-hub auth --api-key KEY")


def test_a_later_release_that_submits_no_jobs_is_refused_by_its_version(monkeypatch):
    monkeypatch.setattr(embedl, "missing_extra", lambda module: None)
    monkeypatch.setattr(embedl, "find_spec", lambda module: None)
    monkeypatch.setattr(embedl, "version", lambda name: "0.0.8")
    assert Embedl().missing() == "embedl-hub 0.0.8 submits no jobs; pip install embedl-hub==0.0.7"


def test_the_answer_is_read_from_recorded_objects_without_the_client(monkeypatch):
    record = json.loads(RECORD.read_text())
    errors = types.SimpleNamespace(**{name: type(name, (Exception,), {}) for name in record["errors"]})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("Host_Machine_Files/tflite-logs.txt", LOG)
    job = types.SimpleNamespace(status=types.SimpleNamespace(is_final=lambda: True), result=record["job"]["result"])
    api = types.SimpleNamespace(
        **vars(errors),
        get_device_cloud_job=lambda config, name: job,
        get_device_cloud_job_artifacts=lambda config, name: types.SimpleNamespace(url="x"),
        download_file=lambda url: content.getvalue(),
    )
    home = "embedl_hub._internal.tracking"
    package = types.ModuleType(home)
    package.rest_api = api
    for name, module in {home: package, f"{home}.rest_api": api, f"{home}.errors": errors}.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("embedl_hub", "embedl_hub._internal"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    lab = EmbedlLab(types.SimpleNamespace(api_config=None), "Galaxy S25", "gpu", 50)
    assert lab.look(record["job"]["id"]) == JobAnswer(
        ms=pytest.approx(3.0935), device="Galaxy S25", placement={"gpu": 49}
    )
