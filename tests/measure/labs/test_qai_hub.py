"""Qualcomm AI Hub behind its own client classes where they are installed, and everywhere by what they made once."""

import contextlib
import json
import sys
import types
from pathlib import Path
from unittest import mock

import pytest

from s2search.errors import InputError
from s2search.measurement.campaign import measure
from s2search.measurement.jobs import JobAnswer, JobFailedError
from s2search.measurement.labs import qai_hub as labs_qai_hub
from s2search.measurement.labs.base import LabPhone
from s2search.measurement.labs.qai_hub import QaiHub, QaiHubLab, profile_answer
from s2search.measurement.litert import model_name
from s2search.measurement.samples import Protocol
from s2search.testing.profilers import check_profiler, miniature_items

RECORD = Path(__file__).parents[2] / "data" / "labs" / "qai_hub.json"
LAYERS = [("ssa/qkv", "CONV_2D", "NPU"), ("ssa/scores", "BATCH_MATMUL", "NPU"), ("ssa/softmax", "SOFTMAX", "NPU")]
PHONE = "Samsung Galaxy S25 (Family)"
TIMES_US = [3010, 2890, 2900, 2880, 2920]


class Server:
    """AI Hub's answers, in the protocol buffers of its client, put in the place of its HTTP calls."""

    def __init__(self, api_pb):
        self.pb, self.requests, self.uploads, self.raise_at = api_pb, [], [], {}
        self.state, self.reason, self.layers = api_pb.JobState.JOB_STATE_DONE, "", LAYERS

    @contextlib.contextmanager
    def in_place(self):
        names = ("get_device_list", "create_and_upload_model", "create_inference_job", "get_job", "get_job_results")
        with contextlib.ExitStack() as stack:
            for name in (*names, "get_job_summary_list"):
                stack.enter_context(mock.patch(f"qai_hub.client.api.{name}", self.answering(name)))
            yield self

    def answering(self, name):
        def call(config, *arguments, **named):
            if error := self.raise_at.get(name):
                raise error
            return getattr(self, name)(*arguments, **named)

        return call

    def device(self):
        attributes = ["framework:tflite", "os:android", "chipset:qualcomm-snapdragon-8-elite"]
        return self.pb.Device(name=PHONE, os="15", attributes=attributes)

    def get_device_list(self, name="", os="", attributes=(), select=False):
        known = name == PHONE
        return self.pb.DeviceList(devices=[self.device()] if known else [])

    def create_and_upload_model(self, path, model_type, name=None, **_):
        self.uploads.append(Path(path).name)
        return self.pb.CreateUpdateResponse(id=f"m{len(self.uploads)}")

    def create_inference_job(self, job, project=None):
        self.requests.append(
            self.pb.InferenceJob.FromString(job.SerializeToString())
        )  # the client goes on with its own
        return self.pb.CreateUpdateResponse(id=f"j{len(self.requests)}")

    def get_job(self, job_id):
        job = self.pb.InferenceJob()
        job.CopyFrom(self.requests[int(job_id[1:]) - 1])
        job.inference_job_id, job.job_state, job.failure_reason = job_id, self.state, self.reason
        return self.pb.Job(inference_job=job)

    def get_job_results(self, job_id):
        detail = self.pb.ProfileDetail(major_version=1, minor_version=8, execution_time=min(TIMES_US))
        detail.all_execution_times.extend(TIMES_US)
        for name, kind, unit in self.layers:
            unit = self.pb.ComputeUnit.Value(f"COMPUTE_UNIT_{unit}")
            detail.layer_details.append(self.pb.LayerDetail(name=name, layer_type_name=kind, compute_unit=unit))
        return self.pb.JobResult(inference_job_result=self.pb.InferenceJobResult(detail=detail))

    def get_job_summary_list(self, **_):
        found = [
            self.pb.JobSummary(inference_job_summary=self.pb.InferenceJobSummary(job_id=f"j{n}", name=job.name))
            for n, job in enumerate(self.requests, start=1)
        ]
        return self.pb.JobSummaryList(job_summaries=found[::-1])


@pytest.fixture
def server():
    client = pytest.importorskip("qai_hub.client", reason="qai-hub 0.56 is in an environment of its own")
    with Server(client.api_pb).in_place() as server:
        yield server


