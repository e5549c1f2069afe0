"""Custom jobs of steps that name their machine, as Google's own pipeline component starts them."""

import json
import re

from google.protobuf import json_format
from google_cloud_pipeline_components.v1.custom_job import create_custom_training_job_from_component
from kfp import dsl
from kfp.pipeline_spec import pipeline_spec_pb2

from longshore.vertex import VertexSettings

CONFIG = {
    "project": "my-project",
    "location": "us-central1",
    "network": "projects/1/global/networks/default",
    "encryption_key": "projects/my-project/locations/us-central1/keyRings/r/cryptoKeys/k",
    "labels": "team=ml",
}


def without_nothing(value):
    """Without what says nothing, which the launcher takes out, too."""
    if isinstance(value, dict):
        kept = {name: without_nothing(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in ({}, [], "", None, False)}
    return [without_nothing(item) for item in value] if isinstance(value, list) else value


def test_a_machine_is_named_as_googles_own_component_does(documents, digits):
    settings = VertexSettings(machine_type="n1-standard-8", accelerator_type="NVIDIA_TESLA_T4", accelerator_count=2)
    digits["steps"][1]["settings"] = {"vertex": settings.document()}
    digits["steps"][1]["retries"] = 0
    made = documents("vertex_documents")(digits, CONFIG)["job"]["pipelineSpec"]
    json_format.ParseDict(made, pipeline_spec_pb2.PipelineSpec())
    ours = made["deploymentSpec"]["executors"]["exec-train"]["container"]
    payload = json.loads(ours["args"][3])
    pool = payload["job_spec"]["worker_pool_specs"][0]

    container = pool["container_spec"]

    @dsl.container_component
    def train(run: str):
        return dsl.ContainerSpec(container["image_uri"], command=container["command"], args=container["args"])

    component = create_custom_training_job_from_component(
        train,
        machine_type="n1-standard-8",
        accelerator_type="NVIDIA_TESLA_T4",
        accelerator_count=2,
        boot_disk_type="",
        env=container["env"],
    )
    theirs = json_format.MessageToDict(component.pipeline_spec)
    (executor,) = theirs["deploymentSpec"]["executors"].values()
    given = dict(zip(executor["container"]["args"][::2], executor["container"]["args"][1::2], strict=True))
    assert executor["container"]["image"] == ours["image"]
    assert executor["container"]["command"] == ours["command"]
    assert executor["container"]["args"][::2] == ours["args"][::2]
    assert given["--gcp_resources"] == ours["args"][-1]
    (component,) = theirs["components"].values()
    pools = component["inputDefinitions"]["parameters"]["worker_pool_specs"]["defaultValue"]
    assert without_nothing(pools) == without_nothing([pool])
    outputs = component["outputDefinitions"]["parameters"]
    assert {name: output["parameterType"] for name, output in outputs.items()} == {"gcp_resources": "STRING"}
    declared = made["components"]["comp-train"]["outputDefinitions"]["parameters"]
    assert declared == {"gcp_resources": {"parameterType": "STRING"}}
    # Where each part of the job is, by the placeholders of theirs.
    shape = json.loads(re.sub(r"(?<!\")\{\{\$\.inputs[^}]*\}\}(?!\")", "null", given["--payload"]))
    assert set(payload) <= set(shape)
    assert set(payload["job_spec"]) <= set(shape["job_spec"])
