"""Work on a Dask cluster: which are accepted, what reaches a worker, and a worker that is lost."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mipp_cli.compute.cluster import check_address
from mipp_cli.compute.processes import Parallelism, open_workers
from mipp_cli.descriptors.describer import BuiltIn
from mipp_cli.errors import InterruptedWorkError, InvalidRequestError
from mipp_cli.images.collection import collect_images
from mipp_cli.owner.describe_batch import describe_and_encrypt
from mipp_cli.owner.describing import read_in_batches
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.descriptor import EDGES
from tests.compute import functions
from tests.owner.test_descriptions import contents, on_disk
from tests.support.deployment import Deployment, done, picture, refused, shared_deployment

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 60  # seconds; only a broken cluster takes them


@pytest.mark.parametrize(
    "address", ["tls://cluster.example:8786", "tcp://127.0.0.1:8786", "tcp://localhost:1", "tcp://[::1]:8786"]
)
def test_tls_and_this_machine_are_accepted(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    "address",
    ["tcp://10.0.0.7:8786", "tcp://cluster.example:8786", "10.0.0.7:8786", "ws://127.0.0.1:1", "tcp://", ""],
)
def test_a_scheduler_in_the_clear_elsewhere_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequestError, match="neither tls"):
        check_address(address)


def test_an_address_in_the_clear_is_refused_by_the_commands(changeable: Deployment) -> None:
    words = ("owner", "encrypt", changeable / "north", changeable / "pictures" / "lake")
    refused(2, *words, "-o", changeable / "new.h5", "--scheduler", "tcp://10.0.0.7:8786")
    refused(2, "cloud", "index", changeable / "cloud", changeable / "north.h5", "--scheduler", "x")


def test_jobs_and_a_scheduler_cannot_go_together(changeable: Deployment) -> None:
    words = ("owner", "encrypt", changeable / "north", changeable / "pictures" / "lake")
    refused(2, *words, "-o", changeable / "new.h5", "--scheduler", "tcp://127.0.0.1:1", "--jobs", "2")


def test_no_key_of_the_owner_goes_to_a_worker(deployment: Deployment) -> None:
    owner = Owner(deployment.role("north"))
    images = collect_images([deployment / "pictures" / "north"])
    protocol = deployment.public.parameters.protocol
    describe = partial(describe_and_encrypt, protocol=protocol, describer=BuiltIn(EDGES), pixels=False)
    sent = b"".join(map(pickle.dumps, [describe, *read_in_batches(images, None)]))
    assert images[0].path.read_bytes() in sent
    for name in ("image", "identifier", "signing"):
        assert owner.directory.secret(name) not in sent


class Cluster:
    """A real scheduler and workers, processes on this machine."""

    def __init__(self, folder: Path):
        self._file = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--host", "127.0.0.1")
        self.address = str(self._await_file()["address"])
        self.workers: list[subprocess.Popen[bytes]] = []
        for _ in range(2):
            self.start_worker()

    def start_worker(self) -> None:
        words = ("--nthreads", "1", "--no-nanny", "--host", "127.0.0.1")
        self.workers.append(self._start("worker", self.address, *words))

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        more = ("--scheduler-file", str(self._file)) if words[0] == "scheduler" else ()
        command = [sys.executable, "-m", "dask", *words, *more, "--dashboard-address", "127.0.0.1:0"]
        quiet = subprocess.DEVNULL
        places = os.environ | {"PYTHONPATH": str(REPOSITORY)}  # where the functions of these tests are found
        return subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=self._file.parent, env=places)

    def _await_file(self) -> dict[str, object]:
        for _ in range(PATIENCE * 20):
            if self._file.exists() and (text := self._file.read_text()):
                fields = json.loads(text)
                assert isinstance(fields, dict)
                return fields
            time.sleep(0.05)
        raise TimeoutError("no scheduler")

    def await_workers(self) -> None:
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(len(self.workers), timeout=PATIENCE)

    def kill_workers(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.workers.clear()

    def stop(self) -> None:
        for process in [*self.workers, self.scheduler]:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    try:
        cluster.await_workers()
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.slow
def test_each_worker_and_not_each_task_is_sent_the_function(cluster: Cluster, tmp_path: Path) -> None:
    heavy = functions.Heavy(tmp_path / "log", size=20_000_000)
    with open_workers(heavy, Parallelism(scheduler=cluster.address)) as workers:
        assert workers.count == 2
        found = {pid for _, (pid, _) in workers.in_order(range(60), under_way=4)}
    assert found <= {worker.pid for worker in cluster.workers}
    sent = heavy.unpickled()
    assert set(sent) == {worker.pid for worker in cluster.workers}
    assert len(sent) <= 4  # a busy cluster copies to a worker again what is there, now and then


@pytest.mark.slow
def test_a_worker_has_a_core_for_each_of_its_threads(cluster: Cluster) -> None:
    with open_workers(functions.cores, Parallelism(scheduler=cluster.address)) as workers:
        assert {result for _, result in workers.in_order(range(8), under_way=4)} == {1}


@pytest.mark.slow
def test_the_work_is_done_though_all_workers_are_replaced(cluster: Cluster, tmp_path: Path) -> None:
    heavy = functions.Heavy(tmp_path / "log")
    with open_workers(heavy, Parallelism(scheduler=cluster.address)) as workers:
        done = 0
        for _ in workers.in_order(range(60), under_way=4):
            done += 1
            if done == 20:
                cluster.kill_workers()
                cluster.start_worker()
    assert done == 60
    assert heavy.unpickled().count(cluster.workers[0].pid) == 1


@pytest.mark.slow
def test_a_cluster_that_is_lost_ends_the_work(cluster: Cluster, tmp_path: Path) -> None:
    with (
        pytest.raises(InterruptedWorkError, match="has lost all its workers"),
        open_workers(functions.Heavy(tmp_path / "log"), Parallelism(scheduler=cluster.address)) as workers,
    ):
        for _ in workers.in_order(range(60), under_way=4):
            cluster.kill_workers()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_scheduler_that_ends_ends_the_work(
    cluster: Cluster, tmp_path: Path, number: signal.Signals
) -> None:
    with (
        pytest.raises(InterruptedWorkError, match="the cluster was lost"),
        open_workers(functions.Heavy(tmp_path / "log"), Parallelism(scheduler=cluster.address)) as workers,
    ):
        for _ in workers.in_order(range(60), under_way=4):
            cluster.scheduler.send_signal(number)


@pytest.mark.slow
def test_a_task_that_takes_too_long_itself_fails(cluster: Cluster) -> None:
    with (
        pytest.raises(TimeoutError, match="of the task"),
        open_workers(functions.too_late, Parallelism(scheduler=cluster.address)) as workers,
    ):
        list(workers.in_order([1], under_way=1))


@pytest.mark.slow
def test_an_upload_is_whole_though_a_worker_is_killed(
    cluster: Cluster, session_folder: Path, tmp_path: Path
) -> None:
    there = shared_deployment(session_folder, "dcr").copy(tmp_path / "deployment")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(120):
        picture(number, size=(72, 72), mode="L").save(folder / f"{number:03d}.png")
    upload = there / "new.h5"
    words = ("owner", "encrypt", there / "north", folder, "-o", upload, "--scheduler", cluster.address)
    command = [sys.executable, "-m", "mipp_cli", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        partial = there / "north" / "partial"
        while process.poll() is None and not any(
            path.stat().st_size for path in partial.glob("descriptions")
        ):
            time.sleep(0.01)
        assert process.poll() is None, "all was done before a worker could be killed"
        cluster.workers[0].send_signal(signal.SIGKILL)
        _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    assert sorted(contents(there, upload)) == on_disk(folder)
    indexed = done("cloud", "index", there / "cloud", upload, "--scheduler", cluster.address, "--json")
    assert indexed.json["counts"]["images"] == 120
