"""Artifacts: every value comes back as it was, damage is found, writing is all or nothing."""

import dataclasses
import datetime
import decimal
import hashlib
import json
import os
import stat
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from longshore import Artifact, ArtifactError
from longshore.artifacts import load, save


@dataclasses.dataclass
class Point:
    x: int
    y: float


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return (tmp_path / "run 1" / "train" / "output").as_uri()


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "run 1" / "train" / "output"


def stored(value, tmp_path: Path):
    """Stores a value; returns the form that was chosen, and the value read back."""
    folder = tmp_path / "artifact"
    save(value, folder.as_uri(), "the output `output`")
    document = json.loads((folder / "artifact.json").read_text())
    [file] = document["files"]
    data = (folder / file["path"]).read_bytes()
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert file["size"] == len(data)
    assert sorted(os.listdir(folder)) == sorted(["artifact.json", file["path"]])
    return document["materializer"], load(folder.as_uri())


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (None, "json"),
        (0.95, "json"),
        ({"a": (1, {2})}, "json"),
        ("", "text"),
        ("line\r\n\né\ud800", "text"),
        (b"\x00\xff", "bytes"),
        (bytearray(b"x"), "pickle"),
        (Point(1, 2.5), "pickle"),
        ([Point(1, 2.5)], "pickle"),
        (datetime.datetime(2024, 1, 15, tzinfo=datetime.timezone.utc), "pickle"),
        (Path("/a/b"), "pickle"),
    ],
    ids=str,
)
def test_plain_data_and_objects(value, form, tmp_path):
    chosen, back = stored(value, tmp_path)
    assert chosen == form
    assert type(back) is type(value)
    assert back == value


ARRAYS = [
    np.arange(6, dtype=np.int16).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.array([1, 2], dtype=">f8"),
    np.array(3.5),
    np.empty((0, 4), dtype=np.float32),
    np.array([True, False]),
    np.array([1 + 2j]),
    np.array(["a", "long text"]),
    np.array([b"a\x01"]),
    np.array(["2024-01-15", "NaT"], dtype="datetime64[ns]"),
    np.array([1, 2], dtype="timedelta64[s]"),
    np.array([np.nan, np.inf, -0.0], dtype=np.float16),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
def test_arrays_are_npy(array, tmp_path):
    form, back = stored(array, tmp_path)
    assert form == "npy"
    assert type(back) is np.ndarray
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.flags.f_contiguous == array.flags.f_contiguous
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("scalar", [np.float64(0.95), np.int32(3), np.bool_(True), np.datetime64("2024-01-15")])
def test_numpys_scalars_keep_their_type(scalar, tmp_path):
    form, back = stored(scalar, tmp_path)
    assert form == "npy"
    assert type(back) is type(scalar)
    assert back == scalar
    assert back.dtype == scalar.dtype


@pytest.mark.parametrize(
    "array",
    [
        np.array([{"a": 1}, None], dtype=object),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.ma.masked_array([1, 2], mask=[True, False]),
        np.array([1], dtype=np.dtype("i4", metadata={"unit": "m"})),
    ],
    ids=["objects", "records", "masked", "metadata"],
)
def test_other_arrays_are_pickles(array, tmp_path):
    form, back = stored(array, tmp_path)
    assert form == "pickle"
    assert type(back) is type(array)
    assert back.tolist() == array.tolist()
    assert back.dtype == array.dtype


def frame(**columns) -> pd.DataFrame:
    return pd.DataFrame(columns or {"a": [1, 2, 3]})


PARQUET_FRAMES = {
    "numbers": frame(i=[1, 2], f=[0.5, np.nan], b=[True, False], u=np.array([1, 2], dtype="u1")),
    "text": frame(t=["a", ""], other=["é", "\0"]),
    "times": frame(t=pd.to_datetime(["2024-01-15", None])),
    "milliseconds": frame(t=np.array(["2024-01-15", "1970-01-01"], dtype="datetime64[ms]")),
    "times with zone": frame(t=pd.to_datetime(["2024-01-15"]).tz_localize("Europe/Paris")),
    "nullable": frame(i=pd.array([1, None], dtype="Int64"), b=pd.array([True, None], dtype="boolean")),
    "nullable floats": frame(f=pd.array([1.5, None], dtype="Float64")),
    "empty": frame(a=np.array([], dtype="f8")),
    "index of text": pd.DataFrame({"a": [1, 2]}, index=["x", "y"]),
    "named index": pd.DataFrame({"a": [1, 2]}, index=pd.Index([5, 7], name="key")),
    "gaps in the index": frame()[lambda f: f["a"] != 2],
    "spaces in names": frame(**{"mean radius": [1.0], "a.b": [2.0]}),
}


@pytest.mark.parametrize("name", PARQUET_FRAMES)
def test_plain_frames_are_parquet(name, tmp_path):
    value = PARQUET_FRAMES[name]
    form, back = stored(value, tmp_path)
    assert form == "parquet"
    assert_identical(back, value)


OTHER_FRAMES = {
    "tuples": frame(a=[(1, 2), (3, 4)]),
    "mixed": frame(a=[1, "x"]),
    "text with NaN": frame(a=["x", np.nan]),
    "text with None": frame(a=["x", None]),
    "float16": frame(a=np.array([1.5], dtype="f2")),
    "complex": frame(a=[1j]),
    "decimals": frame(a=[decimal.Decimal("1.50")]),
    "seconds": frame(t=np.array(["2024-01-15", "1970-01-01"], dtype="datetime64[s]")),
    "durations": frame(a=pd.to_timedelta([1, 2], unit="s")),
    "categories": frame(a=pd.Categorical(["x", "y"], categories=["y", "x"], ordered=True)),
    "string dtype": frame(a=pd.array(["x", None], dtype="string")),
    "numbers as names": pd.DataFrame({0: [1], 1: [2]}),
    "the same name twice": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "levels of names": pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])),
    "levels of index": pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, 2)])),
    "names have a name": pd.DataFrame([[1]], columns=pd.Index(["a"], name="n")),
    "index with frequency": pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2024-01-15", periods=2)),
    "index like a column": pd.DataFrame({"a": [1]}, index=pd.Index([5], name="a")),
    "index with a number for name": pd.DataFrame({"a": [1]}, index=pd.Index([5], name=3)),
    "a column like an index": pd.DataFrame({"__index_level_0__": [1]}, index=[5]),
    "no columns": pd.DataFrame(index=[1, 2]),
}


