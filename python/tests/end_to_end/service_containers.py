"""What orchestrators make of what they are given: the container of each step, with what the service itself adds."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable

from . import dag_file

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Container:
    """A container, from the image to the end of its command."""

    image: str
    command: list[str]
    environment: dict[str, str]
    folders: dict[str, Path] = field(default_factory=dict)
    """What the service mounts: folders of the machine by where they are in the container."""


@dataclass
class Service:
    """An orchestrator as it is registered, and how it runs containers."""

    name: str
    flavor: str
    options: list[str]
    registry: tuple[str, str]
    """The flavor and the URI of a registry that it pulls from; `{here}` is one on this machine."""
    store: str
    containers: Callable[[str, Path], dict[str, Container]]
    """Of what a dry run prints; the folder is for what it mounts."""
    settings: str = ""
    """Of the pipeline, in Python."""


def documents(shown: str) -> list[Any]:
    found = json.loads(shown)
    return found if isinstance(found, list) else [found]


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in container.get("env", []) if "value" in item}


def kubernetes(shown: str, _: Path) -> dict[str, Container]:
    """Pods: each has the addresses of the namespace's services in its environment, whatever those are called."""
    given = {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "KUBERNETES_PORT_443_TCP": "tcp://10.0.0.1:443",
        "LONGSHORE_PORT": "tcp://10.0.0.2:5000",
        "PYTHON_SERVICE_HOST": "10.0.0.3",
    }
    found = {}
    for document in documents(shown):
        step = document["metadata"].get("labels", {}).get("longshore.dev/step")
        if document["kind"] != "Job" or step is None:
            continue
        [container] = document["spec"]["template"]["spec"]["containers"]
        arguments = ["r1" if "{{" in argument or "$(" in argument else argument for argument in container["args"]]
        environment = {**given, **variables(container)}
        found[step] = Container(container["image"], container["command"] + arguments, environment)
    return found


def executors(pipeline: dict[str, Any], run: str, given: dict[str, str]) -> dict[str, Container]:
    """The containers of a pipeline spec, with the run's name where a placeholder stands for it."""
    found = {}
    for name, executor in pipeline["deploymentSpec"]["executors"].items():
        container = executor["container"]
        arguments = [run if argument.startswith("{{$.") else argument for argument in container.get("args", [])]
        environment = {**given, **variables(container)}
        found[name.removeprefix("exec-")] = Container(container["image"], container["command"] + arguments, environment)
    return found


def kubeflow(shown: str, _: Path) -> dict[str, Container]:
    """Pods in which a launcher starts the command. On OpenShift they have no home folder."""
    given = {"KFP_POD_NAME": "adding-x", "KFP_RUN_ID": "r1", "ML_PIPELINE_SERVICE_HOST": "10.0.0.4", "HOME": "/"}
    return executors(documents(shown)[0], "0a1b2c3d-0000-4000-8000-0123456789ab", given)


def vertex(shown: str, _: Path) -> dict[str, Container]:
    """Custom jobs of one replica ("Environment variables for distributed training and special variables")."""
    cluster = json.dumps({"cluster": {"workerpool0": ["127.0.0.1:2222"]}, "task": {"type": "workerpool0", "index": 0}})
    given = {
        "CLOUD_ML_PROJECT_ID": "123456789",
        "CLUSTER_SPEC": cluster,
        "TF_CONFIG": cluster,
        "AIP_MODEL_DIR": "gs://team/vertex/model",
        "AIP_CHECKPOINT_DIR": "gs://team/vertex/checkpoints",
        "AIP_TENSORBOARD_LOG_DIR": "gs://team/vertex/logs",
    }
    [job] = documents(shown)
    return executors(job["pipelineSpec"], "adding-20260102030405-0123abcd", given)


ARN = "arn:aws:sagemaker:us-east-1:123456789012"


def sagemaker(shown: str, folder: Path) -> dict[str, Container]:
    """Processing and training jobs ("How Amazon SageMaker Processing Runs Your Processing Container Image", "How Amazon
    SageMaker Provides Training Information"): entrypoint and arguments in the place of the image's own, files below
    `/opt/ml`."""
    found = {}
    for step in documents(shown)[0]["Steps"]:
        arguments, name = step["Arguments"], step["DisplayName"]
        hosts = json.dumps({"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"})
        environment = {"AWS_REGION": "us-east-1"}
        if step["Type"] == "Processing":
            container, image = arguments["AppSpecification"], arguments["AppSpecification"]["ImageUri"]
            files = {"config/resourceconfig.json": hosts, "config/processingjobconfig.json": json.dumps(arguments)}
        else:
            container, image = arguments["AlgorithmSpecification"], arguments["AlgorithmSpecification"]["TrainingImage"]
            environment.update(TRAINING_JOB_NAME="pipelines-x", TRAINING_JOB_ARN=f"{ARN}:training-job/pipelines-x")
            files = {"input/config/resourceconfig.json": hosts, "input/config/hyperparameters.json": "{}"}
            files.update({"input/config/inputdataconfig.json": "{}", "model/": "", "output/data/": ""})
        for path, text in files.items():
            file = folder / name / path
            (file if path.endswith("/") else file.parent).mkdir(parents=True, exist_ok=True)
            if not path.endswith("/"):
                file.write_text(text)
        run = {"Get": "Execution.PipelineExecutionId"}
        given = ["abcdefghijkl" if argument == run else argument for argument in container["ContainerArguments"]]
        # The limits of the API.
        assert len(given) <= 100
        assert all(len(argument) <= 256 for argument in container["ContainerEntrypoint"] + given)
        environment.update(arguments.get("Environment", {}))
        command = container["ContainerEntrypoint"] + given
        found[name] = Container(image, command, environment, {"/opt/ml": folder / name})
    return found


