"""Decode compressed DICOM frames in a separate process, which a damaged frame may crash.

GDCM and libjpeg are written in C++, and some damaged frames make them abort. Then only this process dies, the
frame is reported as damaged, and the next frame starts a new process. Requests and answers are a line of JSON
followed by bytes. Answers are checked, since a hostile frame may have taken over the process.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO, Any, Final

import numpy as np

from mipp_cli.images.refusals import OWN_BYTES
from mipp_cli.images.windowing import Samples

# Processor time for one frame, and in addition for its samples.
_SECONDS: Final = 5
_SAMPLES_A_SECOND: Final = 2_000_000
_WAITED: Final = 3  # wall-clock limit in multiples of that, as other programs may be running
_MAX_MEMORY: Final = 2 * OWN_BYTES  # address space: a frame, its copies, and the libraries
_DTYPES: Final = frozenset({"|u1", "|i1", "<u2", "<i2", "<u4", "<i4"})


class DecoderProcess:
    """The decoding process; it starts when it is needed, and ends with this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        atexit.register(self.close)

    def decode(self, frame: bytes, syntax: str, plugin: str, options: dict[str, Any]) -> Samples:
        """Return the samples of a frame as pydicom's ``as_array`` does; raises ValueError."""
        request = json.dumps({"syntax": syntax, "plugin": plugin, "size": len(frame), "options": options})
        with self._lock:
            process = self._running()
            requests, answers = process.stdin, process.stdout
            if requests is None or answers is None:
                raise ValueError("the decoder was started without pipes")
            watch = threading.Timer(_WAITED * _seconds(options), process.kill)
            watch.start()
            try:
                requests.write(request.encode() + b"\n" + frame)
                requests.flush()
                return _answer(answers, options)
            except (OSError, EOFError) as error:
                self.close()
                raise ValueError("the decoder crashed or timed out") from error
            finally:
                watch.cancel()

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            for pipe in filter(None, (process.stdin, process.stdout)):
                with suppress(OSError):  # unwritten bytes have no reader
                    pipe.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None or self._owner != os.getpid():  # after a fork it belongs to the parent
            self._owner = os.getpid()
            self._process = subprocess.Popen(  # noqa: S603 -- this module, by this interpreter
                # -P keeps the working directory off the path, as strangers' files may lie there
                [sys.executable, "-P", "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process


def _answer(pipe: IO[bytes], options: dict[str, Any]) -> Samples:
    line = pipe.readline(1 << 12)
    if not line:
        raise EOFError
    answer = json.loads(line)
    if "error" in answer:
        raise ValueError(str(answer["error"]))
    shape = (options["rows"], options["columns"], 3)[: 2 if options["samples_per_pixel"] == 1 else 3]
    if answer["dtype"] not in _DTYPES or tuple(answer["shape"]) != shape:
        raise ValueError("the decoder returned a frame of the wrong shape or type")
    dtype = np.dtype(answer["dtype"])
    content = _whole(pipe, math.prod(shape) * dtype.itemsize)
    return np.frombuffer(content, dtype).reshape(shape)


def _whole(pipe: IO[bytes], size: int) -> bytes:
    content = pipe.read(size)
    if len(content) < size:
        raise EOFError
    return content


def _seconds(options: dict[str, Any]) -> float:
    samples = options["rows"] * options["columns"] * options["samples_per_pixel"]
    return _SECONDS + float(samples / _SAMPLES_A_SECOND)


def _limit(seconds: float) -> None:
    """Limit the memory and further time of this process, so that it ends even without its parent."""
    try:
        import resource  # noqa: PLC0415 -- not on every system

        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        until = int(time.process_time() + seconds) + 1
        if hard == resource.RLIM_INFINITY or until < hard:
            resource.setrlimit(resource.RLIMIT_CPU, (until, hard))
    except (ImportError, OSError, ValueError):
        return


def _decoded(frame: bytes, syntax: str, plugin: str, options: dict[str, Any]) -> Samples:
    from pydicom.encaps import encapsulate  # noqa: PLC0415 -- an extra
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415 -- an extra

    decoder = get_decoder(syntax)
    samples = decoder.as_array(encapsulate([frame]), index=0, decoding_plugin=plugin, **options)[0]
    return np.ascontiguousarray(samples.astype(samples.dtype.newbyteorder("<"), copy=False))


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Decode frames until there are no more requests."""
    while line := requests.readline():
        request = json.loads(line)
        frame = _whole(requests, request["size"])
        _limit(_seconds(request["options"]))
        try:
            samples = _decoded(frame, request["syntax"], request["plugin"], request["options"])
        except Exception as error:  # noqa: BLE001 -- decoders raise anything; it is reported
            answers.write(json.dumps({"error": str(error)[:400]}).encode() + b"\n")
        else:
            answers.write(json.dumps({"dtype": samples.dtype.str, "shape": samples.shape}).encode() + b"\n")
            answers.write(samples.tobytes())
        answers.flush()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
