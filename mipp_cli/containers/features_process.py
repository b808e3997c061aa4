"""Read a caller's HDF5 feature file in a separate process, which a damaged file may crash.

Such a file may use any feature of HDF5, and the library trusts it: some damage makes the library crash, loop
forever, or exhaust the memory. Then only this process ends, and the file is reported as damaged. Requests and
answers are a line of JSON; rows and names follow as bytes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.base.hdf5 import hdf5_errors
from mipp_cli.containers.base.source import BodyView, FileSource, Source
from mipp_cli.errors import MalformedError, MippError
from mipp_cli.names import as_called

ROWS, NAMES = "features", "names"
HINT: Final = f"give an .npy file with one row per image, or HDF5 with the datasets {NAMES} and {ROWS}"
SECONDS: Final = 60  # of processor time per answer; the largest takes a hundredth
_MOST_MEMORY = 1 << 32  # bytes of address space: the libraries, and chunks, which may be large
_CACHE_BYTES = 1 << 25  # a chunk that does not fit is decompressed again for each of its rows
_ANSWER_BYTES = 1 << 24
_MOST_NAMES_BYTES = 1 << 28
_BATCH_NAMES = 4096
_WIDEST = 8
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}  # numpy starts one per core, but computes nothing here


def check_table(shape: tuple[int, ...] | None, dtype: np.dtype[np.generic]) -> tuple[int, int]:
    """Return the shape of a table of numbers; raises MalformedError for anything else."""
    if shape is None or len(shape) != 2 or min(shape) < 0:
        raise MalformedError("has features that are not rows and columns", hint="save one row per image")
    if dtype.kind not in "uif" or dtype.itemsize > _WIDEST:
        raise MalformedError(
            f"has features of type {dtype}",
            hint="save integers or floats of at most 64 bits",
        )
    return int(shape[0]), int(shape[1])


class Hdf5Features:
    """An HDF5 feature file, opened in another process; raises MalformedError if that process fails."""

    def __init__(self, path: Path):
        self._process = subprocess.Popen(  # noqa: S603 -- this module, by this interpreter
            # -P keeps the working directory off the path, as strangers' files may lie there
            [sys.executable, "-P", "-m", __name__, path, str(SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ONE_THREAD},
        )
        try:
            answer, _ = self._answer()
            self._dtype = np.dtype(answer["dtype"])
            self.shape = check_table(tuple(answer["shape"]), self._dtype)
        except BaseException:
            self._end()
            raise

    def rows(self, begin: int, end: int) -> NDArray[np.number]:
        """Return rows ``begin`` to ``end``, exclusive, as stored."""
        step = max(1, _ANSWER_BYTES // max(1, self.shape[1] * self._dtype.itemsize))
        pieces = [self._rows(start, min(start + step, end)) for start in range(begin, end, step)]
        return pieces[0] if len(pieces) == 1 else np.concatenate([self._rows(begin, begin), *pieces])

    def _rows(self, begin: int, end: int) -> NDArray[np.number]:
        shape = (end - begin, self.shape[1])
        data = self._ask(ROWS, begin, end) if end > begin else b""
        if len(data) != shape[0] * shape[1] * self._dtype.itemsize:
            raise _damaged()
        return np.frombuffer(data, self._dtype).reshape(shape)

    def names(self) -> Iterator[str]:
        """Yield the name of each row."""
        for begin in range(0, self.shape[0], _BATCH_NAMES):
            yield from json.loads(self._ask(NAMES, begin, min(begin + _BATCH_NAMES, self.shape[0])))

    def close(self) -> None:
        """Close the file."""
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _ask(self, what: str, begin: int, end: int) -> bytes:
        pipe = self._process.stdin
        try:
            if pipe is not None:
                pipe.write(_line({"what": what, "begin": begin, "end": end}))
                pipe.flush()
        except OSError as error:
            raise _damaged() from error
        return self._answer()[1]

    def _answer(self) -> tuple[Mapping[str, Any], bytes]:
        pipe = self._process.stdout
        line = pipe.readline(1 << 14) if pipe is not None else b""
        if pipe is None or not line:
            raise _damaged()
        answer = json.loads(line)
        if "error" in answer:
            raise MalformedError(answer["error"], hint=answer["hint"])
        data = pipe.read(answer["size"])
        if len(data) < answer["size"]:
            raise _damaged()
        return answer, data


def _damaged() -> MalformedError:
    return MalformedError(
        "the HDF5 library could not read the file", hint="the file is damaged or forged: save it again"
    )


def _line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


class _OpenFile:
    """The file, in the process that reads it; datasets in other files are refused."""

    def __init__(self, source: Source):
        with hdf5_errors("HDF5 content"):
            file = h5py.File(BodyView(source, 0), "r", rdcc_nbytes=_CACHE_BYTES)
        self._rows, self._names = (_own_dataset(file, name) for name in (ROWS, NAMES))
        with hdf5_errors("types of its datasets"):
            shape = check_table(self._rows.shape, self._rows.dtype)
            is_text = h5py.check_string_dtype(self._names.dtype) is not None
        if not is_text or self._names.shape != shape[:1]:
            raise MalformedError(f"has {NAMES} that are not one text per row of {ROWS}", hint=HINT)
        self.facts = {"shape": shape, "dtype": self._rows.dtype.str}

    def read(self, what: str, begin: int, end: int) -> bytes:
        """Return rows, or names as JSON."""
        with hdf5_errors(what):
            if what == ROWS:
                return bytes(np.ascontiguousarray(self._rows[begin:end]).tobytes())
            names = json.dumps([*map(as_called, self._names[begin:end].tolist())]).encode()
        if len(names) > _MOST_NAMES_BYTES:
            raise MalformedError(f"has {NAMES} that are too long", hint=HINT)
        return names


def _own_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset that is stored in the file itself."""
    with hdf5_errors(f"dataset {name}"):
        if name.encode() not in set(file.id):
            raise MalformedError(f"has no dataset {name}", hint=HINT)
        if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise MalformedError(f"{name} is a link, which is not followed", hint=HINT)
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise MalformedError(f"{name} is not a dataset", hint=HINT)
        creation = dataset.id.get_create_plist()
        if creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count():
            raise MalformedError(f"{name} is stored in other files, which are not opened", hint=HINT)
        return dataset


def _serve(path: Path, seconds: int, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Open a file, and answer requests until there are no more."""
    try:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        memory = _MOST_MEMORY if most == resource.RLIM_INFINITY else min(_MOST_MEMORY, most)
        resource.setrlimit(resource.RLIMIT_AS, (memory, most))
        with closing(FileSource(path)) as source:
            _limit_time(seconds)
            file = _OpenFile(source)
            answers.write(_line({**file.facts, "size": 0}))
            answers.flush()
            while line := requests.readline():
                _limit_time(seconds)
                data = file.read(**json.loads(line))
                answers.write(_line({"size": len(data)}) + data)
                answers.flush()
    except MippError as error:
        answers.write(_line({"error": error.message, "hint": error.hint or HINT}))
    except MemoryError:
        answers.write(_line({"error": "needs too much memory", "hint": "save it in smaller chunks"}))


def _limit_time(seconds: int) -> None:
    """Limit the processor time that this process may use from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, most))


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]), sys.stdin.buffer, sys.stdout.buffer)