@pytest.fixture
def make(server):
    import qai_hub
    from qai_hub.public_rest_api import ClientConfig

    client = qai_hub.Client(config=ClientConfig(api_token="t"))
    return lambda phone=PHONE: QaiHubLab(client, phone, "--compute_unit npu")


@pytest.fixture
def lab(make):
    return make()


@pytest.fixture
def model(tmp_path):
    (tmp_path / "stream-ssa-1x3x3.tflite").write_bytes(b"TFL3")
    return tmp_path / "stream-ssa-1x3x3.tflite"


def test_the_clients_own_classes_submit_find_and_answer_a_profile_job(server, lab, model):
    assert lab.phone() == LabPhone(name=PHONE, chip="qualcomm-snapdragon-8-elite", os="Android 15")
    assert lab.find("s2search-1") is None
    assert (lab.submit("s2search-1", model), lab.submit("s2search-2", model)) == ("j1", "j2")
    assert server.uploads == ["stream-ssa-1x3x3.tflite"], "a model is uploaded once"
    request = server.requests[0]
    assert (request.name, request.options, request.is_profiling_on) == ("s2search-1", "--compute_unit npu", True)
    assert request.device.name == PHONE
    assert lab.find("s2search-1") == "j1"
    server.state = server.pb.JobState.JOB_STATE_MEASURING_PERFORMANCE
    assert lab.look("j1") is None
    server.state = server.pb.JobState.JOB_STATE_CREATED
    assert lab.look("j1") is None
    server.state = server.pb.JobState.JOB_STATE_DONE
    assert lab.look("j1") == JobAnswer(ms=2.9, device=PHONE, placement={"npu": 3})


def test_another_process_reads_the_answer_of_a_job_that_it_did_not_submit(make, model):
    make().submit("s2search-1", model)
    assert make().look("j1").ms == 2.9


def test_a_campaign_by_the_clients_own_classes_ends_in_a_table(server, tmp_path, monkeypatch):
    import qai_hub
    from qai_hub.public_rest_api import ClientConfig

    monkeypatch.setattr(labs_qai_hub, "_client", lambda: qai_hub.Client(config=ClientConfig(api_token="t")))
    items = [item for item in miniature_items() if item.key in ("stream ssa 1x3x3", "stream down 1x3x3")]
    for item in items:
        (tmp_path / model_name(item)).write_bytes(b"TFL3")
    profiler = QaiHub(phone=PHONE, models=str(tmp_path), poll_s=0.0)
    assert profiler.why_not() is None
    check_profiler(profiler, items)
    server.requests.clear()
    table = measure(profiler, items, tmp_path / "t", preset="mini", protocol=Protocol(rounds=2))
    row = next(row for row in table.rows if row.part == "down")
    assert (row.latency_ms, row.compute_unit, row.precision) == (2.9, "npu", "float16")
    assert row.note.endswith(f" on {PHONE}")
    assert (table.card.chip, table.card.os) == ("qualcomm-snapdragon-8-elite", "Android 15")
    assert len(server.requests) == 2 * (2 + 1)
    assert len({request.name for request in server.requests}) == len(server.requests)


def test_a_failed_job_says_why_in_one_line(server, lab, model):
    lab.submit("a", model)
    server.state, server.reason = server.pb.JobState.JOB_STATE_FAILED, "Failed to profile:\nout of memory"
    with pytest.raises(
        JobFailedError, match=r"^the job j1 failed on Qualcomm AI Hub: Failed to profile: out of memory; "
    ):
        lab.look("j1")


def test_layers_on_the_cpu_are_counted(server, lab, model):
    lab.submit("a", model)
    server.layers = [*LAYERS, ("ssa/gather", "GATHER", "CPU")]
    assert lab.look("j1").placement == {"npu": 3, "cpu": 1}


@pytest.mark.parametrize(
    ("at", "code", "said", "line"),
    [
        ("get_device_list", 401, "", "Qualcomm AI Hub says: Failed to authenticate.*; sign in: qai-hub configure"),
        ("create_inference_job", 429, "Too many jobs", "Qualcomm AI Hub takes no more jobs now: Too many jobs; wait"),
        ("create_inference_job", 503, "", "Qualcomm AI Hub says: Internal API failure.*; the same command goes on"),
        (
            "create_inference_job",
            400,
            "Unknown option",
            "Qualcomm AI Hub says: Unknown option; the same command goes on",
        ),
    ],
)
def test_what_the_service_refuses_is_one_line(server, lab, model, at, code, said, line):
    from qai_hub.public_rest_api import APIException

    server.raise_at[at] = APIException(said, status_code=code)
    with pytest.raises(InputError, match=line) as refusal:
        lab.submit("a", model)
    assert "\n" not in str(refusal.value)


