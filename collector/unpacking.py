"""From packed to plain bytes: gzip and zstandard, known by their magic numbers, as streams; and from UTF-16, which
PowerShell's redirection writes, to UTF-8.

Invariant: what comes before a break in a file is handed on before the break is reported (OSError). An end in the middle
of a frame is a break, and so is data that does not match its checksum.
"""

from __future__ import annotations

import codecs
import io
import zlib
from collections.abc import Callable
from typing import IO, Any

STEP = 4096  # packed bytes unpacked at once: bounds the memory that a frame a thousand times its size can take
BUFFER = 1 << 20


def unpacked(stream: io.BufferedReader) -> IO[bytes]:
    """The plain bytes of a stream, which is packed with gzip or zstandard or not at all; text in UTF-8."""
    plain = _unpacked(stream)
    if plain.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return io.BufferedReader(_Recoded(plain), BUFFER)
    return plain


def _unpacked(stream: io.BufferedReader) -> io.BufferedReader:
    magic = stream.peek(4)[:4]
    if magic[:2] == b"\x1f\x8b":
        return io.BufferedReader(_Frames(stream, lambda: zlib.decompressobj(wbits=31), zlib.error), BUFFER)
    if magic == b"\x28\xb5\x2f\xfd" or (magic[1:] == b"\x2a\x4d\x18" and magic[0] >> 4 == 5):  # or one to be skipped
        import zstandard

        opener = zstandard.ZstdDecompressor().decompressobj
        return io.BufferedReader(_Frames(stream, opener, zstandard.ZstdError), BUFFER)
    return stream


class _Stream(io.RawIOBase):
    """Bytes that `_more` makes, handed out as they are asked for."""

    ready = memoryview(b"")

    def _more(self) -> bytes | None:
        """Further bytes, b"" if it takes more to make any, None at the end."""
        raise NotImplementedError  # each kind of stream has its own

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]  # whatever io hands over is a buffer
        while not self.ready:
            more = self._more()
            if more is None:
                return 0
            self.ready = memoryview(more)
        size = min(len(view), len(self.ready))
        view[:size] = self.ready[:size]
        self.ready = self.ready[size:]
        return size


class _Recoded(_Stream):
    """Text in UTF-16 with a byte order mark, as UTF-8 without one; invalid text becomes U+FFFD."""

    def __init__(self, text: IO[bytes]) -> None:
        self.text = text
        self.decode = codecs.getincrementaldecoder("utf-16")("replace").decode

    def _more(self) -> bytes | None:
        chunk = self.text.read(STEP)
        decoded = self.decode(chunk, not chunk).encode("utf-8", "replace")
        return decoded if chunk or decoded else None


class _Frames(_Stream):
    """The frames (gzip says members) of a packed stream, one after the other.

    `frame` makes a decompressor of one frame, with `decompress`, `eof` and `unused_data`; it raises `error`.
    """

    def __init__(self, packed: IO[bytes], frame: Callable[[], Any], error: type[Exception]) -> None:
        self.packed = packed
        self.frame = frame
        self.error = error
        self.current: Any = None
        self.broken: Exception | None = None

    def _more(self) -> bytes | None:
        if self.broken is not None:
            raise OSError(str(self.broken)) from self.broken
        chunk = self.packed.read(STEP)
        if chunk:
            return self._unpack(chunk)
        if self.current is not None:
            raise OSError("it ends in the middle of packed data")
        return None

    def _unpack(self, chunk: bytes) -> bytes:
        parts = []
        while chunk:
            if self.current is None:
                chunk = chunk.lstrip(b"\x00")  # padding to full blocks
                if not chunk:
                    break
                self.current = self.frame()
            try:
                parts.append(self.current.decompress(chunk))
            except self.error as error:
                self.broken = error  # told next time: the frames before are whole
                break
            chunk = b""
            if self.current.eof:
                chunk, self.current = self.current.unused_data, None
        return b"".join(parts)
