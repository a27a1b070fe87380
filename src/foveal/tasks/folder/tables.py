"""The rows of tables that people keep beside their images, in CSV or Parquet."""

import csv
import math
import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

Rows = list[tuple[int, dict[str, Any]]]  # each with its number


def as_text(value: Any, where: str) -> str:
    """A value of a manifest as text: whole numbers without a point, what is missing as "".

    Raises `ValueError` for what is no text and no number, naming ``where`` it stands.
    """
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if isinstance(value, float | np.floating | Decimal):
        if math.isnan(value):
            return ""
        if math.isfinite(value) and value == int(value):
            return str(int(value))
        return format(value.normalize(), "f") if isinstance(value, Decimal) else str(value)
    if not isinstance(value, str | int | date | None):
        kind = type(value).__name__
        raise ValueError(f"{where}: path, label and split must be text or numbers; got a {kind}.")
    return "" if value is None else str(value)


def read_csv(path: Path, errors: str = "strict") -> tuple[list[str], Rows]:
    """The columns and rows of a CSV file in UTF-8, separated as spreadsheets write it.

    ``errors`` is what Python does with bytes that are no UTF-8. Raises `ValueError` if it is none.
    """
    try:
        with path.open(encoding="utf-8-sig", errors=errors, newline="") as file:
            head = file.readline()
            file.seek(0)
            between = max(",;\t", key=head.count)  # as spreadsheets write it
            numbered = enumerate(csv.reader(file, strict=True, delimiter=between), start=1)
            rows = [(number, row) for number, row in numbered if any(map(str.strip, row))]
    except (csv.Error, UnicodeDecodeError) as problem:
        raise ValueError(f"{path} is not a CSV file in UTF-8 ({problem}). Save it again.") from None
    columns = [name.strip() for name in rows[0][1]] if rows else []
    for number, row in rows:
        if len(row) > len(columns):
            raise ValueError(
                f"{path} row {number} has more values than the header has columns. Put values "
                "with commas in quotes."
            )
    return columns, [(number, dict(zip(columns, row, strict=False))) for number, row in rows[1:]]


def read_parquet(path: Path) -> tuple[list[str], Rows]:
    """The same of a Parquet file; `ValueError`, or `ImportError` without PyArrow."""
    try:
        from pyarrow import ArrowException, parquet, types  # noqa: PLC0415 (an extra)
    except ImportError:
        raise ImportError(
            "a Parquet manifest needs PyArrow; pip install 'foveal[parquet]', or save it as CSV"
        ) from None
    try:
        table = parquet.read_table(path)
        # Python's floats would show float32 numbers with digits that they do not have.
        values = [
            column.to_numpy() if types.is_floating(column.type) else column.to_pylist()
            for column in table.columns
        ]
    except (ArrowException, OSError, ValueError) as problem:
        said = str(problem).splitlines()[0]
        raise ValueError(f"{path} is not a Parquet file ({said}). Save it again.") from None
    columns = list(table.column_names)
    rows = enumerate(zip(*values, strict=True), start=1)
    return columns, [(number, dict(zip(columns, row, strict=True))) for number, row in rows]
