"""An owner's messages commute: in every order, doubled, late and lost, the cloud comes to the same state."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mipp_cli.cloud.check import check_cloud
from mipp_cli.cloud.cloud import Cloud
from mipp_cli.cloud.completeness import completeness
from mipp_cli.cloud.index import index_containers
from mipp_cli.cloud.rebuild import rebuild_index
from mipp_cli.compute.processes import Parallelism
from mipp_cli.containers.messages.delete import write_delete
from mipp_cli.containers.messages.upload import UploadCipher, write_upload
from mipp_cli.errors import AlreadyAppliedError
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.envelope import Envelope
from mipp_cli.scheme.secret_keys import key_id
from tests.support.deployment import JOBS, SCHEMES, done, picture
from tests.support.forgery import random_feature

pytestmark = pytest.mark.slow

NAMES = "abcde"
A_DAY = 86_400 * 10**6
ALONE = Parallelism(jobs=1)


@dataclass(frozen=True)
class Message:
    """A message as its owner made it: its number, kind, names, and the earlier ones that still decide."""

    number: int
    deletes: bool
    names: tuple[str, ...]
    earlier: tuple[int, ...]
    path: Path


@dataclass
class State:
    """What a cloud holds of an owner, however it came there."""

    images: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    deleted: set[tuple[int, int]] = field(default_factory=set)
    applied: set[int] = field(default_factory=set)
    complete: int = 0
    missing: tuple[int, ...] = ()


@dataclass
class Making:
    """A deployment with one owner, in whose name messages are made."""

    root: Path

    def message(self, number: int, deletes: bool, names: Sequence[str], earlier: Sequence[int]) -> Message:
        path = self.root / f"{number}.h5"
        owner = Owner.open(self.root / "north")
        sender, parameters = owner.directory.sender, owner.directory.deployment.parameters
        if deletes:
            write_delete(path, sender, number, names, earlier=earlier, force=True)
        else:
            cipher = UploadCipher(owner.image_key, sender.deployment, sender.name, number)
            key = key_id(owner.image_key)
            with write_upload(path, parameters, sender, number, key, earlier=earlier, force=True) as upload:
                for place, name in enumerate(names):
                    feature = random_feature(number % 2**32 + place)
                    content = f"{name} of {number}".encode()
                    beside = parameters.protocol.beside_image(feature[None])
                    envelope = Envelope(name, "image/png", feature, content)
                    ew = cipher.encrypt(envelope.pack(256), name)
                    upload.append(name, ew, [column[0].tobytes() for column in beside])
                    upload.end_group()
        return Message(number, deletes, tuple(names), tuple(earlier), path)

    def history(self, steps: Sequence[tuple[bool, Sequence[str]]]) -> list[Message]:
        """Make messages one after the other, days apart, each with the list that its owner would write."""
        now, decides, made = time.time_ns() // 1000, dict[str, int](), list[Message]()
        for place, (deletes, names) in enumerate(steps):
            number = now - (len(steps) - place) * 9 * A_DAY
            decides |= dict.fromkeys(names, number)
            earlier = sorted(set(decides.values()) - {number})
            made.append(self.message(number, deletes, names, earlier))
        return made

    def cloud(self) -> Path:
        """Return a cloud that nothing came to yet."""
        fresh = self.root / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(self.root / "cloud", fresh)
        return fresh

    def contents(self, message: Message, name: str) -> bytes:
        """Return the encrypted image that a message brings."""
        cloud = Cloud.open(self.root / "cloud")
        from mipp_cli.containers.base.container import open_container
        from mipp_cli.containers.messages.upload import UploadReader, upload_schema

        with open_container(message.path, upload_schema(cloud.store.parameters)) as container:
            reader = UploadReader(container, cloud.store.parameters)
            return reader.encrypted_image(reader.names().index(name))

    def expected(self, messages: Sequence[Message]) -> State:
        """Return the state after ``messages``: the highest number that mentions a name decides."""
        state = State(applied={each.number for each in messages})
        for message in sorted(messages, key=lambda each: each.number):
            for name in message.names:
                state.images.pop(name, None)
                if not message.deletes:
                    state.images[name] = (message.number, self.contents(message, name))
            if message.deletes:
                state.deleted.add((message.number, len(message.names)))
            missing = tuple(each for each in message.earlier if each not in state.applied)
            state.missing = missing
            if not missing:
                state.complete = message.number
        return state


def state_of(path: Path) -> State:
    """Read the state of a cloud from its store."""
    cloud = Cloud.open(path)
    index = cloud.index()
    state = State(applied={segment.number for segment in index.segments})
    for segment in index.segments:
        with cloud.store.segment(segment) as upload:
            for row, name in enumerate(upload.names()):
                assert name not in state.images
                state.images[name] = (segment.number, upload.encrypted_image(row))
        if segment.deleted:
            state.deleted.add((segment.number, segment.deleted))
    found = completeness(cloud.store, index, "north")
    state.complete, state.missing = found.up_to, found.gaps
    return state


def apply(cloud: Path, *batches: Sequence[Message]) -> None:
    for batch in batches:
        with suppress(AlreadyAppliedError):
            index_containers(cloud, [message.path for message in batch], parallelism=ALONE)


@pytest.fixture(scope="module", params=["mask", "exact"])
def making(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Making:
    root = tmp_path_factory.mktemp("commuting")
    done("kmc", "init", root / "kmc", *SCHEMES[request.param])
    kmc = root / "kmc" / "kmc.pub"
    done("cloud", "init", root / "cloud", "--kmc", kmc)
    done("owner", "init", root / "north", "--id", "north", "--kmc", kmc)
    done("cloud", "enroll", root / "cloud", root / "north" / "members.h5")
    return Making(root)


STEPS = st.tuples(st.booleans(), st.sets(st.sampled_from(NAMES), min_size=1).map(sorted))


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS, min_size=1, max_size=6), data=st.data())
def test_any_order_doubled_and_in_any_batches_gives_the_same(
    making: Making, steps: list[tuple[bool, list[str]]], data: st.DataObject
) -> None:
    messages = making.history(steps)
    lost = data.draw(st.sets(st.sampled_from(messages), max_size=2)) if len(messages) > 1 else set()
    came = [message for message in messages if message not in lost]
    twice = data.draw(st.lists(st.sampled_from(came), max_size=2)) if came else []
    order = data.draw(st.permutations([*came, *twice]))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(order)), max_size=3)))
    cloud = making.cloud()
    bounds = zip([0, *cuts], [*cuts, len(order)], strict=True)
    apply(cloud, *(order[begin:end] for begin, end in bounds if begin < end))
    assert state_of(cloud) == making.expected(came)
    check_cloud(cloud, with_sums=True, parallelism=ALONE)
    stored = b"".join(path.read_bytes() for path in (cloud / "segments").iterdir())
    live = {ew for _, ew in making.expected(came).images.values()}
    for message in came:
        for name in () if message.deletes else message.names:
            ew = making.contents(message, name)
            assert (ew in stored) == (ew in live)


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS, min_size=2, max_size=6), data=st.data())
def test_a_rebuilt_index_is_in_the_same_state(
    making: Making, steps: list[tuple[bool, list[str]]], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(making.history(steps)))
    cloud = making.cloud()
    apply(cloud, *([message] for message in order))
    before = state_of(cloud)
    (cloud / "index.h5").unlink()
    rebuild_index(cloud, parallelism=ALONE)
    assert state_of(cloud) == before
    check_cloud(cloud, with_sums=True, parallelism=ALONE)


def test_every_order_of_three_messages_gives_the_same(making: Making) -> None:
    steps = [(False, "abc"), (True, "abc"), (False, "bd")]
    messages = making.history(steps)
    expected = making.expected(messages)
    for order in permutations(messages):
        cloud = making.cloud()
        apply(cloud, *([message] for message in order))
        assert state_of(cloud) == expected
    assert {name: number for name, (number, _) in expected.images.items()} == {
        "b": messages[2].number,
        "d": messages[2].number,
    }


@pytest.mark.parametrize("lost", range(5))
def test_what_the_commands_made_commutes(making: Making, tmp_path: Path, lost: int) -> None:
    owner, pictures = tmp_path / "north", tmp_path / "pictures"
    shutil.copytree(making.root / "north", owner)
    pictures.mkdir()
    choose = random.Random(lost)

    def sent(name: str, *options: str) -> Path:
        done("owner", "encrypt", owner, pictures, "--small", "-o", tmp_path / name, *options, *JOBS)
        return tmp_path / name

    for seed, name in enumerate("pqr"):
        picture(seed).save(pictures / f"{name}.png")
    files = [sent("first.h5")]
    picture(7).save(pictures / "q.png")
    picture(8).save(pictures / "s.png")
    files.append(sent("second.h5"))
    done("owner", "delete", owner, "p.png", "q.png", "-o", tmp_path / "delete.h5")
    files.append(tmp_path / "delete.h5")
    picture(9).save(pictures / "r.png")
    files.append(sent("third.h5", "--undelete"))
    files.append(sent("fourth.h5", "--again"))
    files.pop(lost)
    states = []
    for order in (files, files[::-1], choose.sample(files, len(files))):
        cloud = making.cloud()
        for file in order:
            done("cloud", "index", cloud, file, *JOBS)
        states.append(state_of(cloud))
        done("cloud", "check", cloud, "--sums", *JOBS)
    assert states[0] == states[1] == states[2]
    assert len(states[0].images) == 4


def test_a_lost_upload_is_told_and_made_again(making: Making, tmp_path: Path) -> None:
    owner, pictures, cloud = tmp_path / "north", tmp_path / "pictures", making.cloud()
    shutil.copytree(making.root / "north", owner)
    pictures.mkdir()
    for number in range(3):
        picture(number).save(pictures / f"{number}.png")
        done("owner", "encrypt", owner, pictures, "--small", "-o", tmp_path / f"{number}.h5", *JOBS)
    told = done("cloud", "index", cloud, tmp_path / "2.h5", tmp_path / "0.h5", *JOBS, "--json").json
    (number,) = told["owners"]["north"]["missing"]
    assert any(str(number) in warning and "--again" in warning for warning in told["warnings"])
    assert str(number) in done("cloud", "check", cloud).err
    assert str(number) in done("inspect", cloud).out
    assert str(number) in done("inspect", cloud / "index.h5").out
    again = ("owner", "encrypt", owner, pictures, "--again", number, "-o", tmp_path / "again.h5", *JOBS)
    assert done(*again, "--small", "--json").json["counts"]["images"] == 1
    told = done("cloud", "index", cloud, tmp_path / "again.h5", *JOBS, "--json").json
    assert told["owners"]["north"]["missing"] == []
    assert told["counts"]["images in all"] == 3


def test_a_lost_deletion_is_made_again(making: Making, tmp_path: Path) -> None:
    owner, pictures, cloud = tmp_path / "north", tmp_path / "pictures", making.cloud()
    shutil.copytree(making.root / "north", owner)
    pictures.mkdir()
    for number in range(2):
        picture(number).save(pictures / f"{number}.png")
    done("owner", "encrypt", owner, pictures, "--small", "-o", tmp_path / "all.h5", *JOBS)
    done("owner", "delete", owner, "0.png", "-o", tmp_path / "lost.h5")
    picture(2).save(pictures / "2.png")
    done("owner", "encrypt", owner, pictures, "--small", "-o", tmp_path / "new.h5", *JOBS)
    told = done("cloud", "index", cloud, tmp_path / "all.h5", tmp_path / "new.h5", *JOBS, "--json").json
    (number,) = told["owners"]["north"]["missing"]
    done("owner", "delete", owner, "--again", number, "-o", tmp_path / "again.h5")
    told = done("cloud", "index", cloud, tmp_path / "again.h5", *JOBS, "--json").json
    assert told["owners"]["north"]["missing"] == []
    assert told["counts"]["images in all"] == 2