JOB = "/mnt/azureml/cr/j/0123456789abcdef"


def azureml(shown: str, folder: Path) -> dict[str, Container]:
    """Command jobs: a line for bash, which begins in a folder of the service's, away from the image's."""
    found = {}
    bodies = documents(shown)
    jobs = bodies[-1]["properties"]["jobs"].values()
    images = {}
    for body in bodies:
        image = body["properties"].get("image")
        if image is not None:
            images[hashlib.sha256(image.encode()).hexdigest()[:32]] = image
    for spec in [body["properties"]["componentSpec"] for body in bodies if "componentSpec" in body["properties"]]:
        name = step_of(spec["command"])
        [job] = [job for job in jobs if job["display_name"] == name]
        place = folder / name
        for part in ("exe/wd", "cap/data-capability/wd/done"):
            (place / part).mkdir(parents=True)
            (place / part).chmod(0o777)
        line = spec["command"].replace("${{outputs.done}}", f"{JOB}/cap/data-capability/wd/done")
        assert "${{" not in line
        environment = {
            "AZUREML_ROOT_RUN_ID": "adding-20260102030405-0123abcd",
            "AZUREML_RUN_ID": "0a1b2c3d-0000-4000-8000-0123456789ab",
            "AZUREML_CR_COMPUTE_TYPE": "amlctrain",
            "MLFLOW_TRACKING_URI": "azureml://westeurope.api.azureml.ms/mlflow/v1.0",
            "AZURE_ML_INPUT_after-load.0": "azureml://datastores/workspaceblobstore/paths/x",
            "PYTHONSTARTUP": "",
            **job.get("environment_variables", {}),
        }
        command = ["bash", "-c", 'cd "$0" && exec bash -c "$1"', f"{JOB}/exe/wd", line]
        image = images[spec["environment"].rpartition("/")[2]]
        found[name] = Container(image, command, environment, {JOB: place})
    return found


def step_of(line: str) -> str:
    """The step that a line for a shell runs: its document is in the words after `--step`."""
    words = line.partition(" --step ")[2].partition(" && ")[0].split()
    text = "".join(word.lstrip(".") for word in words)
    document = json.loads(zlib.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
    name: str = document["steps"][0]["name"]
    return name


def airflow(shown: str, _: Path) -> dict[str, Container]:
    """The containers of KubernetesPodOperator and DockerOperator, in the image's working directory."""
    found = {}
    for name, given in dag_file.tasks(shown, "manual__2026-01-02T03:04:05+00:00").items():
        command = given["cmds"] + given["arguments"] if "cmds" in given else given["entrypoint"] + given["command"]
        environment = given["env_vars"] if "cmds" in given else given["environment"]
        found[name] = Container(given["image"], command, {"AIRFLOW_CTX_DAG_ID": "adding", **environment})
    return found


ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
GAR = "us-central1-docker.pkg.dev"
ACR = "myregistry.azurecr.io"
SAGEMAKER = ["--role", "arn:aws:iam::123456789012:role/SageMakerExecution", "--region", "us-east-1"]
HERE = ("default", "{here}/ml")
SERVICES = [
    Service("kubernetes", "kubernetes", ["--namespace", "ml", "--local=true"], HERE, "s3", kubernetes),
    Service("kubeflow", "kubeflow", ["--host", "http://127.0.0.1:9", "--local=true"], HERE, "s3", kubeflow),
    Service(
        *("vertex", "vertex", ["--project", "my-project", "--location", "us-central1"]),
        *(("gcp", f"{GAR}/my-project/ml"), "gcs", vertex),
    ),
    Service("processing", "sagemaker", SAGEMAKER, ("aws", ECR), "s3", sagemaker),
    Service(
        *("training", "sagemaker", SAGEMAKER, ("aws", ECR), "s3", sagemaker),
        settings='"sagemaker": SagemakerSettings(step_type="training")',
    ),
    Service(
        *("azureml", "azureml", ["--subscription-id", "s", "--resource-group", "g", "--workspace", "w"]),
        *(("azure", ACR), "azure", azureml),
    ),
    Service("airflow-pods", "airflow", ["--dags", "/dags", "--local=true"], HERE, "s3", airflow),
    Service(
        *("airflow-docker", "airflow", ["--dags", "/dags", "--operator", "docker", "--local=true"]),
        *(HERE, "s3", airflow),
    ),
]
