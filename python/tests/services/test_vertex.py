"""Pipeline jobs for Vertex AI, as Google's own package reads them."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud.aiplatform.utils import gcs_utils
from google.cloud.aiplatform_v1 import types
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from longshore.vertex import VertexSettings

CONFIG = {
    "project": "my-project",
    "location": "us-central1",
    "service_account": "trainer@my-project.iam.gserviceaccount.com",
    "network": "projects/1/global/networks/default",
    "encryption_key": "projects/my-project/locations/us-central1/keyRings/r/cryptoKeys/k",
    "labels": "team=ml",
}


@pytest.fixture
def made(documents, digits):
    digits["pipeline"]["schedule"] = {"cron": "30 3 * * *", "timezone": "Europe/Zurich"}
    return documents("vertex_documents")(digits, CONFIG)


def as_google_writes_it(message):
    return json_format.MessageToDict(type(message).pb(message))


def test_googles_types_take_every_field(made):
    job = types.PipelineJob.from_json(json.dumps(made["job"]))
    assert job.runtime_config.gcs_output_directory == "gs://bucket/runs/vertex"
    assert as_google_writes_it(job)["pipelineSpec"] == made["job"]["pipelineSpec"]
    schedule = types.Schedule.from_json(json.dumps(made["schedule"]))
    assert schedule.cron == "TZ=Europe/Zurich 30 3 * * *"
    assert schedule.create_pipeline_job_request.pipeline_job == job


def test_the_protobuf_takes_every_field(made):
    spec = json_format.ParseDict(made["job"]["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())
    resources = made["job"]["pipelineSpec"]["deploymentSpec"]["executors"]["exec-train"]["container"]["resources"]
    assert types.AcceleratorType[resources["accelerator"]["type"]] == types.AcceleratorType.NVIDIA_TESLA_T4
    assert set(spec.root.dag.tasks) == {"load-data", "train", "evaluate"}


def test_the_sdk_takes_it_as_a_template_and_would_submit_the_same(made, tmp_path, monkeypatch):
    path = tmp_path / "pipeline_job.json"
    path.write_text(json.dumps(made["job"]))
    theirs = aiplatform.PipelineJob(
        display_name="digits_pipeline",
        template_path=str(path),
        job_id="digits-pipeline-20260102030405-0123abcd",
        project=CONFIG["project"],
        location=CONFIG["location"],
        labels={"team": "ml"},
        encryption_spec_key_name=CONFIG["encryption_key"],
        credentials=AnonymousCredentials(),
    )
    sent = {}

    class Api:
        def create_pipeline_job(self, **request):
            sent.update(request)
            return types.PipelineJob(request["pipeline_job"], name="projects/1/locations/us-central1/pipelineJobs/1")

    theirs.api_client = Api()
    # It would look for the bucket first.
    bucket = "create_gcs_bucket_for_pipeline_artifacts_if_it_does_not_exist"
    monkeypatch.setattr(gcs_utils, bucket, lambda **_: None)
    theirs.submit(service_account=CONFIG["service_account"], network=CONFIG["network"])
    assert sent["parent"] == "projects/my-project/locations/us-central1"
    assert sent["pipeline_job"] == types.PipelineJob.from_json(json.dumps(made["job"]))


@pytest.mark.parametrize("kind", [kind for kind in types.AcceleratorType if kind.value])
def test_every_type_of_accelerator_is_known(documents, digits, kind):
    digits["steps"][0]["settings"] = {"vertex": VertexSettings(accelerator_type=kind.name).document()}
    made = documents("vertex_documents")(digits, CONFIG)
    executors = made["job"]["pipelineSpec"]["deploymentSpec"]["executors"]
    assert executors["exec-load-data"]["container"]["resources"]["accelerator"]["type"] == kind.name


def test_the_settings_have_the_fields_that_the_program_reads(documents, digits):
    settings = {"accelerator_type": "NVIDIA_L4", "accelerator_count": 4}
    assert {field.name for field in fields(VertexSettings)} == {*settings, "machine_type"}
    digits["settings"] = {"vertex": VertexSettings(**settings).document()}
    made = documents("vertex_documents")(digits, CONFIG)
    executors = made["job"]["pipelineSpec"]["deploymentSpec"]["executors"]
    assert executors["exec-evaluate"]["container"]["resources"]["accelerator"]["count"] == "4"
