"""Prints what other implementations find in Parquet files, one JSON object for each file."""

import json
import math
import struct
import sys

import duckdb
import pandas
import pyarrow
import pyarrow.parquet


def plain(value):
    """A value in a form that JSON keeps exactly."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        return struct.pack(">d", value).hex()
    return str(value)


def arrow(path):
    table = pyarrow.parquet.read_table(path)
    types = [[f.name, str(f.type)] for f in table.schema]
    stamps = table.column(0).cast(pyarrow.int64())
    table = table.set_column(0, "time", stamps)
    columns = [[plain(v) for v in column.to_pylist()] for column in table.columns]
    meta = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    return {"types": types, "columns": columns, "meta": meta}


def duck(path):
    source = "read_parquet('%s')" % path.replace("'", "''")
    types = [[row[0], row[1]] for row in duckdb.sql("describe select * from " + source).fetchall()]
    result = duckdb.sql("select epoch_ns(time), columns(* exclude time) from " + source).fetchall()
    return {"types": types, "columns": [[plain(row[i]) for row in result] for i in range(len(types))]}


def frame(path):
    data = pandas.read_parquet(path)
    return {"types": [[name, str(t)] for name, t in data.dtypes.items()], "rows": len(data)}


for name in sys.argv[1:]:
    print(json.dumps({"arrow": arrow(name), "duck": duck(name), "frame": frame(name)}))
