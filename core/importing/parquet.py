"""Parquet files on their way into an import: batches of rows whose columns become cells of a `Table`.

Every value is written out as the text that a CSV of the same data would hold, and goes through the same converters. So
a cell means the same whatever the file's format: the same values, the same sentinels, the same reasons for a reject.
Writing them out is done by Arrow a column at a time and costs less than splitting lines would.

What Parquet knows better than text is used: only the columns that the mapping names are read from disk, a null is
missing, NaN is missing (that is what pandas writes for it), a typed time or date needs no format, a time with a zone is
the moment it names, a list is a set, and a dot in a column's name steps into a struct.

Memory holds one batch and what Arrow holds of the row group that it is reading. A file without its footer (cut off on
its way) is refused before anything is written; a damaged page shows only when it is reached, and then the rows before
it are in the store, as the error says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.errors import ImportRefused
from core.hub.causes import CAUSE_NUMBERS
from core.importing.table import Table

# Between members of a list on its way to a set; as for JSON arrays.
JOIN: Final = "\x1f"
# Texts of one batch; the table's offsets are 32 bits wide.
_TEXT_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class ParquetColumn:
    """Where a wanted column lies: the batch's column, then the names of inner fields; and what it holds."""

    root: str
    inner: tuple[str, ...]
    type: Any  # pyarrow.DataType

    @property
    def listed(self) -> bool:
        """Whether its cells are lists of texts."""
        return _is_list(self.type)

    @property
    def timed(self) -> bool:
        """Whether its cells are times or dates, so that they need no format."""
        return bool(pa.types.is_timestamp(self.type) or pa.types.is_date(self.type))

    @property
    def boolean(self) -> bool:
        """Whether its cells are true or false, whatever words the mapping has for them."""
        return bool(pa.types.is_boolean(self.type))


class ParquetRows:
    """One Parquet file. Holds the file open until `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read = 0  # rows given so far
        try:
            # Files carry no checksums unless their writer was asked; where they do, they are looked at.
            self.file = pq.ParquetFile(str(path), page_checksum_verification=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ImportRefused(
                str(path), f"it is no whole Parquet file: {_said(error)}",
                "A Parquet file ends with its table of contents: was it cut off on its way? Send the whole file again.",
            ) from error
        self.rows = int(self.file.metadata.num_rows)
        self.names: list[str] = list(self.file.schema_arrow.names)

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()

    def find(self, name: str) -> ParquetColumn | None:
        """The column of this name: one of the file's, or the path of a struct's field with dots."""
        schema = self.file.schema_arrow
        if name in self.names:
            return ParquetColumn(name, (), _plain(schema.field(self.names.index(name)).type))
        root, *inner = name.split(".")
        if not inner or root not in self.names:
            return None
        found = schema.field(self.names.index(root)).type
        for step in inner:
            if not pa.types.is_struct(found) or found.get_field_index(step) < 0:
                return None
            found = found.field(step).type
        return ParquetColumn(root, tuple(inner), _plain(found))

    def tables(self, columns: Sequence[ParquetColumn], decimal: str, rows: int) -> Iterator[Table]:
        """Tables of up to ``rows`` rows, the columns in the slots of their order. The same table is given each time.

        A row's line is its number in the file, from 1. Raises ImportRefused where the file is damaged.
        """
        table = Table([], len(columns), rows)
        wanted = [".".join((column.root, *column.inner)) for column in columns]
        try:
            for batch in self.file.iter_batches(batch_size=rows, columns=wanted):
                table.hold(batch.num_rows)
                size = 0
                for slot, column in enumerate(columns):
                    values = batch.column(batch.schema.get_field_index(column.root))
                    if column.inner:
                        values = pc.struct_field(values, list(column.inner))
                    texts = _texts(values, decimal)
                    ends = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
                    size += int(ends[-1] - ends[0])
                    if size > _TEXT_BYTES:
                        raise ImportRefused(
                            str(self.path),
                            f"rows {self.read + 1} to {self.read + batch.num_rows} hold over {_TEXT_BYTES >> 20} MiB of text",
                            "Are the right columns named? No attribute holds a text of more than 1 KiB.",
                        )
                    valid = None if texts.null_count == 0 else np.frombuffer(texts.buffers()[0], np.uint8)
                    data = texts.buffers()[2]
                    text = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
                    table.set_texts(slot, ends, text, valid, texts.offset)
                    if column.listed and texts.null_count > values.null_count:
                        self._mark_nulls(table, values, texts)
                self.read += batch.num_rows
                yield table
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ImportRefused(
                str(self.path), f"it is damaged after row {self.read} of {self.rows}: {_said(error)}",
                "Send the whole file again.",
            ) from error

    def _mark_nulls(self, table: Table, values: Any, texts: Any) -> None:
        """Reject the rows whose list holds a null, as a JSON array with one is rejected."""
        lost = pc.and_(pc.is_valid(values), pc.is_null(texts))
        for row in np.flatnonzero(lost.to_numpy(zero_copy_only=False)):
            table.mark(int(row), -1, CAUSE_NUMBERS["NOT_PLAIN"], str(values[int(row)].as_py()).encode()[:256])


def unfit(column: ParquetColumn, *, to_set: bool) -> str:
    """Why a column of this type cannot be read into a plain value, or a set with ``to_set``; '' when it can."""
    kind = column.type
    if _is_list(kind):
        if not to_set:
            return f"it holds lists ({kind}), and a plain value is expected"
        member = _plain(kind.value_type)
        return "" if pa.types.is_string(member) or pa.types.is_large_string(member) else f"it holds {kind}, and a set has texts"
    if pa.types.is_nested(kind):
        return f"it holds {kind}, and a plain value is expected"
    known = (
        pa.types.is_null(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind)
        or _is_text(kind) or pa.types.is_fixed_size_binary(kind)
    )
    return "" if known else f"it holds {kind}, which is no number, text or time"


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_text(kind: Any) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )


def _plain(kind: Any) -> Any:
    """A dictionary's type is that of its values."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _texts(values: Any, decimal: str) -> Any:
    """The values as a StringArray or BinaryArray; null where missing."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return values
    if pa.types.is_null(kind):
        return pa.nulls(len(values), pa.string()).fill_null("")
    if _is_list(kind):
        return pc.binary_join(values.cast(pa.list_(pa.string())), JOIN)
    if _is_text(kind) or pa.types.is_fixed_size_binary(kind):
        # Bytes that are no UTF-8 are for the converter to reject, row by row.
        return values.cast(pa.binary())
    if pa.types.is_timestamp(kind):
        if kind.tz is None:
            return values.cast(pa.string())
        return pc.binary_join_element_wise(values.view(pa.timestamp(kind.unit)).cast(pa.string()), "Z", "")
    if pa.types.is_floating(kind):
        if pa.types.is_float16(kind):
            values = values.cast(pa.float32())
        values = pc.if_else(pc.is_nan(values), None, values)
        texts = values.cast(pa.string())
        return texts if decimal == "." else pc.replace_substring(texts, ".", decimal)
    texts = values.cast(pa.string())
    return pc.replace_substring(texts, ".", decimal) if pa.types.is_decimal(kind) and decimal != "." else texts


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
