"""A file's bytes on their way into an import: what they are by their content, unpacked, and as UTF-8.

Files are told apart by their first bytes, never by their names: a browser unpacks on the way and keeps the ending, an
export is renamed. Packings are those a data team sends (gzip, bzip2, xz, zstd); Parquet packs its columns itself and is
read at any place, so a packed Parquet file is refused with what to do.

A packed file is read through once before anything of it is imported, so that a file cut off on its way is refused as a
whole rather than imported by half.
"""

from __future__ import annotations

import bz2
import codecs
import enum
import gzip
import lzma
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from core.errors import ImportRefused

# Bytes read at once: large enough that Python's share of the work does not show, small enough for memory and progress.
BLOCK_BYTES: Final = 4 << 20

# Endings that a packed file's name may have; without them two files of one name are the same file.
PACKED_ENDINGS: Final = (".gz", ".bz2", ".xz", ".zst", ".zstd")

# Bytes that tell what a file is: the longest sign of a packing, and what stands before the first object of JSON Lines.
_HEAD_BYTES: Final = 16
_ARRAY: Final = re.compile(rb"\[\s*\{")


class Packing(enum.Enum):
    """How a file's bytes are packed."""

    NONE = "not packed"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTD = "zstd"


class _Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int = -1, /) -> bytes: ...


def packing_of(head: bytes) -> Packing:
    """The packing of a file that begins with these 10 bytes or more (fewer only where the file is as short)."""
    # The third byte is the method; what has another is damaged, and no text either.
    if head[:2] == b"\x1f\x8b":
        return Packing.GZIP
    # A text may begin with the three letters; no text goes on with one of the two marks of a block.
    if head[:3] == b"BZh" and head[3:4] in b"123456789" and head[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return Packing.BZIP2
    if head[:6] == b"\xfd7zXZ\0":
        return Packing.XZ
    # The second sign is that of a frame to be passed over, which some packers put first.
    if head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F):
        return Packing.ZSTD
    return Packing.NONE


