"""Check that a container uses only the small part of HDF5 allowed, before the HDF5 library reads it.

The library trusts the structures of a file: a cyclic list, or a tree whose branches share nodes, can keep it
busy for hours and exhaust the memory, from a few kilobytes. This module walks the structures of the oldest
HDF5 format (superblock version 0) once, in time and memory proportional to their size, and refuses every
other feature of HDF5.

Source: HDF5 File Format Specification, version 3.0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from mipp_cli.containers.base.source import Source
from mipp_cli.errors import MalformedError

_UNDEFINED = 2**64 - 1
# signature, versions 0, offsets and lengths of 8 bytes, nodes of 4 and 16, no flags
_SUPERBLOCK = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0, 4, 0, 16, 0, 0, 0, 0, 0])
_SUPERBLOCK_REST = struct.Struct("<QQQQ")  # base, free space, end of file, driver information
_ENTRY = struct.Struct("<QQIIQQ")  # name, header, cache type, reserved, tree, heap
_OBJECT = struct.Struct("<BxHII4x")
_MESSAGE = struct.Struct("<HHB3x")
_HEAP = struct.Struct("<4sB3xQQQ")
_NODE = struct.Struct("<4sBBHQQ")
_SYMBOLS = struct.Struct("<4sBxH")
_PAIR = struct.Struct("<QQ")
_NOTHING, _DATASPACE, _DATATYPE, _OLD_FILL, _FILL, _LAYOUT, _ATTRIBUTE = 0x0, 0x1, 0x3, 0x4, 0x5, 0x8, 0xC
_CONTINUATION, _SYMBOL_TABLE, _TIME = 0x10, 0x11, 0x12
_LINKS, _STORED_ELSEWHERE = (0x2, 0x6), (0x7, 0xB)
_OF_GROUP = {_NOTHING, _ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE}  # attributes: only in the root group
_OF_DATASET = {_NOTHING, _DATASPACE, _DATATYPE, _OLD_FILL, _FILL, _LAYOUT, _CONTINUATION, _TIME}
_SHARED = 2  # flag of a message whose content is stored elsewhere
_NUMBERS = (0, 1)  # datatype classes: integers and floating point
_KEPT_TREE, _KEPT_LINK = 1, 2
_END_OF_FREE_LIST = 1
_METADATA_LIMIT = 1 << 16  # bytes of an object's header, or of a heap of names
_SYMBOLS_LIMIT, _GROUP_LIMIT = 8, 32
_IN_ONE_PIECE = b"\3\1"  # version 3, contiguous

_Messages = list[tuple[int, bytes]]


def check_form(source: Source, start: int) -> None:
    """Check that the HDF5 file from byte ``start`` on uses no more of HDF5 than a container does.

    That is groups of numeric datasets, each stored contiguously, in lists that end. Raises MalformedError.
    The readers check values, shapes and types.
    """
    walk = _Walk(source, start)
    head = walk.read(0, len(_SUPERBLOCK) + _SUPERBLOCK_REST.size + _ENTRY.size)
    rest = _SUPERBLOCK_REST.unpack_from(head, len(_SUPERBLOCK))
    if not head.startswith(_SUPERBLOCK) or rest != (start, _UNDEFINED, source.size, _UNDEFINED):
        raise _strange("has HDF5 content that does not begin as a container's does")
    _, header, kept, _, tree, heap = _ENTRY.unpack_from(head, len(head) - _ENTRY.size)
    walk.group(walk.messages(header), (tree, heap) if kept == _KEPT_TREE else None)


def _strange(what: str) -> MalformedError:
    return MalformedError(what, hint="the file is damaged or forged")


@dataclass
class _Walk:
    """A walk through a file, with the addresses it has visited."""

    source: Source
    start: int
    met: set[int] = field(default_factory=set)

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes of the HDF5 file; refuse to read beyond its end."""
        data = self.source.read_at(self.start + address, size)
        if len(data) != size:
            raise _strange("refers to a place beyond its end")
        return data

    def meet(self, address: int) -> None:
        """Record an address; refuse one that was visited before."""
        if address in self.met:
            raise _strange("contains an object twice, or in a cycle")
        self.met.add(address)

    def messages(self, header: int) -> _Messages:
        """Return the type and content of each message in an object's header."""
        version, _, references, size = _OBJECT.unpack(self.read(header, _OBJECT.size))
        if version != 1:
            raise _strange("is written in a newer HDF5 format than a container's")
        if references != 1:
            raise _strange("contains an object under two names")
        found: _Messages = []
        pieces, total = [(header + _OBJECT.size, size)], 0
        for address, length in pieces:  # grows as continuations are found
            self.meet(address)
            total += length
            if total > _METADATA_LIMIT:
                raise _strange("has an object header that is too long")
            for kind, content in _split(self.read(address, length)):
                found.append((kind, content))
                if kind == _CONTINUATION:
                    pieces.append(_pair(content))
        return found

    def group(self, messages: _Messages, kept: tuple[int, int] | None, depth: int = 0) -> None:
        """Check a group and its content; ``kept`` are its tree and heap as cached in its entry, if any."""
        tables = [_pair(content) for kind, content in messages if kind == _SYMBOL_TABLE]
        if len(tables) != 1 or (kept is not None and kept != tables[0]) or depth > 1:
            raise _strange("contains a group that no container has")
        _check_messages(messages, _OF_GROUP - {_ATTRIBUTE} if depth else _OF_GROUP)
        tree, heap = tables[0]
        names = self.names(heap)
        for name, header, cached, _, *place in self.symbols(tree):
            if cached == _KEPT_LINK:
                raise _strange("contains a link, which a container never does")
            if names.find(b"\0", name) < 0:
                raise _strange("refers to a name outside its heap of names")
            inner = self.messages(header)
            if any(kind == _SYMBOL_TABLE for kind, _ in inner):
                self.group(inner, (place[0], place[1]) if cached == _KEPT_TREE else None, depth + 1)
            else:
                self.dataset(inner)

    def names(self, address: int) -> bytes:
        """Return the bytes of a heap of names after checking that its free list ends."""
        signature, version, size, free, data = _HEAP.unpack(self.read(address, _HEAP.size))
        if signature != b"HEAP" or version != 0 or size > _METADATA_LIMIT:
            raise _strange("has a malformed heap of names")
        names = self.read(data, size)
        for _ in range(1 + size // _PAIR.size):
            if free == _END_OF_FREE_LIST:
                return names
            if free > size - _PAIR.size:
                break
            free, _ = _PAIR.unpack_from(names, free)
        raise _strange("has a free list that does not end")

    def symbols(self, tree: int) -> Iterator[tuple[int, ...]]:
        """Yield the entries of a group; it is small, so its tree is a single node."""
        signature, kind, level, used, *neighbours = _NODE.unpack(self.read(tree, _NODE.size))
        if (signature, kind, level) != (b"TREE", 0, 0) or neighbours != [_UNDEFINED, _UNDEFINED]:
            raise _strange("contains a group whose tree is not a single node")
        if used > _GROUP_LIMIT:
            raise _strange("contains a group that is too large")
        keys = self.read(tree + _NODE.size, 8 + 16 * used)
        for place in range(8, len(keys), 16):
            address = int.from_bytes(keys[place : place + 8], "little")
            self.meet(address)
            signature, version, entries = _SYMBOLS.unpack(self.read(address, _SYMBOLS.size))
            if signature != b"SNOD" or version != 1 or entries > _SYMBOLS_LIMIT:
                raise _strange("contains a group with malformed entries")
            yield from _ENTRY.iter_unpack(self.read(address + _SYMBOLS.size, entries * _ENTRY.size))

    def dataset(self, messages: _Messages) -> None:
        """Check that a dataset is stored contiguously in the file."""
        if any(kind in _STORED_ELSEWHERE for kind, _ in messages):
            raise _strange("contains a column that uses filters or external storage")
        _check_messages(messages, _OF_DATASET)
        layouts = [content for kind, content in messages if kind == _LAYOUT]
        if len(layouts) != 1 or layouts[0][:2] != _IN_ONE_PIECE:
            raise _strange("contains a column that is not stored contiguously")


def _split(piece: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and content of the messages in a piece of an object's header."""
    position = 0
    while position < len(piece):
        if position + _MESSAGE.size > len(piece):
            raise _strange("has a truncated message in an object header")
        kind, size, flags = _MESSAGE.unpack_from(piece, position)
        position += _MESSAGE.size
        content = piece[position : position + size]
        position += size
        if len(content) != size or flags & _SHARED:
            raise _strange("has a truncated or shared message in an object header")
        yield kind, content


def _pair(content: bytes) -> tuple[int, int]:
    """Return the first two numbers of a message."""
    if len(content) < _PAIR.size:
        raise _strange("has a truncated message in an object header")
    first, second = _PAIR.unpack_from(content)
    return first, second


def _check_messages(messages: _Messages, known: set[int]) -> None:
    """Refuse message types that no container uses, and datatypes other than plain numbers."""
    for kind, content in messages:
        if kind in _LINKS:
            raise _strange("contains a link, which a container never does")
        if kind not in known:
            raise _strange("uses a feature of HDF5 that no container needs")
        if kind == _ATTRIBUTE:
            _check_attribute(content)
        elif kind == _DATATYPE:
            _check_datatype(content)


def _check_attribute(content: bytes) -> None:
    """Check the type of an attribute (version 1: name, type and shape, each padded to 8 bytes)."""
    if len(content) < 8 or content[0] != 1:
        raise _strange("has an attribute in a newer format than a container's")
    name_bytes = int.from_bytes(content[2:4], "little")
    _check_datatype(content[8 + (name_bytes + 7) // 8 * 8 :])


def _check_datatype(content: bytes) -> None:
    if not content or content[0] & 0xF not in _NUMBERS:
        raise _strange("contains data that are not numbers")
