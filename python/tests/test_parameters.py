"""Parameters of a pipeline from the command line and from files."""

import json
import sys
from typing import Dict, List, Optional

import pytest

from longshore import UsageError
from longshore.parameters import from_command_line


def pipeline(
    depth: int = 3,
    rate: float = 0.1,
    name: str = "x",
    fast: bool = False,
    sizes: List[int] = (),
    maybe: Optional[int] = None,
    label: Optional[str] = None,
    free=None,
    plain=4,
    table: Optional[Dict[str, int]] = None,
) -> None:
    """Trains."""


def read(*arguments):
    return from_command_line("p", pipeline, arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {}),
        (["--depth", "5", "--rate", "2"], {"depth": 5, "rate": 2.0}),
        (["--name", "5"], {"name": "5"}),
        (["--fast", "yes"], {"fast": True}),
        (["--sizes", "[1, 2]"], {"sizes": [1, 2]}),
        (["--maybe", "7"], {"maybe": 7}),
        (["--label", "7"], {"label": "7"}),
        (["--label", "a b"], {"label": "a b"}),
        (["--free", "[1]"], {"free": [1]}),
        (["--free", "word"], {"free": "word"}),
        (["--plain", "9"], {"plain": 9}),
        (["--table", "{'a': 1}"], {"table": {"a": 1}}),
    ],
)
def test_values_are_what_the_function_says(arguments, expected):
    found = read(*arguments)
    assert found == expected
    assert [type(value) for value in found.values()] == [type(value) for value in expected.values()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth", "x"], "--depth: 'x' is not a whole number"),
        (["--rate", "x"], "--rate: 'x' is not a number"),
        (["--fast", "maybe"], "--fast: 'maybe' is neither true nor false"),
        (["--sizes", "1,"], None),
        (["--sizes", "oops"], "--sizes: 'oops' is not a Python value such as [1, 2] or {'a': 1}"),
    ],
)
def test_what_does_not_fit_is_a_sentence(arguments, message):
    if message is None:
        assert read(*arguments) == {"sizes": (1,)}
        return
    with pytest.raises(UsageError) as caught:
        read(*arguments)
    assert str(caught.value) == message


def test_a_file_and_what_wins_over_it(tmp_path):
    file = tmp_path / "parameters.json"
    file.write_text(json.dumps({"depth": 7, "sizes": [1]}))
    assert read("--parameters", str(file), "--depth", "8") == {"depth": 8, "sizes": [1]}
    file.write_text('{"dept": 7}')
    with pytest.raises(UsageError, match="pipeline `p` has no parameter `dept`; did you mean `depth`"):
        read("--parameters", str(file))
    file.write_text("{")
    with pytest.raises(UsageError, match="is not valid"):
        read("--parameters", str(file))
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read("--parameters", str(tmp_path / "none.json"))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is of Python 3.11")
def test_toml(tmp_path):
    file = tmp_path / "parameters.toml"
    file.write_text("depth = 7\n[table]\na = 1\n")
    assert read("--parameters", str(file)) == {"depth": 7, "table": {"a": 1}}


def test_an_unknown_option_ends_with_2_and_help_names_the_parameters(project):
    project.write(
        "train.py",
        "from longshore import pipeline, step\n@step\ndef s(depth: int) -> None: ...\n"
        "@pipeline\ndef p(max_depth: int = 3):\n    '''Trains a model.'''\n    s(max_depth)\n"
        "p.main()\n",
    )
    done = project.python("train.py", "--dept", "4")
    assert done.returncode == 2
    assert "unrecognized arguments: --dept 4" in done.stderr
    done = project.python("train.py", "--help")
    assert done.returncode == 0
    assert "Trains a model." in done.stdout
    assert "--max-depth" in done.stdout
    assert "default: 3" in done.stdout


def test_they_reach_the_steps(project, program):
    project.write(
        "train.py",
        "from longshore import pipeline, step\n@step\ndef s(depth: int) -> int:\n    return depth\n"
        "@pipeline\ndef p(max_depth: int = 3):\n    s(max_depth)\n"
        "print(p.main().load('s'))\n",
    )
    done = project.python("train.py", "--max-depth", "11")
    assert done.stdout == "11\n", done.stderr