@pytest.mark.parametrize("name", OTHER_FRAMES)
def test_other_frames_are_pickles(name, tmp_path):
    value = OTHER_FRAMES[name]
    form, back = stored(value, tmp_path)
    assert form == "pickle"
    assert_identical(back, value)


def test_attributes_of_a_frame_are_kept(tmp_path):
    value = frame()
    value.attrs["unit"] = {"a": object}
    form, back = stored(value, tmp_path)
    assert form == "pickle"
    assert back.attrs == value.attrs


def test_series_keep_their_name(tmp_path):
    value = pd.Series([1, 2], name="x")
    form, back = stored(value, tmp_path)
    assert form == "pickle"
    pd.testing.assert_series_equal(back, value)


def assert_identical(back: pd.DataFrame, value: pd.DataFrame) -> None:
    assert type(back) is pd.DataFrame
    pd.testing.assert_frame_equal(back, value, check_exact=True, check_index_type="exact", check_column_type="exact")
    # Where `assert_frame_equal` is lenient: NaN and None, the kind of index, frequencies.
    assert type(back.index) is type(value.index)
    assert getattr(back.index, "freq", None) == getattr(value.index, "freq", None)
    for position in range(value.shape[1]):
        for left, right in zip(back.iloc[:, position].array, value.iloc[:, position].array):
            assert type(left) is type(right)


def test_a_model(tmp_path):
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    data, target = load_iris(return_X_y=True)
    model = RandomForestClassifier(n_estimators=5, random_state=0).fit(data, target)
    form, back = stored(model, tmp_path)
    assert form == "pickle"
    assert (back.predict(data) == model.predict(data)).all()


def test_without_pyarrow_frames_are_pickles(project):
    done = project.python(
        "-c",
        "import sys, json, pandas; sys.modules['pyarrow'] = None\n"
        "from longshore.artifacts import save, load\n"
        f"save(pandas.DataFrame({{'a': [1]}}), 'file://{project.folder}/x', 'it')\n"
        f"print(json.load(open('{project.folder}/x/artifact.json'))['materializer'])\n"
        f"print(load('file://{project.folder}/x')['a'].tolist())",
    )
    assert done.stdout.split() == ["pickle", "[1]"], done.stderr


