"""Pipeline jobs for Azure Machine Learning, as Microsoft's own package writes and reads them."""

from __future__ import annotations

import io
import json
import time
from dataclasses import fields
from urllib.parse import urlsplit

import jwt
import pytest
import requests
import yaml
from azure.ai.ml import MLClient, load_job
from azure.ai.ml._restclient.arm_ml_service import models
from azure.ai.ml.entities import CronTrigger, Environment, JobSchedule, RecurrencePattern, RecurrenceTrigger
from azure.core.credentials import AccessToken
from requests.adapters import HTTPAdapter

from longshore.azureml import AzureMLSettings

CONFIG = {"subscription_id": "s", "resource_group": "g", "workspace": "w"}
WORKSPACE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"


class Credential:
    """Tokens for whatever is asked for; nobody looks at them."""

    def get_token(self, *_scopes, **_options):
        claims = {"aud": "https://ml.azure.com", "oid": "o", "tid": "t", "name": "n"}
        return AccessToken(jwt.encode(claims, "k" * 32), int(time.time()) + 3600)


@pytest.fixture
def sent(monkeypatch):
    """What Microsoft's client makes with PUT, by its path. What is made comes back as the answer."""
    requests_made = {}

    def send(_adapter, request, **_options):
        path = urlsplit(request.url).path
        body = json.loads(request.body) if request.body else {}
        if request.method == "PUT":
            requests_made[path] = body
        answer = {**body, "id": path, "name": path.rsplit("/", 1)[-1], "type": "any"}
        if "/computes/" in path:
            answer["properties"] = {"computeType": "AmlCompute", "properties": {}}
        elif path == WORKSPACE:
            answer["properties"] = {"discoveryUrl": "https://westeurope.api.azureml.ms/discovery"}
            answer["location"] = "westeurope"
        response = requests.Response()
        response.status_code, response.request, response.url = 200, request, request.url
        response.headers["content-type"] = "application/json"
        response.raw = io.BytesIO(json.dumps(answer).encode())
        response.raw.enforce_content_length = False
        return response

    monkeypatch.setattr(HTTPAdapter, "send", send)
    return requests_made


@pytest.fixture
def made(documents, digits):
    digits["steps"][1]["timeout"] = 60
    digits["settings"] = {"azureml": AzureMLSettings(shm_size="2g").document()}
    digits["steps"][2]["settings"] = {"azureml": AzureMLSettings(compute="cluster").document()}
    return documents("azureml_documents")(digits, {**CONFIG, "identity": "11111111-2222-3333-4444-555555555555"})


def client():
    return MLClient(Credential(), CONFIG["subscription_id"], CONFIG["resource_group"], CONFIG["workspace"])


def in_their_words(made, folder):
    """The same pipeline as the package's own YAML."""
    components = {item["id"]: item["body"]["properties"]["componentSpec"] for item in made["components"]}
    jobs = {}
    for name, node in made["job"]["properties"]["jobs"].items():
        component = {key: value for key, value in components[node["componentId"]].items() if key != "_source"}
        (folder / f"{name}.yml").write_text(yaml.safe_dump(component))
        job = {"type": "command", "component": f"./{name}.yml", "display_name": node["display_name"]}
        job["environment_variables"] = node["environment_variables"]
        job["identity"] = {"type": "managed", "client_id": node["identity"]["client_id"]}
        job["resources"] = node["resources"]
        if "limits" in node:
            job["limits"] = {"timeout": int(node["limits"]["timeout"][2:-1])}
        if "computeId" in node:
            job["compute"] = "azureml:" + node["computeId"].rsplit("/", 1)[-1]
        job["inputs"] = {
            key: {"type": "uri_folder", "mode": "direct", "path": bound["value"]}
            for key, bound in node.get("inputs", {}).items()
        }
        job["outputs"] = {key: {"type": "uri_folder"} for key in node.get("outputs", {})}
        jobs[name] = job
    properties = made["job"]["properties"]
    path = folder / "pipeline.yml"
    settings = {"default_compute": "azureml:serverless", "continue_on_step_failure": False}
    pipeline = {"type": "pipeline", "jobs": jobs, "settings": settings}
    pipeline.update(display_name=properties["displayName"], experiment_name=properties["experimentName"])
    path.write_text(yaml.safe_dump(pipeline))
    return path


def alike(node):
    """A node without its component's ID, which is theirs or ours, and with one spelling of its time limit."""
    node = {key: value for key, value in node.items() if key != "componentId"}
    if "limits" in node:
        limit = node["limits"]["timeout"]
        seconds = {"PT18M": 1080}.get(limit) or int(limit[2:-1])
        node["limits"] = {**node["limits"], "timeout": seconds}
    return node


def test_their_client_sends_the_same_pipeline(made, sent, tmp_path):
    client().jobs.create_or_update(load_job(in_their_words(made, tmp_path)))
    theirs = next(body["properties"] for path, body in sent.items() if "/jobs/" in path)
    ours = made["job"]["properties"]
    assert {name: alike(node) for name, node in ours["jobs"].items()} == {
        name: alike(node) for name, node in theirs["jobs"].items()
    }
    assert ours["settings"] == theirs["settings"]
    assert all(theirs[key] == ours[key] for key in ours if key != "jobs")


