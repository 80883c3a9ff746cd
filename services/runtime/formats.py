"""Files that are only weights. A pickle is a program for Python's unpickler: whoever loads one runs it.

Files are told by what is in them; a name counts where loaders go by it.
"""

import fnmatch
import io
import pickletools
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from services.runtime.errors import LoadFailed

EXPECTED = "safetensors, ONNX, GGUF or CTranslate2"
PICKLED_NAMES = ("*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib", "*.dill", "pytorch_model*.bin")
"""What loaders unpickle, whatever is inside."""
HEAD = 65_536
"""Bytes of a file in which a pickle shows itself."""
MEANT = 4
"""Instructions of a pickle in a row that are no accident."""
ZIP, NUMPY = b"PK\x03\x04", b"\x93NUMPY"
PROTOCOLS = frozenset(bytes((0x80, number)) for number in range(6))
NAMING = ("GLOBAL", "INST")
"""Instructions by which a pickle of protocol 0 or 1 names what it will call, and only so can it call anything."""
GLOBAL = re.compile(r"[A-Za-z_][\w.]* [A-Za-z_][\w.]*")


def refuse_pickles(path: Path) -> None:
    """Raises LoadFailed naming the first file at `path` (a file, or all of a folder) whose loading could run code."""
    files = [path] if path.is_file() else sorted(inner for inner in path.rglob("*") if inner.is_file())
    for file in files:
        if problem := unsafe(file):
            name = file.name if file == path else file.relative_to(path).as_posix()
            raise LoadFailed(f"{name}: {problem}; expected {EXPECTED}")


def unsafe(file: Path) -> str:
    """Why a file must not be loaded; empty if nothing speaks against it."""
    name = file.name.lower()
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in PICKLED_NAMES):
        return "a file of this name is loaded by unpickling, which can run code"
    try:
        with file.open("rb") as content:
            if any(pickled(stream) for stream in streams(content)):
                return "it holds a pickle, which can run code"
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        return f"an archive that cannot be read ({error})"
    return ""


def streams(file: BinaryIO) -> Iterator[BinaryIO]:
    """A file, or the files that it packs."""
    if file.read(len(ZIP)) != ZIP:
        file.seek(0)
        yield file
        return
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            with archive.open(name) as packed:
                yield io.BytesIO(packed.read(HEAD))


def pickled(file: BinaryIO) -> bool:
    head = file.read(HEAD)
    return has_objects(head) if head.startswith(NUMPY) else is_pickle(head)


def has_objects(head: bytes) -> bool:
    """Whether a .npy file holds Python objects: numpy pickles those."""
    if len(head) < 12:
        return False
    (size,) = struct.unpack_from("<H" if head[6] == 1 else "<I", head, 8)
    return b"|O" in head[8 : 12 + size]


def is_pickle(head: bytes) -> bool:
    """Whether bytes are a pickle of any protocol, or the beginning of one. Reads its instructions and follows none.

    The first byte says nothing: the length that begins a safetensors file can look like a pickle's beginning. From protocol
    2 on the first few instructions must make sense; before, where any text may begin so, all of them up to its end or that
    of HEAD, and one must name something of a module.
    """
    reader, protocol, named = io.BytesIO(head), head[:2] in PROTOCOLS, False
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(reader), 1):
            named = named or (opcode.name in NAMING and bool(GLOBAL.fullmatch(str(argument))))
            if protocol and count >= MEANT:
                return True
    except (ValueError, struct.error):
        cut_off = reader.tell() == len(head) and (protocol or len(head) == HEAD)
        return cut_off and (protocol or named)
    return protocol or named
