"""DockerSettings: what is accepted, what is refused, and with which words."""

import copy
import dataclasses
import pathlib
import pickle

import pytest

from longshore import UsageError, pipeline, step
from longshore.config import DockerSettings, docker_document, settings_of


def refused(**fields: object) -> str:
    with pytest.raises(UsageError) as caught:
        DockerSettings(**fields)
    return str(caught.value)


def test_fields_are_kept():
    settings = DockerSettings(requirements=("pandas==2.2.3",), environment={"A": "1"}, user="1000:1000")
    assert settings.requirements == ["pandas==2.2.3"]
    assert settings.environment == {"A": "1"}
    assert settings.compile_bytecode is True
    assert settings == DockerSettings(requirements=["pandas==2.2.3"], environment={"A": "1"}, user="1000:1000")
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.user = "root"


def test_a_later_change_of_the_users_list_does_not_reach_the_settings():
    packages = ["git"]
    settings = DockerSettings(apt_packages=packages)
    packages.append("curl")
    assert settings.apt_packages == ["git"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"requirments": ["pandas"]}, "DockerSettings has no field `requirments`; did you mean `requirements`?"),
        ({"Parent_Image": "x"}, "DockerSettings has no field `Parent_Image`; did you mean `parent_image`?"),
        (
            {"dockerfile": "Dockerfile.custom"},
            "DockerSettings has no field `dockerfile`; known: "
            + ", ".join(sorted(f"`{field.name}`" for field in dataclasses.fields(DockerSettings) if field.init)),
        ),
        ({"parent_image": 3}, "DockerSettings: `parent_image` must be text, not 3 (int)"),
        ({"user": " "}, "DockerSettings: `user` is empty; leave it out or give it a value"),
        (
            {"requirements": {"pandas": "2.2.3"}},
            "DockerSettings: `requirements` must be a list of requirements or the path of a requirements file, "
            "not {'pandas': '2.2.3'} (dict)",
        ),
        ({"requirements": ["pandas", None]}, "DockerSettings: `requirements[1]` must be text, not None (NoneType)"),
        (
            {"apt_packages": "git"},
            "DockerSettings: `apt_packages` must be a list of Debian packages, not text; write apt_packages=['git']",
        ),
        (
            {"allow_secrets": "keys"},
            "DockerSettings: `allow_secrets` must be a list of paths, not text; write allow_secrets=['keys']",
        ),
        ({"environment": {"N": 4}}, "DockerSettings: `environment['N']` must be text, not 4 (int)"),
        (
            {"environment": {"A=B": "4"}},
            "DockerSettings: `environment` has the name 'A=B'; a name is text, not empty, without `=`",
        ),
        (
            {"environment": ["A=1"]},
            "DockerSettings: `environment` must be a dictionary of text to text, not ['A=1'] (list)",
        ),
        ({"compile_bytecode": 1}, "DockerSettings: `compile_bytecode` must be True or False, not 1 (int)"),
        ({"skip_build": None}, "DockerSettings: `skip_build` must be True or False, not None (NoneType)"),
        ({"lock": ["uv.lock"]}, "DockerSettings: `lock` must be the path of a file, not ['uv.lock'] (list)"),
        ({"extras": "all"}, "DockerSettings: `extras` must be a list of names, not text; write extras=['all']"),
        ({"layers": 0}, "DockerSettings: `layers` must be a number from 1 to 65535, not 0 (int)"),
        ({"layers": True}, "DockerSettings: `layers` must be a number from 1 to 65535, not True (bool)"),
        ({"compression": "ztd"}, "DockerSettings: `compression` cannot be 'ztd' (str); did you mean `zstd`?"),
        (
            {"platform": "linux/arm"},
            "DockerSettings: `platform` cannot be 'linux/arm'; did you mean `linux/arm64`?",
        ),
        (
            {"platform": ["linux/amd64", "linux/amd64"]},
            "DockerSettings: `platform` has one twice; name each platform that the image is for once",
        ),
        ({"labels": {"a": 1}}, "DockerSettings: `labels['a']` must be text, not 1 (int)"),
        (
            {"indexes": {"mine": "https://me:hunter2@packages.example.com/simple"}},
            "DockerSettings: `indexes['mine']` has credentials in its URL, which everyone who sees the settings would "
            "see; name them in `secrets`, as in secrets={'mine': \"env:VARIABLE\"}",
        ),
        (
            {"indexes": {"mine": "hunter2"}},
            "DockerSettings: `indexes['mine']` must be an http or https URL such as "
            "https://packages.example.com/simple",
        ),
        (
            {"secrets": {"mine": "hunter2"}},
            "DockerSettings: `secrets['mine']` must say where the secret is, as env:NAME or file:PATH; "
            "the secret itself is not written here",
        ),
        ({"secrets": {"mine": 1234}}, "DockerSettings: `secrets['mine']` must be text, not int"),
        ({"secrets": "hunter2"}, "DockerSettings: `secrets` must be a dictionary of text to text, not str"),
        ({"lazy": "stargz"}, "DockerSettings: `lazy` cannot be 'stargz' (str); did you mean `estargz`?"),
        ({"lazy": "zstd"}, "DockerSettings: `lazy` cannot be 'zstd' (str); known: `estargz`"),
        ({"lazy": True}, "DockerSettings: `lazy` cannot be True (bool); known: `estargz`"),
        (
            {"build_strategy": "kaniko"},
            "DockerSettings: `build_strategy` cannot be 'kaniko'; this version of longshore builds with \"local\"",
        ),
    ],
)
def test_refusals(fields, message):
    assert refused(**fields) == message


