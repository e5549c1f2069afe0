"""The package as a whole: light, without dependencies, one version, and its example."""

import ast
import re
import sys
from pathlib import Path

import pytest

import longshore

PACKAGE = Path(longshore.__file__).parent
ROOT = Path(__file__).parents[2]
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_importing_it_is_light(project):
    """What only one task needs is not imported: this happens in every step's container."""
    heavy = """asyncio base64 concurrent ctypes difflib email hashlib http importlib.metadata json logging
        multiprocessing pickle shutil signal site socket ssl subprocess sysconfig tempfile threading traceback
        unittest urllib zipfile numpy pandas pyarrow"""
    loaded = "import sys; before = set(sys.modules); import {}; print(*sorted(set(sys.modules) - before))"
    names = project.python("-c", loaded.format("longshore, longshore.config")).stdout.split()
    assert "longshore.steps" in names
    assert not set(names) & set(heavy.split())


def test_the_public_names_are_there():
    for name in longshore.__all__:
        assert getattr(longshore, name) is not None
    from longshore.config import DockerSettings

    assert DockerSettings().compile_bytecode


@pytest.mark.skipif(sys.version_info < (3, 10), reason="sys.stdlib_module_names is of Python 3.10")
def test_it_needs_the_standard_library_only():
    allowed = set(sys.stdlib_module_names) | {"longshore"}
    # Imported where a value or a store of theirs is at hand, so they are there; and for the type checker.
    optional = {"azure", "fsspec", "gcsfs", "numpy", "pandas", "typing_extensions"}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module]
            for name in names:
                assert name.split(".")[0] in allowed | optional, f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_the_syntax_is_that_of_the_oldest_python(path):
    ast.parse(path.read_text(), feature_version=(3, 9))


def test_one_version():
    cargo = (ROOT / "Cargo.toml").read_text()
    workspace = re.search(r'\[workspace\.package\]\nversion = "(.*?)"', cargo)
    assert longshore.__version__ == workspace.group(1)


def test_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_the_quickstart(project, program):
    """Through the whole package, with the real libraries; the program's part is played by the stand-in."""
    source = (ROOT / "examples/quickstart/train.py").read_text()
    assert 'DockerSettings(requirements=["pandas==2.2.3", "scikit-learn==1.5.2"])' in source
    project.write("train.py", source)
    done = project.python("train.py")
    assert done.returncode == 0, done.stderr
    score = re.search(r"^score: (0\.\d{3})$", done.stdout, re.MULTILINE)
    assert float(score.group(1)) > 0.9


def test_the_quickstart_needs_no_packages_here(project):
    project.write("train.py", (ROOT / "examples/quickstart/train.py").read_text())
    code = (
        "import sys; sys.modules['pandas'] = sys.modules['sklearn'] = None\n"
        "import train; print([s['outputs'] for s in train.my_pipeline.spec()['steps']])"
    )
    done = project.python("-c", code)
    assert done.stdout == "[['training', 'held_out'], ['model'], ['score']]\n", done.stderr
