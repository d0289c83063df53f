"""Which characters do the bytes of a text file stand for?

UTF-8 and UTF-16 are verified by decoding the whole file; otherwise cp1252 is assumed and said. What is not text
at all is refused by its first bytes. NUL characters inside text are removed, counted and said.
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from whet.data.rows import Finding
from whet.errors import DataError, closest

_CHUNK = 2**20
_MAGIC = {
    b"PK\x03\x04": "a zip archive or an Excel workbook (.xlsx)",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x1f\x8b": "gzip-compressed",
    b"BZh": "bzip2-compressed",
    b"\xfd7zXZ": "xz-compressed",
    b"\x28\xb5\x2f\xfd": "zstandard-compressed",
    b"7z\xbc\xaf": "a 7-zip archive",
    b"SQLite format 3": "an SQLite database",
    b"\x7fELF": "a program",
}
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass(frozen=True)
class TextFile:
    """A text file whose encoding is known to decode all of it.

    ``mark`` counts the bytes of byte-order marks at its start, ``size`` all bytes after decompression.
    """

    path: Path
    encoding: str
    mark: int
    nuls: int
    size: int

    @property
    def plain(self) -> bool:
        """Whether the bytes on disk are UTF-8 already (perhaps behind byte-order marks)."""
        return self.encoding == "utf-8" and not self.nuls and not _packed(self.path)

    def open(self) -> BinaryIO:
        """A stream of UTF-8 bytes without byte-order mark and NUL."""
        if self.plain:
            stream = self.path.open("rb")
            stream.seek(self.mark)
            return stream
        return cast(BinaryIO, io.BufferedReader(_Recoded(self), _CHUNK))

    def text(self) -> Iterator[str]:
        """Pieces of decoded text, in order."""
        with _open_bytes(self.path) as stream:
            stream.read(self.mark)
            decoder = codecs.getincrementaldecoder(self.encoding)()
            while chunk := stream.read(_CHUNK):
                yield decoder.decode(chunk).replace("\0", "")
            yield decoder.decode(b"", final=True).replace("\0", "")


def open_text(path: Path, encoding: str | None = None) -> tuple[TextFile, list[Finding]]:
    """Find out how a text file is encoded, by decoding all of it once.

    Args:
        path: Plain text, or gzip if the name ends in .gz.
        encoding: What the user says it is; None to find out.

    Raises:
        DataError: empty, not text, an unknown encoding, or one that does not decode the file.
    """
    head = _head(path)
    if not head.strip(b" \t\r\n\xef\xbb\xbf\xff\xfe") or (len(head) < 64 and not head.strip(b"\0 \t\r\n\xff\xfe")):
        raise DataError("The file is empty.", where=str(path), fix="give a file with a header line and rows")
    _refuse_binary(path, head)
    if encoding is not None:
        return _as_told(path, head, encoding)
    for bytes_, name in _MARKS:
        if head.startswith(bytes_):
            said = f"The file says by its first bytes that it is {name}"
            fix = "save it again as UTF-8, or name its encoding with --encoding"
            return _decoded(path, name, _run(head, bytes_), said, fix), []
    guess = _wide(head)
    if guess and _bad_byte(path, guess, 0) is None:
        return _checked(path, guess, 0), [_note(path, f"There is no byte-order mark; it reads as {guess}.", "info")]
    if head.count(0) > len(head) * 0.01:
        raise DataError(
            f"The file is not text: {head.count(0):,} of its first {len(head):,} bytes are NUL.",
            where=str(path),
            fix="export it as CSV, or give its true ending (.parquet, .arrow)",
        )
    bad = _bad_byte(path, "utf-8", 0)
    if bad is None:
        return _with_nul_note(_checked(path, "utf-8", 0))
    return _as_cp1252(path, bad)


class _Recoded(io.RawIOBase):
    """Decoded text given out again as UTF-8 bytes."""

    def __init__(self, source: TextFile) -> None:
        super().__init__()
        self._pieces = source.text()
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: object) -> int:
        buffer = memoryview(target)  # type: ignore[arg-type]
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece.encode("utf-8", errors="replace"))  # a lone surrogate becomes '?'
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _open_bytes(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if _packed(path) else path.open("rb")


def _head(path: Path) -> bytes:
    try:
        with _open_bytes(path) as stream:
            return stream.read(65536)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"The name ends in .gz but the content cannot be unpacked: {error}.",
            where=str(path),
            fix="copy it again: it is cut short"
            if isinstance(error, EOFError)
            else "compress it again with gzip, or drop the .gz ending if it is plain text",
        ) from error


def _refuse_binary(path: Path, head: bytes) -> None:
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            fix = {
                "gzip-compressed": f"rename it to {path.name}.gz",
                "a Parquet file": f"rename it to {path.stem}.parquet",
                "an Arrow file": f"rename it to {path.stem}.arrow",
            }.get(kind, "open it with the program that wrote it and export the table as CSV (UTF-8)")
            raise DataError(f"The file is not text; it seems to be {kind}.", where=str(path), fix=fix)


def _run(head: bytes, mark: bytes) -> int:
    """Bytes that repeat the mark at the start: a program may add one to a file that has one."""
    count = 0
    while head.startswith(mark, count):
        count += len(mark)
    return count


def _decoded(path: Path, name: str, mark: int, said: str, fix: str) -> TextFile:
    """The file in the encoding that it was said to have, refused at its first byte that belies it."""
    bad = _bad_byte(path, name, mark)
    if bad is not None:
        raise DataError(
            f"{said}, but byte {bad:,} (line {_line_of(path, bad):,}) cannot be decoded.", where=str(path), fix=fix
        )
    return _checked(path, name, mark)


def _as_told(path: Path, head: bytes, encoding: str) -> tuple[TextFile, list[Finding]]:
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)
    except LookupError as error:
        known = ["utf-8", "utf-16", "cp1252", "latin-1", "cp1250", "cp1251", "shift_jis", "gb18030", "euc-kr", "big5"]
        raise DataError(
            f"There is no text encoding named {encoding!r}.",
            where="encoding",
            fix="use " + " or ".join(closest(encoding, known) or known[:4]),
        ) from error
    name = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(name, name)
    if encoding.lower().replace("_", "-") in ("utf-16", "utf16") and head.startswith(codecs.BOM_UTF16_BE):
        name = "utf-16-be"
    mark = next((_run(head, bytes_) for bytes_, marked in _MARKS if marked == name), 0)
    fix = "leave the encoding out to let it be found, or name another one"
    return _with_nul_note(_decoded(path, name, mark, f"The file was said to be {encoding}", fix))


def _as_cp1252(path: Path, bad: int) -> tuple[TextFile, list[Finding]]:
    worse = _bad_byte(path, "cp1252", 0)
    if worse is not None:
        raise DataError(
            f"The file is neither UTF-8 (byte {bad:,}, line {_line_of(path, bad):,}) "
            f"nor cp1252 (byte {worse:,}, line {_line_of(path, worse):,}).",
            where=str(path),
            fix="name its encoding, for example --encoding latin-1, cp1251 or shift_jis",
        )
    message = f"The file is not UTF-8 (byte {bad:,}, line {_line_of(path, bad):,}); it is read as cp1252."
    source, found = _with_nul_note(_checked(path, "cp1252", 0))
    broken, other = _utf8_share(path)
    if other > broken:
        message += f" But {other:,} other places are good UTF-8, so it may be UTF-8 with damaged bytes."
    fix = "name the true encoding with --encoding, or save the file as UTF-8"
    return source, [*found, _note(path, message, "warning", fix)]


def _with_nul_note(source: TextFile) -> tuple[TextFile, list[Finding]]:
    if not source.nuls:
        return source, []
    note = _note(source.path, f"{source.nuls:,} NUL bytes were removed.", "warning", "find out where they come from")
    return source, [note]


def _wide(head: bytes) -> str | None:
    """UTF-16 without a mark: mostly NUL in every other byte."""
    pairs = len(head) // 2
    high, low = head[: pairs * 2 : 2].count(0), head[1 : pairs * 2 : 2].count(0)
    if pairs and low > 0.4 * pairs and high < 0.1 * pairs:
        return "utf-16-le"
    if pairs and high > 0.4 * pairs and low < 0.1 * pairs:
        return "utf-16-be"
    return None


def _checked(path: Path, encoding: str, mark: int) -> TextFile:
    """Count size and NUL characters of a file that decodes."""
    size = nuls = 0
    with _open_bytes(path) as stream:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            nuls += chunk.count(0) if not encoding.startswith("utf-16") else 0
    return TextFile(path, encoding, mark, nuls, size)


def _bad_byte(path: Path, encoding: str, mark: int) -> int | None:
    """Position of the first byte that does not decode, or None."""
    decoder = codecs.getincrementaldecoder(encoding)()
    with _open_bytes(path) as stream:
        done = len(stream.read(mark))
        while True:
            waiting = decoder.getstate()[0]
            chunk = stream.read(_CHUNK)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                return done - len(waiting) + error.start
            if not chunk:
                return None
            done += len(chunk)


def _line_of(path: Path, position: int) -> int:
    with closing(_open_bytes(path)) as stream:
        return stream.read(position).count(b"\n") + 1


def _utf8_share(path: Path) -> tuple[int, int]:
    """Counts of damaged and of good non-ASCII places in the first megabyte, read as UTF-8."""
    with _open_bytes(path) as stream:
        text = stream.read(_CHUNK).decode("utf-8", errors="replace")
    broken = text.count("�")
    return broken, sum(not character.isascii() for character in text) - broken


def _note(path: Path, message: str, level: str, fix: str = "nothing, unless texts look odd") -> Finding:
    return Finding("reading", "info" if level == "info" else "warning", message, path.name, fix)
