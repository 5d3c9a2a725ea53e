"""Compares Parquet files with the recordings that they were made of.

Usage: compare.py MANIFEST. The manifest is a JSON list; each item describes one flow:
  file     the recording, CSV with a header or JSON lines
  format   "csv" or "ndjson"
  tables   directory of the flow's Parquet files
  time     column or path of the event time
  digits   decimal digits from its unit to ns: 9 for s, 6 for ms
  start    ns since the Unix epoch, added to the time
  columns  channel name -> column, or list of keys and indexes for JSON lines

Nothing of the program under test is used: csv, json and decimal read the recording,
pyarrow and pandas read the Parquet files. Every value must be equal, in order.
"""

import csv
import decimal
import glob
import json
import math
import os
import sys

import pandas
import pyarrow.parquet


def records(item):
    with open(item["file"], newline="") as f:
        if item["format"] == "csv":
            yield from csv.DictReader(f)
            return
        for line in f:
            if line.strip():
                yield json.loads(line, parse_float=decimal.Decimal)


def find(record, path):
    if isinstance(path, str):
        return record.get(path)
    for step in path:
        try:
            record = record[step]
        except (KeyError, IndexError, TypeError):
            return None
    return record


def stamp(item, record):
    value = decimal.Decimal(str(find(record, item["time"])))
    return int(value.scaleb(item["digits"])) + item["start"]


def expected(kind, value):
    """The value as a column of this Arrow type has it."""
    if value is None or (value == "" and isinstance(value, str)):
        return None
    if kind == "double":
        return float(value)
    if kind.startswith(("int", "uint")):
        return int(value)
    if kind == "bool":
        return value if isinstance(value, bool) else value.lower() == "true"
    return value


def same(got, want):
    if got is None or want is None:
        return got is want
    if isinstance(want, float) and math.isnan(want):
        return math.isnan(got)
    return type(got) is type(want) and got == want


def compare(item):
    files = sorted(glob.glob(os.path.join(item["tables"], "*.parquet")))
    if not files:
        sys.exit(f"no files in {item['tables']}")
    tables = [pyarrow.parquet.read_table(f) for f in files]
    table = pyarrow.concat_tables(tables)
    if sorted(table.column_names) != sorted(["time", *item["columns"]]):
        sys.exit(f"{item['tables']}: columns {table.column_names}")
    frames = sum(len(pandas.read_parquet(f)) for f in files)
    times = table["time"].cast("int64").to_pylist()
    rows = list(records(item))
    if not len(rows) == len(times) == frames:
        sys.exit(f"{item['tables']}: {len(rows)} rows expected, {len(times)} in pyarrow, {frames} in pandas")
    for i, record in enumerate(rows):
        if times[i] != stamp(item, record):
            sys.exit(f"{item['tables']}: row {i}: time {times[i]}, not {stamp(item, record)}")
    for channel, path in item["columns"].items():
        kind = str(table.schema.field(channel).type)
        for i, (got, record) in enumerate(zip(table[channel].to_pylist(), rows)):
            want = expected(kind, find(record, path))
            if not same(got, want):
                sys.exit(f"{item['tables']}: row {i}, {channel} ({kind}): {got!r}, not {want!r}")
    print(f"{len(rows)} rows, {len(item['columns'])} columns equal: {item['tables']}")


for entry in json.load(open(sys.argv[1])):
    compare(entry)
