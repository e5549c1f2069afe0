"""Settings beside the image's: resources, and those of orchestrators."""

import pytest

from longshore import UsageError, pipeline, step
from longshore.config import ResourceSettings, settings_of


def test_only_what_is_set_is_written():
    assert ResourceSettings(cpu=0.5, memory="4GiB").document() == {"cpu": 0.5, "memory": "4GiB"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResourceSettings(cpus=1), "ResourceSettings has no field `cpus`; did you mean `cpu`?"),
        (lambda: ResourceSettings(1), "ResourceSettings takes its fields by name, as in ResourceSettings(cpu=…)"),
        (lambda: ResourceSettings(cpu=0), "ResourceSettings: `cpu` must be a number above 0, not 0"),
        (lambda: ResourceSettings(gpu=True), "ResourceSettings: `gpu` must be a number above 0, not True"),
        (lambda: ResourceSettings(gpu=0.5), "ResourceSettings: `gpu` must be a number above 0, not 0.5"),
        (lambda: ResourceSettings(memory=4), "ResourceSettings: `memory` must be text, not 4"),
        (
            lambda: settings_of("step `a`", {"kubernets": {}}),
            "step `a`: no settings are called `kubernets`; did you mean `kubernetes`?",
        ),
        (
            lambda: settings_of("step `a`", {"kubernetes": ResourceSettings()}),
            "step `a`: settings['kubernetes'] must be the settings of kubernetes, not ResourceSettings(",
        ),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(UsageError) as caught:
        make()
    assert str(caught.value).startswith(message)


def test_dictionaries_will_do():
    settings = settings_of("step `a`", {"resources": {"cpu": 2}, "kubernetes": {"service_account": "s"}})
    assert settings["resources"] == ResourceSettings(cpu=2)
    assert settings["kubernetes"] == {"service_account": "s"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retries": -1}, "`retries` must be a whole number from 0 to 100, not -1"),
        ({"retries": True}, "`retries` must be a whole number"),
        ({"timeout": 0.5}, "`timeout` must be a number of seconds, 1 or more, not 0.5"),
        ({"cache": "yes"}, "`cache` must be True or False, not 'yes'"),
    ],
)
def test_options_of_a_step(options, message):
    def work() -> None: ...

    with pytest.raises(UsageError, match=r"step `work`: "):
        step(**options)(work)
    with pytest.raises(UsageError) as caught:
        step(**options)(work)
    assert message in str(caught.value)


ORDER = """\
from longshore import pipeline, step
@step
def check() -> None: ...
@step(retries=1)
def train(cache: bool = False) -> int: ...
@step(cache=False)
def publish(text: str) -> None: ...
@pipeline(retries=3, cache=True)
def p():
    check()
    model = train.after(check)()
    publish.after(model, check)("done")
"""


def test_order_without_data(project):
    project.write("train.py", ORDER)
    spec = project.spec("train", "p")
    assert [step["after"] for step in spec["steps"]] == [[], ["check"], ["check", "train"]]
    assert [step["source"]["attribute"] for step in spec["steps"]] == ["check", "train", "publish"]
    assert [step["retries"] for step in spec["steps"]] == [3, 1, 3]
    assert [step["cache"] for step in spec["steps"]] == [True, True, False]


def test_order_needs_a_step_that_was_called():
    @step
    def first() -> None: ...

    @step
    def second() -> None: ...

    @pipeline
    def p() -> None:
        second.after(first)()

    with pytest.raises(UsageError) as caught:
        p.record()
    assert str(caught.value) == (
        "step `second` is to run after <step `first`>, which has not been called in this pipeline"
    )
    with pytest.raises(UsageError, match="can wait for steps and outputs of steps, not for 'first'"):
        second.after("first")
    with pytest.raises(UsageError, match="needs a step or an output"):
        second.after()


def test_a_schedule(project):
    project.write("train.py", ORDER + "q = p.scheduled('0 3 * * *', timezone='Europe/Berlin')\n")
    assert project.spec("train", "q")["pipeline"] == {
        "name": "p",
        "schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"},
    }
    assert project.spec("train", "p")["pipeline"] == {"name": "p"}


def test_a_schedule_has_five_fields():
    @step
    def first() -> None: ...

    @pipeline
    def p() -> None:
        first()

    with pytest.raises(UsageError, match="does not have the five fields"):
        p.scheduled("daily")
