"""Pipeline definitions for SageMaker, by the service model of Amazon's own SDK."""

from __future__ import annotations

import json
import re
from dataclasses import fields

import boto3
import botocore.session
import pytest
from botocore.validate import ParamValidator
from sagemaker.estimator import Estimator
from sagemaker.network import NetworkConfig
from sagemaker.processing import Processor
from sagemaker.workflow.execution_variables import ExecutionVariables
from sagemaker.workflow.pipeline import Pipeline, PipelineGraph
from sagemaker.workflow.pipeline_context import PipelineSession
from sagemaker.workflow.retry import (
    SageMakerJobExceptionTypeEnum,
    SageMakerJobStepRetryPolicy,
    StepExceptionTypeEnum,
    StepRetryPolicy,
)
from sagemaker.workflow.steps import ProcessingStep, TrainingStep

from longshore.sagemaker import SagemakerSettings

CONFIG = {
    "role": "arn:aws:iam::123456789012:role/SageMakerExecution",
    "region": "eu-central-1",
    "subnets": "subnet-0a1b2c3d",
    "security_groups": "sg-0a1b2c3d",
    "tags": "team=ml",
    "max_parallelism": "4",
}
SETTINGS = {
    "step_type": "training",
    "instance_type": "ml.g5.2xlarge",
    "volume_size": 60,
    "role": "arn:aws:iam::123456789012:role/Training",
    "subnets": ["subnet-1"],
    "security_groups": ["sg-1"],
    "tags": {"cost": "42"},
}
JOBS = {
    "Processing": ("CreateProcessingJob", "ProcessingJobName"),
    "Training": ("CreateTrainingJob", "TrainingJobName"),
}


@pytest.fixture(scope="session")
def model():
    return botocore.session.get_session().get_service_model("sagemaker")


def check(model, operation, given):
    """The SDK's own validation, and the patterns and lengths of the model, which it leaves to the service."""
    shape = model.operation_model(operation).input_shape
    report = ParamValidator().validate(given, shape)
    assert not report.has_errors(), report.generate_report()
    walk(given, shape, operation)


def walk(value, shape, where):
    if shape.type_name == "structure":
        for name, item in value.items():
            walk(item, shape.members[name], f"{where}.{name}")
    elif shape.type_name == "list":
        bounded(len(value), shape, where)
        for item in value:
            walk(item, shape.member, where)
    elif shape.type_name == "map":
        bounded(len(value), shape, where)
        for name, item in value.items():
            walk(name, shape.key, where)
            walk(item, shape.value, where)
    elif shape.type_name == "string":
        bounded(len(value), shape, where)
        if "enum" in shape.metadata:
            assert value in shape.enum, f"{where}: {value}"
        pattern = shape.metadata.get("pattern")
        if pattern and "\\p" not in pattern:
            assert re.fullmatch(pattern, value), f"{where}: {value}"
    else:
        bounded(value, shape, where)


def bounded(size, shape, where):
    assert shape.metadata.get("min", size) <= size <= shape.metadata.get("max", size), f"{where}: {size}"


def job(step):
    """The input of the action that makes a step's job, once SageMaker has put in what it puts in."""

    def filled(value):
        if isinstance(value, dict):
            if set(value) == {"Get"}:
                assert value["Get"] == "Execution.PipelineExecutionId"
                return "abcdefghijkl"
            return {name: filled(item) for name, item in value.items()}
        return [filled(item) for item in value] if isinstance(value, list) else value

    operation, name = JOBS[step["Type"]]
    return operation, {**filled(step["Arguments"]), name: "pipelines-abcdefghijkl-x"}


