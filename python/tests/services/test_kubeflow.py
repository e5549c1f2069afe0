"""Pipelines for Kubeflow, as Kubeflow's own packages read them."""

# No `annotations` of the future: Kubeflow's compiler reads the types themselves.
import json
import subprocess
from dataclasses import fields

import kfp
import kfp_server_api
import pytest
import yaml
from google.protobuf import json_format
from kfp import components, dsl
from kfp.client import client as kfp_client
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from longshore.kubeflow import KubeflowSettings

CONFIG = {"host": "https://kubeflow.example.com", "image_pull_secrets": "regcred", "secret": "store"}
SETTINGS = {
    "node_selector": {"pool": "gpu"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule", "toleration_seconds": 60}],
    "labels": {"team": "ml"},
    "annotations": {"note": "n"},
    "image_pull_secrets": ["other"],
    "image_pull_policy": "Always",
    "secret_environment": {"HF_TOKEN": "huggingface/token"},
    "secret_volumes": {"/etc/keys": "keys"},
    "volumes": {"/data": "datasets"},
    "run_as_user": 1000,
    "run_as_group": 1000,
}


@pytest.fixture
def made(documents, digits):
    digits["steps"][1]["settings"]["kubeflow"] = SETTINGS
    digits["steps"][1]["timeout"] = 3600
    return documents("kubeflow_documents")(digits, CONFIG)


def test_the_protobuf_takes_every_field(made):
    spec = json_format.ParseDict(made["pipeline"], pipeline_spec_pb2.PipelineSpec())
    deployment = json_format.ParseDict(
        json_format.MessageToDict(spec.deployment_spec), pipeline_spec_pb2.PipelineDeploymentConfig()
    )
    container = deployment.executors["exec-train"].container
    assert list(container.command) == ["/opt/venv/bin/python", "-m", "longshore.entrypoint"]
    assert container.resources.resource_memory_limit == "1536Mi"
    assert spec.root.dag.tasks["train"].retry_policy.max_retry_count == 2
    assert sorted(spec.root.dag.tasks["evaluate"].dependent_tasks) == ["load-data", "train"]
    assert not any(task.caching_options.enable_cache for task in spec.root.dag.tasks.values())


def test_the_platforms_protobuf_takes_every_field(made):
    platform = json_format.ParseDict(made["platform"], pipeline_spec_pb2.PlatformSpec())
    executors = platform.platforms["kubernetes"].deployment_spec.executors
    parsed = {
        name: json_format.ParseDict(
            json_format.MessageToDict(config), kubernetes_executor_config_pb2.KubernetesExecutorConfig()
        )
        for name, config in executors.items()
    }
    train = parsed["exec-train"]
    assert train.active_deadline_seconds == 3600
    assert [secret.secret_name for secret in train.image_pull_secret] == ["regcred", "other"]
    assert train.tolerations[0].toleration_seconds == 60
    assert train.security_context.run_as_user == 1000
    assert set(parsed) == {"exec-load-data", "exec-train", "exec-evaluate"}


def compiled(folder):
    """The same task, as Kubeflow's own compiler writes it."""

    @dsl.container_component
    def train(run: str):
        return dsl.ContainerSpec(
            image="gcr.io/p/digits@sha256:" + "0" * 64,
            command=["/opt/venv/bin/python", "-m", "longshore.entrypoint"],
            args=["--run", run, "--step"],
        )

    @dsl.pipeline(name="digits-pipeline", display_name="digits_pipeline")
    def pipeline():
        task = train(run=dsl.PIPELINE_JOB_ID_PLACEHOLDER).set_caching_options(False)
        task.set_cpu_limit("1.5").set_memory_limit("1536Mi")
        task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1)
        task.set_retry(2, backoff_duration="10s", backoff_factor=2.0, backoff_max_duration=f"{30 * 24 * 3600}s")
        task.set_env_variable("AWS_REGION", "eu-central-1")
        kfp.kubernetes.set_image_pull_secrets(task, ["regcred", "other"])
        kfp.kubernetes.use_secret_as_env(task, "huggingface", {"token": "HF_TOKEN"})
        kfp.kubernetes.use_secret_as_volume(task, "keys", "/etc/keys")
        kfp.kubernetes.mount_pvc(task, "datasets", "/data")
        kfp.kubernetes.add_node_selector(task, "pool", "gpu")
        kfp.kubernetes.add_toleration(task, "gpu", "Exists", effect="NoSchedule", toleration_seconds=60)
        kfp.kubernetes.add_pod_label(task, "team", "ml")
        kfp.kubernetes.add_pod_annotation(task, "note", "n")
        kfp.kubernetes.set_image_pull_policy(task, "Always")
        kfp.kubernetes.set_timeout(task, 3600)

    path = folder / "theirs.yaml"
    kfp.compiler.Compiler().compile(pipeline, str(path))
    return list(yaml.safe_load_all(path.read_text()))