def is_parquet(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a Parquet file, whole or not.

    Four letters alone could begin a header line; what follows them in Parquet is a control character.
    """
    return head[:4] == b"PAR1" and head[4:5] not in (b"\r", b"\n", b"\t") and (head[4:5] < b" " or head[4:5] > b"\x7f")


def is_zip(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a zip archive, as a workbook is; no text has its control characters."""
    return head[:4] in (b"PK\x03\x04", b"PK\x05\x06")


class _Decoder:
    """Turns a file's bytes into UTF-8, and knows where in the file it is."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._read = 0  # bytes before the block
        self._lines = 0  # line ends before it
        self._block = b""
        self._state: tuple[bytes, int] = (b"", 0)  # before it

    def decode(self, block: bytes) -> bytes:
        """The next bytes; a character that they begin only comes with the block after them."""
        self._block = block
        self._state = self._decoder.getstate()
        text = self._decoder.decode(block).encode()
        self._read += len(block)
        self._lines += text.count(b"\n")
        return text

    def end(self) -> bytes:
        """What is left when there is no more."""
        self._block = b""
        self._state = self._decoder.getstate()
        return self._decoder.decode(b"", final=True).encode()

    def explained(self, error: UnicodeError) -> tuple[str, str]:
        """What is wrong, by the place in the file, and what may help; for an error of `decode` or `end`."""
        if not isinstance(error, UnicodeDecodeError):
            return f"it is not {self._encoding}: {error}", ""
        # A position counts from the bytes that were kept for this block.
        kept = self._state[0]
        at = self._read - len(kept) + error.start + 1
        if not self._block:
            return (
                f"it is cut off, or it is not {self._encoding}: it ends within a character, at byte {at:,}",
                "Send the whole file again. ",
            )
        before = codecs.getincrementaldecoder(self._encoding)("strict")
        before.setstate(self._state)
        line = self._lines + before.decode(self._block[: max(0, error.start - len(kept))]).count("\n") + 1
        return f"it is not {self._encoding}: byte {at:,}, 0x{error.object[error.start]:02x} in line {line:,}, is none of it", ""


class Source:
    """A file of CSV or JSON Lines as UTF-8, unpacked by what it is. Holds the file open; use as a context manager."""

    def __init__(self, path: Path, encoding: str) -> None:
        self.path = path
        self.encoding = encoding
        try:
            self.raw = path.open("rb")
        except OSError as error:
            raise ImportRefused(str(path), f"the file cannot be read: {error.strerror}") from error
        try:
            self.size = path.stat().st_size
            self.head = self.raw.read(_HEAD_BYTES)
        except OSError as error:
            self.raw.close()
            raise ImportRefused(str(path), f"the file cannot be read: {error.strerror}") from error
        self.packing = packing_of(self.head)
        self.verified = False  # whether the whole file has been read without a fault
        self._zstd: Any = None  # the file as pyarrow reads it, whose position counts then

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; closing twice does nothing."""
        self.raw.close()
        if self._zstd is not None and not self._zstd.closed:
            self._zstd.close()

    def position(self) -> int:
        """Bytes of the file read so far, packed as they are."""
        if self._zstd is not None:
            return self.size if self._zstd.closed else int(self._zstd.tell())
        return self.size if self.raw.closed else self.raw.tell()

    def _refuse_within(self, head: bytes) -> None:
        """Raise ImportRefused where what was packed is no text, as its first bytes tell."""
        within = packing_of(head)
        if within is not Packing.NONE:
            raise ImportRefused(
                str(self.path), f"it is packed twice: within {self.packing.value} there is {within.value}",
                "Unpack it once, and import what comes out.",
            )

    def looks_like_json(self) -> bool:
        """Whether the first character that is no blank opens an object. Raises ImportRefused for an array of them, and for a
        packed Parquet file."""
        first = next(self.blocks(), b"")
        if self.packing is not Packing.NONE and is_parquet(first[:_HEAD_BYTES]):
            raise ImportRefused(
                str(self.path), f"it is a Parquet file packed with {self.packing.value}",
                "Unpack it first; Parquet packs its columns itself.",
            )
        begins = first.removeprefix(codecs.BOM_UTF8).lstrip()
        # A CSV header may begin with a bracket, as in [id],[name].
        if _ARRAY.match(begins):
            raise ImportRefused(
                str(self.path), "it is a JSON array",
                "JSON Lines has one object a line: convert it, as in jq -c '.[]' OLD.json > NEW.jsonl",
            )
        return begins[:1] == b"{"

    def verify(self) -> None:
        """Read a packed or re-encoded file through once, so that damage is known before anything is written."""
        if self.packing is not Packing.NONE or self.encoding != "utf-8":
            for _ in self.blocks():
                pass
        self.verified = True

    def _unpacked(self) -> _Readable:
        """The file's bytes without its packing. Closing it would leave the file open; nothing else is to be closed."""
        match self.packing:
            case Packing.GZIP:
                return gzip.GzipFile(fileobj=self.raw)
            case Packing.BZIP2:
                return bz2.BZ2File(self.raw)
            case Packing.XZ:
                return lzma.LZMAFile(self.raw)
            case Packing.ZSTD:
                # pyarrow has the codec; a file of another packing needs none of it.
                import pyarrow as pa

                self._zstd = pa.OSFile(str(self.path), "rb")
                stream: _Readable = pa.CompressedInputStream(self._zstd, "zstd")
                return stream
        return self.raw

    def blocks(self) -> Iterator[bytes]:
        """The bytes in blocks of about BLOCK_BYTES, from the start. Raises ImportRefused where they cannot be read."""
        self.raw.seek(0)
        decoder = _Decoder(self.encoding) if self.encoding != "utf-8" else None
        read = 0
        try:
            stream = self._unpacked()
            while block := stream.read(BLOCK_BYTES):
                if read == 0 and self.packing is not Packing.NONE:
                    self._refuse_within(block[:_HEAD_BYTES])
                read += len(block)
                yield block if decoder is None else decoder.decode(block)
            if decoder is not None and (rest := decoder.end()):
                yield rest
        except UnicodeError as error:
            assert decoder is not None
            problem, hint = decoder.explained(error)
            unpacked = "" if self.packing is Packing.NONE else " once it is unpacked"
            raise ImportRefused(
                str(self.path), problem + unpacked, f"{hint}The mapping says encoding: {self.encoding}. Is the file's that?"
            ) from error
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, OSError, ValueError) as error:
            if self.packing is Packing.NONE:
                raise ImportRefused(str(self.path), f"the file cannot be read: {error}") from error
            so_far = "" if self.verified else "; nothing of it was imported"
            text = " ".join(str(error).split()).rstrip(".")
            if isinstance(error, EOFError) or text.startswith("Truncated"):
                problem, hint = "it was cut off", "Send the whole file again."
            elif text.startswith("Not a gzipped file"):
                problem, hint = f"something that is no {self.packing.value} follows its end", "Send the file again."
            else:
                problem, hint = f"it is damaged ({text})", "Send the whole file again, or pack it anew."
            raise ImportRefused(
                str(self.path),
                f"it cannot be unpacked as {self.packing.value}{f', behind {read:,} unpacked bytes' if read else ''}: "
                f"{problem}{so_far}", hint,
            ) from error