def check_all(model, made):
    check(model, "CreatePipeline", {**made["request"], "ClientRequestToken": "0" * 32})
    update = {name: value for name, value in made["request"].items() if name != "Tags"}
    check(model, "UpdatePipeline", update)
    definition = json.loads(made["request"]["PipelineDefinition"])
    assert definition == made["definition"]
    assert definition["Version"] == "2020-12-01"
    names = [step["Name"] for step in definition["Steps"]]
    assert len(set(names)) == len(names)
    for step in definition["Steps"]:
        assert set(step) <= {"Name", "DisplayName", "Type", "Arguments", "DependsOn", "RetryPolicies"}
        assert re.fullmatch(r"[A-Za-z0-9\-_]{1,64}", step["Name"])
        assert set(step.get("DependsOn", [])) < set(names)
        check(model, *job(step))
    return definition["Steps"]


@pytest.mark.parametrize("kind", ["processing", "training"])
def test_the_service_model_takes_every_field(model, documents, digits, kind):
    digits["settings"] = {"sagemaker": {"step_type": kind}}
    digits["steps"][1]["timeout"] = 600
    steps = check_all(model, documents("sagemaker_documents")(digits, CONFIG))
    assert [step["Type"].lower() for step in steps] == [kind] * 3
    assert steps[2]["DependsOn"] == ["load_data", "train"]


@pytest.mark.parametrize("name", ["digits_pipeline", "load.data-" * 12])
def test_the_scheduler_takes_the_schedule(documents, digits, name):
    digits["pipeline"] = {"name": name, "schedule": {"cron": "*/20 3 * * MON-FRI", "timezone": "Europe/Zurich"}}
    made = documents("sagemaker_documents")(digits, CONFIG)
    scheduler = botocore.session.get_session().get_service_model("scheduler")
    given = {**made["schedule"]["request"], "Name": made["schedule"]["name"], "ClientToken": "0" * 32}
    for operation in ["CreateSchedule", "UpdateSchedule"]:
        check(scheduler, operation, given)
    assert given["ScheduleExpression"] == "cron(0,20,40 3 ? * MON,TUE,WED,THU,FRI *)"
    arn = f"arn:aws:sagemaker:eu-central-1:123456789012:pipeline/{made['request']['PipelineName'].lower()}"
    assert given["Target"] == {"Arn": arn, "RoleArn": CONFIG["role"]}


def test_odd_names_are_valid(model, documents, digits):
    name = "load.data-" * 12
    digits["pipeline"]["name"] = name
    digits["steps"][0]["name"] = name
    for step in digits["steps"][1:]:
        step["inputs"]["data"]["step"] = name
    steps = check_all(model, documents("sagemaker_documents")(digits, CONFIG))
    assert steps[0]["DisplayName"] == name


def test_every_instance_that_is_chosen_exists(model, documents, digits):
    instances = documents("sagemaker_documents")(digits, CONFIG)["instances"]
    for shape in ["ProcessingInstanceType", "TrainingInstanceType"]:
        assert set(instances) <= set(model.shape_for(shape).enum)