def test_the_document(uri, tmp_path):
    save({"a": 1}, uri, "it")
    text = (folder_of(tmp_path) / "artifact.json").read_text()
    assert json.loads(text) == {
        "version": 1,
        "materializer": "json",
        "type": "dict",
        "python": "{}.{}.{}".format(*sys.version_info),
        "files": [{"path": "data.json", "sha256": hashlib.sha256(b'{"a": 1}').hexdigest(), "size": 8}],
    }


def test_an_artifact_can_be_read_by_other_users(uri, tmp_path):
    previous = os.umask(0o022)
    try:
        save([1], uri, "it")
    finally:
        os.umask(previous)
    assert stat.S_IMODE(folder_of(tmp_path).stat().st_mode) == 0o755


def test_what_cannot_be_pickled_is_named(uri, tmp_path):
    with pytest.raises(ArtifactError) as caught:
        save({"lock": threading.Lock()}, uri, "the output `model`")
    assert str(caught.value) == (
        "the output `model` is a dict, which cannot be stored: TypeError: cannot pickle '_thread.lock' object; "
        "return plain data, an array, a data frame, or an object that `pickle` can write"
    )
    assert os.listdir(folder_of(tmp_path).parent) == []


def test_a_write_that_fails_half_way_leaves_nothing(uri, project):
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"from longshore.artifacts import save\nsave(bytes(5000), {uri!r}, 'the output `a`')"
    )
    done = project.python("-c", code)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the output `a` cannot be written to ")
    assert done.stderr.splitlines()[0].endswith("/run 1/train/output: File too large")
    assert os.listdir(folder_of(project.folder).parent) == []


def test_writing_again_replaces(uri, tmp_path):
    save("first", uri, "it")
    save([2], uri, "it")
    assert load(uri) == [2]
    assert os.listdir(folder_of(tmp_path).parent) == ["output"]


def test_damage_is_found(uri, tmp_path):
    save(Point(1, 2), uri, "it")
    data = folder_of(tmp_path) / "data.pickle"
    good = data.read_bytes()
    for bad in (good[:-1], good + b"x", good[:-1] + b"x", b""):
        data.write_bytes(bad)
        with pytest.raises(ArtifactError, match="is damaged"):
            load(uri)
    data.unlink()
    with pytest.raises(ArtifactError, match="No such file"):
        load(uri)


def test_a_document_that_makes_no_sense(uri, tmp_path):
    with pytest.raises(ArtifactError, match="its step has not run, or it was removed"):
        load(uri)
    save(1, uri, "it")
    path = folder_of(tmp_path) / "artifact.json"
    good = json.loads(path.read_text())
    for change, message in [
        ({"version": 2}, "written by another version of longshore"),
        ({"materializer": "hdf5"}, "written by another version of longshore"),
        ({"files": []}, "cannot be read"),
        ({"files": [{**good["files"][0], "path": "../x"}]}, "'../x' is not a file of the artifact"),
        ({"files": [{"path": "data.json"}]}, "cannot be read"),
    ]:
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(ArtifactError, match=message):
            load(uri)
    path.write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        load(uri)


@pytest.mark.parametrize("uri", ["ftp://bucket/x", "s3://", "/plain/path", "file://host/x", "file:x", "https://x/y"])
def test_only_stores_that_are_known(uri):
    with pytest.raises(ArtifactError, match="is in no store that this version knows"):
        load(uri)


def test_a_pickle_of_another_python_warns(uri, tmp_path):
    save(Point(1, 2), uri, "it")
    path = folder_of(tmp_path) / "artifact.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "python": "3.8.18"}))
    with pytest.warns(UserWarning, match=r"is a pickle of Python 3\.8\.18, read by Python 3\."):
        assert load(uri) == Point(1, 2)


def test_a_missing_package_is_named(uri, project):
    save(frame(), uri, "it")
    code = f"import sys; sys.modules['pandas'] = None\nimport longshore\nlongshore.Artifact({uri!r}).load()"
    done = project.python("-c", code)
    assert done.returncode == 1
    assert "holds a pandas.core.frame.DataFrame, and reading it needs the module `pandas`" in done.stderr
    assert "Traceback" not in done.stderr


def test_artifact_load(uri):
    save({"a": (1,)}, uri, "it")
    assert Artifact(uri).load() == {"a": (1,)}
