"""AMF0, the values of RTMP's commands (Adobe, amf0-file-format-specification): as much of it as publishing needs."""

import struct
from collections.abc import Mapping

NUMBER, BOOLEAN, STRING, OBJECT, NULL, UNDEFINED, ARRAY, END, STRICT_ARRAY, DATE, LONG_STRING = (
    *(0, 1, 2, 3, 5, 6, 8, 9, 10, 11, 12),
)
DEEPEST = 16


class AmfError(ValueError):
    """These bytes are no AMF0, or have more in them than is read here."""


def encoded(*values: object) -> bytes:
    """Floats, booleans, strings, None and mappings of them, one behind the other."""
    return b"".join(map(one, values))


def one(value: object) -> bytes:
    match value:
        case None:
            return bytes((NULL,))
        case bool():
            return bytes((BOOLEAN, value))
        case int() | float():
            return struct.pack(">Bd", NUMBER, value)
        case str():
            return bytes((STRING,)) + name(value)
        case Mapping():
            inside = b"".join(name(str(key)) + one(part) for key, part in value.items())
            return bytes((OBJECT,)) + inside + b"\x00\x00" + bytes((END,))
    raise TypeError(f"AMF0 has no {type(value).__name__}")


def name(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data


def decoded(data: bytes) -> list[object]:
    """All values in `data`; objects and arrays with names become dicts. Raises AmfError."""
    reader, values = Reader(data), []
    try:
        while reader.left:
            values.append(reader.value())
    except (struct.error, UnicodeDecodeError) as error:
        raise AmfError(f"cut off or broken at byte {reader.at}") from error
    return values


class Reader:
    """Reads one value after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self.at

    def value(self, depth: int = 0) -> object:
        if depth > DEEPEST:
            raise AmfError("nested too deeply")
        (marker,) = self._unpacked(">B")
        match marker:
            case 0:
                return self._unpacked(">d")[0]
            case 1:
                return bool(self._unpacked(">B")[0])
            case 2:
                return self._text(">H")
            case 3:
                return self._named(depth)
            case 5 | 6:
                return None
            case 8:
                self._unpacked(">I")
                return self._named(depth)
            case 10:
                return [self.value(depth + 1) for _ in range(self._count())]
            case 11:
                return self._unpacked(">dh")[0]
            case 12:
                return self._text(">I")
        raise AmfError(f"type {marker} is not read here")

    def _named(self, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        while True:
            key = self._text(">H")
            if not key and self._data[self.at : self.at + 1] == bytes((END,)):
                self.at += 1
                return found
            found[key] = self.value(depth + 1)

    def _count(self) -> int:
        """Elements of an array, each of which takes a byte at least."""
        count: int = self._unpacked(">I")[0]
        if count > self.left:
            raise AmfError(f"an array of {count} values cannot be in {self.left} bytes")
        return count

    def _text(self, length: str) -> str:
        size: int = self._unpacked(length)[0]
        if size > self.left:
            raise AmfError(f"a text of {size} bytes cannot be in {self.left} bytes")
        self.at += size
        return self._data[self.at - size : self.at].decode()

    def _unpacked(self, layout: str) -> tuple[int, ...]:
        found = struct.unpack_from(layout, self._data, self.at)
        self.at += struct.calcsize(layout)
        return found
