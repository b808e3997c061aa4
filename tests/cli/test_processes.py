"""What only a real process shows: signals, full disks, readers that go away, terminals without letters."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.deployment import JOBS, Deployment, Outcome, check_refusal, done, picture, snapshot
from tests.support.process_tree import descendants_of, gone, workers_of

REPOSITORY = Path(__file__).parents[2]
MIPP = (sys.executable, "-m", "mipp_cli")


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(REPOSITORY)} | more


def mipp(*words: object, **options: object) -> Outcome:
    ran = subprocess.run(
        [*MIPP, *map(str, words)],
        capture_output=True,
        check=False,
        timeout=120,
        env=environment(),
        **options,
    )
    return Outcome(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


@pytest.fixture(scope="module")
def many_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of more images than can be encrypted before a signal arrives."""
    folder = tmp_path_factory.mktemp("many")
    picture(1, size=(300, 300)).save(folder / "first.png")
    for number in range(400):
        os.link(folder / "first.png", folder / f"{number:04d}.png")
    return folder


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let what a test starts be interrupted: what a script starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def beside_two_workers(*words: object) -> Iterator[subprocess.Popen[str]]:
    """Run a command, and begin when it has started two workers."""
    process = subprocess.Popen(
        [*MIPP, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    try:
        while len(workers_of(process.pid)) < 2:
            assert process.poll() is None, process.communicate()
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupt_leaves_no_half_file_and_no_process(
    changeable: Deployment, many_images: Path, tmp_path: Path, number: signal.Signals
) -> None:
    words = ("owner", "encrypt", changeable / "north", many_images, "-o", tmp_path / "u.h5", "--jobs", "2")
    before = snapshot(changeable / "north")
    with beside_two_workers(*words) as process:
        there = descendants_of(process.pid)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does: to the whole group
        else:
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
    check_refusal(Outcome(process.returncode, out, err), 130)
    assert "interrupted" in err
    assert gone([process.pid, *there])
    assert list(tmp_path.iterdir()) == []
    after = {path: state for path, state in snapshot(changeable / "north").items() if "/partial" not in path}
    assert {path for path in after if after[path] != before.get(path)} <= {
        str(changeable / "north" / "uploads")
    }
    done("owner", "encrypt", changeable / "north", many_images / "first.png", "-o", tmp_path / "u.h5", *JOBS)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_run_that_is_ended_by_a_signal_writes_its_report(
    changeable: Deployment, many_images: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    report = tmp_path / "report.csv"
    words = ("owner", "encrypt", changeable / "north", many_images, "-o", tmp_path / "u.h5", "--jobs", "2")
    with beside_two_workers(*words, "--report", report, *options) as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    check_refusal(Outcome(process.returncode, out, err), 130)
    assert f"{report} lists what happened to each file" in err
    assert len(report.read_text().splitlines()) == 1 + 401


def test_a_worker_that_is_killed_ends_the_run_with_one_message(
    changeable: Deployment, many_images: Path, tmp_path: Path
) -> None:
    words = ("owner", "encrypt", changeable / "north", many_images, "-o", tmp_path / "u.h5", "--jobs", "2")
    with beside_two_workers(*words) as process:
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        out, err = process.communicate(timeout=60)
    outcome = Outcome(process.returncode, out, err)
    check_refusal(outcome, 130)
    assert "a worker process was killed" in outcome.err
    assert "fewer --jobs" in outcome.err
    assert list(tmp_path.iterdir()) == []
    assert not list(changeable.root.rglob("*.tmp"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB if we may mount one; otherwise a folder, to be used with a limit on each file."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    mounted = subprocess.run(command, check=False, capture_output=True)
    yield place
    if mounted.returncode == 0:
        subprocess.run(["umount", place], check=True)


def on_small_disk(place: Path, *words: object, left: int = 1 << 18) -> Outcome:
    """Run a command with so many bytes left on the disk (or for each file)."""
    if not os.path.ismount(place):
        return mipp(*words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (left, left)))
    filler = place / "filler"
    filler.write_bytes(bytes((1 << 18) - left))
    outcome = mipp(*words)
    filler.unlink()
    return outcome


def check_full(outcome: Outcome, place: Path) -> None:
    check_refusal(outcome, 10)
    assert str(place) in outcome.err
    assert "cannot be written: " in outcome.err


@pytest.fixture(scope="module")
def large_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    for number in range(3):
        picture(number, size=(400, 300)).save(folder / f"{number}.png")
    return folder


def test_an_upload_on_a_full_disk_fails_cleanly(
    changeable: Deployment, small_disk: Path, large_images: Path
) -> None:
    words = ("owner", "encrypt", changeable / "north", large_images, "-o", small_disk / "u.h5", *JOBS)
    check_full(
        on_small_disk(small_disk, *words), small_disk if os.path.ismount(small_disk) else changeable.root
    )
    assert list(small_disk.iterdir()) == []
    assert not list(changeable.root.rglob("*.tmp"))


def test_indexing_on_a_full_disk_changes_nothing(
    changeable: Deployment, small_disk: Path, large_images: Path
) -> None:
    upload = changeable / "u.h5"
    done("owner", "encrypt", changeable / "north", large_images, "-o", upload, *JOBS)
    cloud = small_disk / "cloud"
    done("cloud", "init", cloud, "--kmc", changeable / "kmc" / "kmc.pub")
    done("cloud", "enroll", cloud, changeable / "north" / "members.h5")
    before = snapshot(cloud)
    check_full(on_small_disk(small_disk, "cloud", "index", cloud, upload, *JOBS), small_disk)
    assert snapshot(cloud) == before


def test_features_on_a_full_disk_fail_cleanly(
    changeable_exact: Deployment, small_disk: Path, large_images: Path
) -> None:
    north, root = changeable_exact / "north", changeable_exact.root
    words = ("owner", "encrypt", north, large_images, "-o", small_disk / "u.h5", *JOBS)
    outcome = on_small_disk(small_disk, *words)
    check_full(outcome, small_disk if os.path.ismount(small_disk) else root)
    assert list(small_disk.iterdir()) == []
    assert not list(root.rglob("*.tmp"))
    assert len(list((north / "features").iterdir())) == 1


def test_a_ranking_on_a_full_disk_fails_cleanly(changeable_exact: Deployment, small_disk: Path) -> None:
    kmc, query = changeable_exact / "kmc", changeable_exact.ask("alice")
    words = ("kmc", "rank", kmc, query, "-o")
    check_full(on_small_disk(small_disk, *words, small_disk / "s.h5", left=0), small_disk)
    assert list(small_disk.iterdir()) == []
    for name in ("one.h5", "two.h5"):
        done(*words, changeable_exact / name)
    one, two = (done("inspect", changeable_exact / name, "--csv").out for name in ("one.h5", "two.h5"))
    assert one == two


def test_results_and_answers_on_a_full_disk_fail_cleanly(
    changeable: Deployment, small_disk: Path, large_images: Path
) -> None:
    done("owner", "encrypt", changeable / "north", large_images, "-o", changeable / "u.h5", *JOBS)
    done("cloud", "index", changeable / "cloud", changeable / "u.h5", *JOBS)
    query = changeable.ask("alice", candidates=100)
    results = changeable.search(query)
    answer = changeable.answer(results)
    for words in (
        ("cloud", "search", changeable / "cloud", query, "-o", small_disk / "out", *JOBS),
        ("kmc", "reencrypt", changeable / "kmc", results, "-o", small_disk / "out"),
        ("user", "decrypt", changeable / "alice", answer, "-o", small_disk / "out"),
    ):
        check_full(on_small_disk(small_disk, *words), small_disk)
        assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("left", [0, 4096, 8192])
def test_a_directory_on_a_full_disk_is_not_begun(deployment: Deployment, small_disk: Path, left: int) -> None:
    kmc = deployment / "kmc" / "kmc.pub"
    words = ("owner", "init", small_disk / "o", "--id", "o", "--kmc", kmc)
    check_full(on_small_disk(small_disk, *words, left=left), small_disk)
    assert list(small_disk.iterdir()) == []


def test_a_reader_that_goes_away_is_no_failure(deployment: Deployment) -> None:
    command = [*MIPP, "inspect", str(deployment / "cloud" / "index.h5"), "--csv"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == b""


def test_an_output_that_cannot_be_printed_is_an_error(deployment: Deployment) -> None:
    command = [*MIPP, "inspect", str(deployment / "cloud" / "index.h5"), "--csv"]
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment(), check=False)
    check_refusal(Outcome(ran.returncode, "", ran.stderr.decode()), 10)
    assert b"No space left on device" in ran.stderr


def test_names_are_escaped_on_an_ascii_terminal(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "é.png")
    ran = subprocess.run(
        [*MIPP, "features", str(tmp_path / "é.png"), "--csv"],
        capture_output=True,
        env=environment(PYTHONIOENCODING="ascii"),
        check=True,
    )
    assert b"\\xe9.png," in ran.stdout