def test_fields_are_given_by_name():
    with pytest.raises(UsageError, match="by name"):
        DockerSettings("python:3.9-slim")


def test_only_what_was_set_goes_into_the_spec():
    assert docker_document(DockerSettings(), "/") == {}
    assert docker_document(DockerSettings(compile_bytecode=True, parent_image=None), "/") == {"compile_bytecode": True}
    assert docker_document(DockerSettings(apt_packages=["git"]), "/") == {"apt_packages": ["git"]}
    assert docker_document(DockerSettings(lazy="estargz"), "/") == {"lazy": "estargz"}
    assert docker_document(DockerSettings(lazy=None), "/") == {}


def test_copies_know_what_was_set():
    settings = DockerSettings(apt_packages=["git"])
    for other in (copy.copy(settings), copy.deepcopy(settings), pickle.loads(pickle.dumps(settings))):
        assert other == settings
        assert docker_document(other, "/") == {"apt_packages": ["git"]}
    assert docker_document(dataclasses.replace(settings, user="1000"), "/")["user"] == "1000"


def test_a_requirements_file_is_found_from_the_source_root(tmp_path):
    (tmp_path / "requirements.txt").write_text("pandas\n")
    for given in ("requirements.txt", pathlib.Path("requirements.txt"), str(tmp_path / "requirements.txt")):
        document = docker_document(DockerSettings(requirements=given), str(tmp_path))
        assert document == {"requirements": str(tmp_path / "requirements.txt")}


def test_files_are_found_from_the_source_root(tmp_path):
    for name in ("uv.lock", "pyproject.toml", "token"):
        (tmp_path / name).write_text("")
    settings = DockerSettings(
        lock="uv.lock", pyproject=pathlib.Path("pyproject.toml"), secrets={"a": "file:token", "b": "env:B"}
    )
    assert docker_document(settings, str(tmp_path)) == {
        "lock": str(tmp_path / "uv.lock"),
        "pyproject": str(tmp_path / "pyproject.toml"),
        "secrets": {"a": f"file:{tmp_path}/token", "b": "env:B"},
    }
    with pytest.raises(UsageError, match=r"`lock` names the file .*/poetry.lock, which does not exist$"):
        docker_document(DockerSettings(lock="poetry.lock"), str(tmp_path))


def test_a_requirement_without_a_list_is_taken_for_what_it_is(tmp_path):
    with pytest.raises(UsageError, match=r"names the file .*/pandas==2.2.3, which does not exist; .*in a list"):
        docker_document(DockerSettings(requirements="pandas==2.2.3"), str(tmp_path))


def test_settings_argument():
    docker = DockerSettings(user="root")
    assert settings_of("step `s`", None) == {}
    assert settings_of("step `s`", {"docker": docker}) == {"docker": docker}
    assert settings_of("step `s`", {"docker": {"user": "root"}}) == {"docker": docker}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dokcer": DockerSettings()}, "pipeline `p`: no settings are called `dokcer`; did you mean `docker`?"),
        (
            DockerSettings(user="me"),
            'pipeline `p`: `settings` must be a dictionary such as {"docker": DockerSettings(…)}, '
            "not DockerSettings(parent_image=None, apt… (DockerSettings)",
        ),
        ({"docker": ["pandas"]}, "pipeline `p`: settings['docker'] must be a DockerSettings, not ['pandas'] (list)"),
        ({"docker": {"usr": "me"}}, "DockerSettings has no field `usr`; did you mean `user`?"),
    ],
)
def test_refused_settings_arguments(settings, message):
    def p():
        pass

    with pytest.raises(UsageError) as caught:
        pipeline(settings=settings)(p)
    assert str(caught.value) == message


def test_unknown_options_of_the_decorators():
    with pytest.raises(UsageError) as caught:
        step(nmae="x")
    assert str(caught.value) == "@step has no option `nmae`; did you mean `name`?"
    with pytest.raises(UsageError) as caught:
        pipeline(enable_cache=True)
    assert str(caught.value) == "@pipeline has no option `enable_cache`; known: `cache`, `name`, `retries`, `settings`"


def test_an_uncaught_mistake_is_a_sentence_with_its_line_and_exit_code_2(project):
    project.write(
        "train.py",
        "from longshore.config import DockerSettings\n\n"
        "def settings():\n    return DockerSettings(requirments=['pandas'])\n\nsettings()\n",
    )
    done = project.python("train.py")
    assert done.returncode == 2
    assert done.stderr == (
        "error: DockerSettings has no field `requirments`; did you mean `requirements`?\n"
        "  --> train.py:4: return DockerSettings(requirments=['pandas'])\n"
    )


def test_other_exceptions_keep_their_traceback(project):
    done = project.python("-c", "import longshore\n1 / 0")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")
