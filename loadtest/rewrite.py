"""The generated customers in the other formats that an import reads: what `make bench` compares them by."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

NAMES: Final = ("customers.parquet", "customers.csv.gz", "customers.csv.zst")

# Rows of a row group: what pandas and Spark write is of this order.
GROUP: Final = 100_000


def write(csv: Path, path: Path) -> None:
    """Writes the rows of ``csv`` to ``path``, in the format of its ending."""
    match path.suffix:
        case ".parquet":
            rows = pyarrow.csv.open_csv(csv)
            with pyarrow.parquet.ParquetWriter(path, rows.schema, compression="zstd") as writer:
                for batch in rows:
                    writer.write_batch(batch, row_group_size=GROUP)
        case ".gz":
            with csv.open("rb") as source, gzip.open(path, "wb", compresslevel=1) as packed:
                shutil.copyfileobj(source, packed, 1 << 20)
        case ".zst":
            with csv.open("rb") as source, pa.OSFile(str(path), "wb") as raw, pa.CompressedOutputStream(raw, "zstd") as packed:
                while block := source.read(1 << 20):
                    packed.write(block)
        case _:
            raise ValueError(f"{path.name} is in no format that is written here")