def test_their_client_makes_the_same_components(made, sent, tmp_path):
    client().jobs.create_or_update(load_job(in_their_words(made, tmp_path)))
    theirs = {path: body["properties"] for path, body in sent.items() if "/components/" in path}
    assert len(theirs) == len(made["components"]) == 3
    theirs = {properties["componentSpec"]["command"]: properties for properties in theirs.values()}
    for item in made["components"]:
        ours = item["body"]["properties"]
        their = theirs[ours["componentSpec"]["command"]]
        assert their["isAnonymous"] is ours["isAnonymous"] is True
        assert their["componentSpec"] == ours["componentSpec"]


def test_their_client_makes_the_same_environment(made, sent):
    (ours,) = made["environments"]
    name, version = ours["id"].split("/")[-3], ours["id"].split("/")[-1]
    image = ours["body"]["properties"]["image"]
    client().environments.create_or_update(Environment(name=name, version=version, image=image))
    theirs = sent[ours["id"]]["properties"]
    assert theirs["image"] == image
    assert {key.lower(): value for key, value in ours["body"]["properties"].items()}.items() <= {
        **{key.lower(): value for key, value in theirs.items()},
        "ostype": "Linux",
    }.items()


TRIGGERS = {
    "30 3 * * MON-FRI": lambda: CronTrigger(expression="30 3 * * 1-5", time_zone="W. Europe Standard Time"),
    "0 4 1,15 * *": lambda: RecurrenceTrigger(
        frequency="month",
        interval=1,
        schedule=RecurrencePattern(hours=[4], minutes=[0], month_days=[1, 15]),
        time_zone="W. Europe Standard Time",
    ),
}


@pytest.mark.parametrize("cron", list(TRIGGERS))
def test_their_client_sends_the_same_schedule(documents, digits, sent, tmp_path, cron):
    digits["pipeline"]["schedule"] = {"cron": cron, "timezone": "Europe/Zurich"}
    digits["steps"][1]["timeout"] = 60
    digits["settings"] = {"azureml": AzureMLSettings(shm_size="2g").document()}
    given = {**CONFIG, "identity": "11111111-2222-3333-4444-555555555555"}
    made = documents("azureml_documents")(digits, given)
    ours = made["schedule"]["body"]["properties"]
    assert ours["action"] == {"actionType": "CreateJob", "jobDefinition": made["job"]["properties"]}
    job = load_job(in_their_words(made, tmp_path))
    schedule = JobSchedule(name=made["schedule"]["name"], trigger=TRIGGERS[cron](), create_job=job)
    schedule.display_name = "digits_pipeline"
    client().schedules.begin_create_or_update(schedule)
    (path,) = (path for path in sent if "/schedules/" in path)
    theirs = sent[path]["properties"]
    assert path == f"{WORKSPACE}/schedules/{made['schedule']['name']}"
    said = {key: value for key, value in theirs["trigger"].items() if value not in (None, [])}
    said.pop("startTime", None)
    if "schedule" in said:
        said["schedule"] = {key: value for key, value in said["schedule"].items() if value is not None}
    assert {key: str(value).lower() for key, value in said.items()} == {
        key: str(value).lower() for key, value in ours["trigger"].items()
    }
    assert (theirs["displayName"], theirs.get("isEnabled", True)) == (ours["displayName"], ours["isEnabled"])
    assert theirs["action"]["actionType"] == "CreateJob"
    nodes = theirs["action"]["jobDefinition"]["jobs"]
    assert {name: alike(node) for name, node in nodes.items()} == {
        name: alike(node) for name, node in ours["action"]["jobDefinition"]["jobs"].items()
    }


@pytest.mark.parametrize(
    ("model", "key"),
    [(models.JobBase, "job"), (models.ComponentVersion, "components"), (models.EnvironmentVersion, "environments")],
)
def test_their_models_read_every_field(made, model, key):
    bodies = [made["job"]] if key == "job" else [item["body"] for item in made[key]]
    for body in bodies:
        read = model._deserialize(body, [])
        assert read.as_dict() == body
        properties = type(read.properties)._attr_to_rest_field.values()
        assert set(body["properties"]) <= {field._rest_name for field in properties}


def test_the_settings_have_the_fields_that_the_program_reads(documents, digits):
    settings = {"compute": "cluster", "instance_type": "gpu.large", "shm_size": "4g"}
    assert {field.name for field in fields(AzureMLSettings)} == set(settings)
    digits["settings"] = {"azureml": AzureMLSettings(**settings).document()}
    node = documents("azureml_documents")(digits, CONFIG)["job"]["properties"]["jobs"]["evaluate"]
    assert node["computeId"] == f"{WORKSPACE}/computes/cluster"
    assert node["resources"] == {"instance_count": 1, "instance_type": "gpu.large", "shm_size": "4g"}
