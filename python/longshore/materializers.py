"""The forms in which values are stored: which form for which value, writing it, reading it.

A value comes back as it was, or is stored as a pickle. The open forms (JSON, text, npy, Parquet) are chosen only for
values that they hold without loss.
"""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING, Callable, NamedTuple, cast

from longshore.plain import NotPlain, decode, encode

if TYPE_CHECKING:
    import numpy
    import pandas

PICKLE_PROTOCOL = 5


class Form(NamedTuple):
    """One form: the data file's name, and how it is written and read."""

    file: str
    write: Callable[[object, IO[bytes]], None]
    read: Callable[[IO[bytes], str], object]
    """Takes the open file and the name of the value's type."""


def store(value: object, write: Callable[[str, Callable[[IO[bytes]], None]], None]) -> str:
    """Has the value written in its form and returns the form's name.

    `write` is given the data file's name and a function that writes to the open file.
    """
    name = _open_form(value)
    if name is None:
        # Encoding is the check, and it is done once.
        try:
            document = encode(value)
        except (NotPlain, RecursionError):
            name = "pickle"
        else:
            name, value = "json", document
    form = FORMS[name]
    write(form.file, lambda file: form.write(value, file))
    return name


def type_name(value: object) -> str:
    """The name of a value's type, with its module unless that is `builtins`."""
    kind = type(value)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _open_form(value: object) -> str | None:
    kind = type(value)
    if kind is bytes:
        return "bytes"
    if kind is str:
        return "text"
    if _is_from("numpy", kind) and _fits_npy(value):
        return "npy"
    if _is_from("pandas", kind) and _fits_parquet(value):
        return "parquet"
    return None


def _is_from(package: str, kind: type) -> bool:
    return kind.__module__.split(".")[0] == package and package in sys.modules


# bytes and text


def _write_bytes(value: object, file: IO[bytes]) -> None:
    file.write(cast("bytes", value))


def _read_bytes(file: IO[bytes], _type: str) -> object:
    return file.read()


def _write_text(value: object, file: IO[bytes]) -> None:
    # `surrogatepass`: file names from the system may hold surrogates, and come back as they were.
    file.write(cast("str", value).encode("utf-8", "surrogatepass"))


def _read_text(file: IO[bytes], _type: str) -> object:
    return file.read().decode("utf-8", "surrogatepass")


# Plain data


def _write_json(document: object, file: IO[bytes]) -> None:
    import json

    file.write(json.dumps(document, allow_nan=False).encode("ascii"))


def _read_json(file: IO[bytes], _type: str) -> object:
    import json

    return decode(json.loads(file.read()))


# Arrays


def _fits_npy(value: object) -> bool:
    import numpy

    if type(value) is not numpy.ndarray and not isinstance(value, numpy.generic):
        return False
    # Numbers, text, bytes and times. Records may have padding and titles, and objects need a pickle anyway.
    dtype = value.dtype
    return dtype.kind in "biufcSUmM" and dtype.metadata is None


def _write_npy(value: object, file: IO[bytes]) -> None:
    import numpy

    numpy.save(file, cast("numpy.ndarray", value), allow_pickle=False)  # type: ignore[type-arg]


def _read_npy(file: IO[bytes], kind: str) -> object:
    import numpy

    array = numpy.load(file, allow_pickle=False)
    # A scalar such as numpy.float64 is written as an array without dimensions.
    return array if kind == "numpy.ndarray" else array[()]


# Data frames


def _fits_parquet(value: object) -> bool:
    """Whether a frame survives Parquet unchanged.

    Not so, among others: columns of mixed objects (tuples become arrays), missing text (NaN becomes None), names of
    columns that are not text, an index's frequency, `attrs`.
    """
    from importlib.util import find_spec

    import pandas

    if type(value) is not pandas.DataFrame or find_spec("pyarrow") is None:
        return False
    columns = value.columns
    if not columns.is_unique or columns.nlevels != 1 or columns.name is not None or value.attrs:
        return False
    if columns.dtype != object or not all(type(name) is str for name in columns):
        return False
    index = value.index
    if index.nlevels != 1 or not (index.name is None or type(index.name) is str):
        return False
    # An index is stored as a column of its name; without one, as `__index_level_0__`.
    if index.name in columns or "__index_level_0__" in columns:
        return False
    if getattr(index, "freq", None) is not None:
        return False
    if type(index) is not pandas.RangeIndex and not _column_fits(index.to_series()):
        return False
    return all(_column_fits(value[name]) for name in columns)


def _column_fits(column: pandas.Series[object]) -> bool:
    import numpy
    import pandas

    dtype = cast("object", column.dtype)
    if isinstance(dtype, numpy.dtype):
        if dtype.kind in "biu":
            return dtype.isnative
        if dtype.kind == "f":
            return dtype.isnative and dtype.itemsize in (4, 8)
        if dtype.kind == "M":
            # Parquet has no seconds and no days.
            return dtype.isnative and numpy.datetime_data(dtype)[0] in ("ms", "us", "ns")
        # Text without gaps only: `None` and NaN would both come back as `None`.
        return dtype.kind == "O" and all(type(item) is str for item in column.array)
    return isinstance(dtype, pandas.DatetimeTZDtype) or str(dtype) in _NULLABLE


_NULLABLE = frozenset(
    ["boolean", "Float32", "Float64"] + [f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
)


def _write_parquet(value: object, file: IO[bytes]) -> None:
    cast("pandas.DataFrame", value).to_parquet(file, engine="pyarrow")


def _read_parquet(file: IO[bytes], _type: str) -> object:
    import pandas

    return pandas.read_parquet(file, engine="pyarrow")


# Everything else


def _write_pickle(value: object, file: IO[bytes]) -> None:
    import pickle

    pickle.dump(value, file, protocol=PICKLE_PROTOCOL)


def _read_pickle(file: IO[bytes], _type: str) -> object:
    import pickle

    main = _main_module()

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            # A step imports `train.py` as `train`; in a script that loads the result it is `__main__` already, and
            # importing it once more would run the pipeline once more.
            return super().find_class("__main__" if module == main else module, name)

    return Unpickler(file).load()


def _main_module() -> str | None:
    """The name under which others import the script that runs."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if file is None:
        return None
    spec = getattr(main, "__spec__", None)
    name: str = spec.name if spec is not None else os.path.splitext(os.path.basename(file))[0]
    return None if name in sys.modules else name


FORMS: dict[str, Form] = {
    "bytes": Form("data.bin", _write_bytes, _read_bytes),
    "json": Form("data.json", _write_json, _read_json),
    "npy": Form("data.npy", _write_npy, _read_npy),
    "parquet": Form("data.parquet", _write_parquet, _read_parquet),
    "pickle": Form("data.pickle", _write_pickle, _read_pickle),
    "text": Form("data.txt", _write_text, _read_text),
}
