"""Parquet files: rows written as they come, and read again to see what they come to. Imported by who archives only."""

import os
from collections.abc import Mapping
from decimal import Context, Decimal, localcontext
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from opsfleet.domain.errors import ArchiveError
from opsfleet.store.part_contents import SUMMED, Contents, Totals

BLOCK_BYTES = 4 << 20
"""How much text becomes one group of rows: with its columns and their encoding, most of the memory that is needed."""

_IDENTITY_KEY = b"opsfleet.part"
_EXACT = Context(prec=100)

_TYPES = {
    "timestamp with time zone": pa.timestamp("us", "UTC"),
    "uuid": pa.string(),
    "text": pa.string(),
    "jsonb": pa.string(),
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
}


def write(source: BinaryIO, target: Path, contents: Contents) -> None:
    """Write the CSV that comes out of `source`, with a line of names, to the new file `target`, down to the disk.

    Raises:
        ArchiveError: when a value does not fit its type, or the disk is full.
    """
    types = {name: _type(name, kind) for name, kind in contents.columns.items()}
    schema = pa.schema(types.items(), metadata={_IDENTITY_KEY: str(contents.identity)})
    try:
        with target.open("xb") as file:
            reader = csv.open_csv(
                source,
                read_options=csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                parse_options=csv.ParseOptions(newlines_in_values=True),
                convert_options=csv.ConvertOptions(
                    column_types=types,
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                    true_values=["t"],
                    false_values=["f"],
                ),
            )
            with parquet.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
                for batch in reader:
                    writer.write_batch(batch)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, pa.ArrowException) as error:
        raise ArchiveError(f"{target} cannot be written: {error}") from error


def totals(path: Path, columns: Mapping[str, str]) -> Totals:
    """Read all of a file and return what its rows come to, in exact arithmetic.

    Raises:
        ArchiveError: when it cannot be read or lacks a column.
    """
    rows = 0
    nulls = dict.fromkeys(columns, 0)
    sums = {name: Decimal(0) for name, kind in columns.items() if kind in SUMMED}
    first = last = None
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file, localcontext(_EXACT):
            for number in range(file.num_row_groups):
                group = file.read_row_group(number, use_threads=False)
                rows += group.num_rows
                for name in columns:
                    nulls[name] += group.column(name).null_count
                for name in sums:
                    sums[name] += _sum(group.column(name))
                bounds = pc.min_max(group.column("timestamp")).as_py()
                if bounds["min"] is not None:
                    first = min(first or bounds["min"], bounds["min"])
                    last = max(last or bounds["max"], bounds["max"])
    except (OSError, KeyError, pa.ArrowException) as error:
        raise ArchiveError(f"{path} cannot be read again: {error}") from error
    return Totals(rows, nulls, sums, first, last)


def is_of(path: Path, identity: UUID) -> bool:
    """Say whether a file was made of the part with this identity, and may therefore be replaced.

    Raises:
        ArchiveError: when it cannot be read.
    """
    try:
        metadata = parquet.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise ArchiveError(f"{path} is in the way and cannot be read: {error}") from error
    return bool(metadata.get(_IDENTITY_KEY) == str(identity).encode())


def _type(name: str, kind: str) -> Any:
    if kind == "numeric":
        # Costs are whole millionths of a dollar; sums of bytes over a fleet need all the digits before the point.
        return pa.decimal128(20, 6) if name.endswith("_usd") else pa.decimal128(38, 0)
    if kind not in _TYPES:
        raise ArchiveError(f"the column {name} is of type {kind}, which cannot be archived")
    return _TYPES[kind]


def _sum(column: Any) -> Decimal:
    if pa.types.is_integer(column.type):
        column = column.cast(pa.decimal128(38, 0))
    found = pc.sum(column).as_py()
    return Decimal(0) if found is None else Decimal(found)