def test_no_network_is_one_line(lab, server):
    import requests

    server.raise_at["get_device_list"] = requests.exceptions.ConnectionError("refused")
    with pytest.raises(
        InputError, match=r"^Qualcomm AI Hub says: .*Could not connect to Qualcomm AI Hub.*goes on where"
    ):
        lab.phone()


def test_an_unknown_device_is_named(make):
    with pytest.raises(InputError, match=r"^Qualcomm AI Hub has no device 'Galaxy'; see `qai-hub list-devices`$"):
        make("Galaxy").phone()


def test_without_a_token_it_says_how_to_sign_in(server, tmp_path, monkeypatch):
    monkeypatch.setenv("QAIHUB_CLIENT_INI", str(tmp_path / "none.ini"))
    said = QaiHub(phone="x", models=str(tmp_path)).why_not()
    assert said.endswith("sign in: qai-hub configure --api_token TOKEN")
    assert said.splitlines() == [said]


def test_without_the_client_it_names_the_extra(monkeypatch):
    if "qai_hub" in sys.modules or QaiHub().missing() is None:
        pytest.skip("the client is here")
    assert QaiHub().why_not() == "qai-hub is not installed; install its extra: pip install 's2search[qai_hub]'"


def test_the_record_is_what_the_clients_classes_make_today(server, lab, model):
    from google.protobuf import json_format

    lab.submit("s2search-1", model)
    record = json.loads(RECORD.read_text())
    assert json_format.MessageToDict(server.requests[0]) == record["request"]
    assert json.loads(json.dumps(lab._client.get_job("j1").download_profile())) == record["profile"]


class Recorded:
    """A client that answers with what the real classes made once, without them."""

    def __init__(self):
        self.record = json.loads(RECORD.read_text())
        self.submitted = []

    def get_devices(self, name):
        device = self.record["request"]["device"]
        return [types.SimpleNamespace(**device)] if name == device["name"] else []

    def upload_model(self, path, name):
        return types.SimpleNamespace(model_id=self.record["request"]["model"]["modelId"])

    def submit_inference_job(self, model, device, *, name, options, retry, profile):
        assert (retry, profile) == (False, True)
        told = {"name": name, "options": options, "isProfilingOn": profile, "model": {"modelId": model.model_id}}
        self.submitted.append(told | {"device": vars(device)})
        return types.SimpleNamespace(job_id="j1")

    def get_job(self, job):
        status = types.SimpleNamespace(success=True, failure=False, message=None)
        device = types.SimpleNamespace(**self.record["request"]["device"])
        return types.SimpleNamespace(
            get_status=lambda: status, download_profile=lambda: self.record["profile"], device=device, url=""
        )


def test_the_recorded_request_is_what_we_ask_for_and_the_recorded_answer_is_read(model, monkeypatch):
    errors = types.ModuleType("qai_hub.client")
    errors.Error = type("Error", (Exception,), {})
    errors.RateLimitedError = type("RateLimitedError", (errors.Error,), {})
    monkeypatch.setitem(sys.modules, "qai_hub", types.ModuleType("qai_hub"))
    monkeypatch.setitem(sys.modules, "qai_hub.client", errors)
    client = Recorded()
    lab = QaiHubLab(client, client.record["request"]["device"]["name"], "--compute_unit npu")
    assert lab.submit("s2search-1", model) == "j1"
    assert client.submitted == [client.record["request"]]
    assert lab.look("j1") == JobAnswer(ms=2.9, device=PHONE, placement={"npu": 3})


@pytest.mark.parametrize(
    ("profile", "what"),
    [
        ({}, "layers, so nothing says where it ran"),
        ({"execution_summary": {"all_inference_times": [5]}}, "layers, so nothing says where it ran"),
        ({"execution_detail": [{"compute_unit": "NPU"}]}, "inference times"),
        (
            {"execution_summary": {"all_inference_times": [0]}, "execution_detail": [{"compute_unit": "NPU"}]},
            "inference times",
        ),
    ],
)
def test_an_answer_without_times_or_layers_is_none(profile, what):
    with pytest.raises(InputError, match=f"the job j1 has no {what}"):
        profile_answer(profile, "Phone", "j1")