def test_a_task_is_written_as_by_kubeflows_own_compiler(made, tmp_path):
    theirs, their_platform = compiled(tmp_path)
    ours = made["pipeline"]
    assert ours["components"]["comp-train"] == theirs["components"]["comp-train"]
    our_task, their_task = ours["root"]["dag"]["tasks"]["train"], theirs["root"]["dag"]["tasks"]["train"]
    assert {**our_task, "dependentTasks": None} == {**their_task, "dependentTasks": None}
    ours_run = ours["deploymentSpec"]["executors"]["exec-train"]["container"]
    theirs_run = theirs["deploymentSpec"]["executors"]["exec-train"]["container"]
    assert {**ours_run, "args": ours_run["args"][:3]} == theirs_run
    assert ours["schemaVersion"] == theirs["schemaVersion"]
    at = ("platforms", "kubernetes", "deploymentSpec", "executors", "exec-train")
    our_executor, their_executor = made["platform"], their_platform
    for key in at:
        our_executor, their_executor = our_executor[key], their_executor[key]
    # The compiler has no call for the user alone.
    assert our_executor.pop("securityContext") == {"runAsUser": "1000", "runAsGroup": "1000"}
    assert our_executor["nodeSelector"]["labels"].pop("cloud.google.com/gke-accelerator") == "nvidia-tesla-t4"
    assert our_executor == their_executor


def test_the_sdk_loads_the_file_and_submits_the_same(made, tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump_all([made["pipeline"], made["platform"]]))
    component = components.load_component_from_file(str(path))
    assert component.pipeline_spec.pipeline_info.name == "digits-pipeline"
    assert component.platform_spec.platforms["kubernetes"].deployment_spec.executors
    document = kfp_client._extract_pipeline_yaml(str(path)).to_dict()
    assert document == json_format_round(made["document"])


def json_format_round(document):
    """The document as protobuf's JSON writes it, which leaves out what is empty."""
    spec = json_format.ParseDict(document["pipeline_spec"], pipeline_spec_pb2.PipelineSpec())
    platform = json_format.ParseDict(document["platform_spec"], pipeline_spec_pb2.PlatformSpec())
    return {"pipeline_spec": json_format.MessageToDict(spec), "platform_spec": json_format.MessageToDict(platform)}


def test_the_settings_have_the_fields_that_the_program_reads(documents, digits):
    names = {field.name for field in fields(KubeflowSettings)}
    assert names == set(SETTINGS)
    digits["settings"] = {"kubeflow": KubeflowSettings(**SETTINGS).document()}
    executors = documents("kubeflow_documents")(digits, CONFIG)["platform"]["platforms"]["kubernetes"]
    assert executors["deploymentSpec"]["executors"]["exec-load-data"]["imagePullPolicy"] == "Always"


@pytest.fixture
def api(built):
    """The stand-in that the program's own tests run against."""
    command = [built / "longshore-testkit", "kubeflow"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield json.loads(process.stdout.readline())["url"]
        process.stdin.close()


def test_the_sdks_client_takes_the_stand_in_for_kubeflow(api, made, tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump_all([made["pipeline"], made["platform"]]))
    client = kfp.Client(host=api)
    experiment = client.create_experiment("digits")
    assert client.get_experiment(experiment_name="digits").experiment_id == experiment.experiment_id
    run = client.run_pipeline(experiment.experiment_id, "digits 1", str(path))
    told = client.get_run(run.run_id)
    assert (told.state, told.display_name) == ("PENDING", "digits 1")
    client.terminate_run(run.run_id)
    assert client.get_run(run.run_id).state == "CANCELING"
    cron = client.create_recurring_run(
        experiment.experiment_id, "digits nightly", cron_expression="0 30 3 * * *", pipeline_package_path=str(path)
    )
    assert client.get_recurring_run(cron.recurring_run_id).display_name == "digits nightly"
    client.delete_recurring_run(cron.recurring_run_id)
    with pytest.raises(kfp_server_api.ApiException, match="Not Found"):
        client.get_recurring_run(cron.recurring_run_id)
    listed = client.list_runs(experiment_id=experiment.experiment_id)
    assert [run.run_id for run in listed.runs] == [run.run_id]


@pytest.mark.parametrize("model", [kfp_server_api.V2beta1Run, kfp_server_api.V2beta1RecurringRun])
def test_the_published_models_have_every_field_that_is_sent(model):
    sent = {"display_name", "experiment_id", "pipeline_spec", "service_account"}
    if model is kfp_server_api.V2beta1RecurringRun:
        sent |= {"trigger", "mode", "max_concurrency", "no_catchup"}
        assert "cron" in kfp_server_api.V2beta1CronSchedule.openapi_types
        assert "cron_schedule" in kfp_server_api.V2beta1Trigger.openapi_types
        assert model.openapi_types["max_concurrency"] == "str"
    assert sent <= set(model.openapi_types)