def test_the_settings_have_the_fields_that_the_program_reads(model, documents, digits):
    assert {field.name for field in fields(SagemakerSettings)} == set(SETTINGS)
    digits["steps"][0]["settings"] = {"sagemaker": SagemakerSettings(**SETTINGS).document()}
    step = check_all(model, documents("sagemaker_documents")(digits, CONFIG))[0]
    job = step["Arguments"]
    assert step["Type"] == "Training"
    assert job["ResourceConfig"] == {"InstanceCount": 1, "InstanceType": "ml.g5.2xlarge", "VolumeSizeInGB": 60}
    assert job["RoleArn"].endswith("/Training")
    assert job["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert {"Key": "cost", "Value": "42"} in job["Tags"]


@pytest.fixture(scope="session")
def session():
    """A session of the SDK that only writes definitions."""
    keys = {"aws_access_key_id": "id", "aws_secret_access_key": "secret", "region_name": CONFIG["region"]}
    # It would tell Amazon that it is used.
    quiet = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
    return PipelineSession(boto_session=boto3.Session(**keys), default_bucket="bucket", sagemaker_config=quiet)


def in_their_words(step, session):
    """The same step as an object of the SDK's, which is given what our definition says."""
    job = step["Arguments"]
    network = job["NetworkConfig"]["VpcConfig"] if "NetworkConfig" in job else job["VpcConfig"]
    common = {
        "role": job["RoleArn"],
        "instance_count": 1,
        "tags": job["Tags"],
        "sagemaker_session": session,
    }
    if step["Type"] == "Processing":
        app, cluster = job["AppSpecification"], job["ProcessingResources"]["ClusterConfig"]
        theirs = Processor(
            image_uri=app["ImageUri"],
            entrypoint=app["ContainerEntrypoint"],
            env=job["Environment"],
            instance_type=cluster["InstanceType"],
            volume_size_in_gb=cluster["VolumeSizeInGB"],
            max_runtime_in_seconds=job.get("StoppingCondition", {}).get("MaxRuntimeInSeconds"),
            network_config=NetworkConfig(subnets=network["Subnets"], security_group_ids=network["SecurityGroupIds"]),
            **common,
        )
        kind, arguments = ProcessingStep, theirs.run(arguments=with_variables(app["ContainerArguments"]))
    else:
        algorithm, cluster = job["AlgorithmSpecification"], job["ResourceConfig"]
        theirs = Estimator(
            image_uri=algorithm["TrainingImage"],
            container_entry_point=algorithm["ContainerEntrypoint"],
            container_arguments=with_variables(algorithm["ContainerArguments"]),
            environment=job["Environment"],
            instance_type=cluster["InstanceType"],
            volume_size=cluster["VolumeSizeInGB"],
            max_run=job["StoppingCondition"]["MaxRuntimeInSeconds"],
            output_path=job["OutputDataConfig"]["S3OutputPath"],
            subnets=network["Subnets"],
            security_group_ids=network["SecurityGroupIds"],
            disable_profiler=True,
            debugger_hook_config=False,
            **common,
        )
        kind, arguments = TrainingStep, theirs.fit()
    again = {"interval_seconds": 30, "backoff_rate": 2.0, "max_attempts": 5}
    of_step = StepRetryPolicy([StepExceptionTypeEnum.SERVICE_FAULT, StepExceptionTypeEnum.THROTTLING], **again)
    kinds = [SageMakerJobExceptionTypeEnum.INTERNAL_ERROR, SageMakerJobExceptionTypeEnum.CAPACITY_ERROR]
    of_job = SageMakerJobStepRetryPolicy(kinds, **again)
    return kind(
        name=step["Name"],
        display_name=step["DisplayName"],
        step_args=arguments,
        depends_on=step.get("DependsOn"),
        retry_policies=[of_step, of_job],
    )


def with_variables(arguments):
    run = {"Get": "Execution.PipelineExecutionId"}
    return [ExecutionVariables.PIPELINE_EXECUTION_ID if argument == run else argument for argument in arguments]


@pytest.mark.parametrize("kind", ["processing", "training"])
def test_the_sdk_writes_the_same_definition(model, documents, digits, session, kind):
    digits["settings"] = {"sagemaker": {"step_type": kind}}
    digits["steps"][1]["timeout"] = 600
    made = documents("sagemaker_documents")(digits, CONFIG)
    ours = check_all(model, made)
    steps = [in_their_words(step, session) for step in ours]
    theirs = Pipeline(name=made["request"]["PipelineName"], steps=steps, sagemaker_session=session)
    definition = json.loads(theirs.definition())
    assert {name: definition[name] for name in ("Version", "Parameters")} == {
        name: made["definition"][name] for name in ("Version", "Parameters")
    }
    for step in definition["Steps"]:
        # What it says, though it is so anyway.
        step["Arguments"].get("NetworkConfig", {}).pop("EnableNetworkIsolation", None)
        step["Arguments"].pop("ProfilerConfig", None)
    assert definition["Steps"] == ours
    graph = PipelineGraph.from_pipeline(theirs)
    assert [step.name for step in graph] == ["load_data", "train", "evaluate"]
