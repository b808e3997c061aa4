"""Valid files of every kind, small, as the package writes them: what mutations begin with."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.base.header import HEAD_BYTES
from mipp_cli.containers.messages.delete import write_delete
from mipp_cli.containers.messages.features import FeatureCipher, write_features
from mipp_cli.containers.messages.manifest import Manifest, ManifestMatch, SearchedOwner
from mipp_cli.containers.messages.membership import write_enrolment, write_members
from mipp_cli.containers.messages.query import write_query
from mipp_cli.containers.messages.reencrypted import AnswerCipher, write_reencrypted
from mipp_cli.containers.messages.results import ImageRef, Match, write_results
from mipp_cli.containers.messages.selection import (
    BroughtRow,
    GroupRef,
    Selection,
    write_groups,
    write_selection,
)
from mipp_cli.containers.messages.upload import (
    UploadCipher,
    UploadReader,
    upload_schema,
    write_upload,
)
from mipp_cli.containers.store.index import Index, Part, Segment, write_index
from mipp_cli.containers.store.part import write_part
from mipp_cli.containers.store.segment import Origin, write_deletion_segment, write_upload_segment
from mipp_cli.scheme.aead import OVERHEAD_BYTES
from mipp_cli.scheme.envelope import Envelope
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.scheme.retrieval_index import ids_of, index_construct
from mipp_cli.scheme.secret_keys import key_id
from tests.containers.conftest import ALICE, DEPLOYMENT, EXACT, KEY, KMC, MASK, OTHER_KEY, QUERY_ID
from tests.fuzz.picture_seeds import picture_files

IMAGE_KEY = bytes(range(32))
USK = bytes(range(1, 33))
NUMBER = 7
EARLIER = (2, 3, 6)
USERS = frozenset({("alice", KEY.public), ("bob", OTHER_KEY.public)})
ANSWER_CIPHER = AnswerCipher(USK, DEPLOYMENT, "alice", QUERY_ID)
FEATURES = np.random.default_rng(5).integers(0, 8, (3, 80), dtype=np.uint8)
NAMES = ["8f", "image of an owner", "naïve/ways.png"]
ROWS = [(0, NAMES[0]), (0, NAMES[1]), (2, NAMES[2])]  # place of the group, name
FEATURE_CIPHER = FeatureCipher(IMAGE_KEY, DEPLOYMENT, ALICE.name, NUMBER)
OWNERS = (
    SearchedOwner("north", 5, bad=1, missing=2, uploads=(7, 9), gaps=(8,)),
    SearchedOwner("south"),
)
MANIFEST = Manifest(
    hashlib.sha256(b"").hexdigest(),
    2,
    OWNERS,
    (ManifestMatch(0, 1, "north", 25), ManifestMatch(1, 1, "north")),
    left_out=3,
)


def _members(path: Path) -> None:
    write_members(path, ALICE, NUMBER, USERS)


def _enrolment(path: Path) -> None:
    write_enrolment(path, ALICE, NUMBER, USERS, [IMAGE_KEY, USK], KMC.public)


def _upload(
    path: Path,
    parameters: Parameters = MASK,
    *,
    earlier: tuple[int, ...] = EARLIER,
) -> None:
    cipher = UploadCipher(IMAGE_KEY, DEPLOYMENT, ALICE.name, NUMBER)
    key = key_id(IMAGE_KEY)
    with write_upload(path, parameters, ALICE, NUMBER, key, earlier=earlier) as upload:
        for row, name in enumerate(NAMES):
            beside = parameters.protocol.beside_image(FEATURES[row : row + 1])
            upload.append(name, cipher.encrypt(b"content", name), [column.tobytes() for column in beside])
            if row != 1:
                upload.end_group()


def _upload_of_groups(path: Path) -> None:
    _upload(path, EXACT)


def _features(path: Path) -> None:
    with write_features(path, EXACT.l, ALICE, NUMBER, IMAGE_KEY, earlier=EARLIER) as features:
        for row, name in enumerate(NAMES):
            features.append(name, hashlib.sha256(name.encode()).digest(), FEATURES[row])
            if row != 1:
                features.end_group(35 + row)


def _features_of_one(path: Path) -> None:
    with write_features(path, EXACT.l, ALICE, NUMBER, IMAGE_KEY) as features:
        features.append(NAMES[0], bytes(32), FEATURES[0])
        features.end_group(OVERHEAD_BYTES)


def _delete(path: Path) -> None:
    write_delete(path, ALICE, NUMBER, NAMES, earlier=EARLIER)


def _delete_that_nothing_came_before(path: Path) -> None:
    write_delete(path, ALICE, NUMBER, NAMES)


def _origin(earlier: tuple[int, ...] = EARLIER) -> Origin:
    return Origin("north", bytes(32), NUMBER, bytes(32), earlier)


def _segment_of(
    path: Path, *dropped: int, parameters: Parameters = MASK, earlier: tuple[int, ...] = EARLIER
) -> None:
    upload = path.with_name("upload.h5")
    _upload(upload, parameters)
    with open_container(upload, upload_schema(parameters)) as container:
        reader, rows = UploadReader(container, parameters), np.array(dropped, dtype=np.int64)
        write_upload_segment(path, parameters, ALICE, _origin(earlier), reader, rows)
    upload.unlink()


def _segment(path: Path) -> None:
    _segment_of(path, 1)


def _segment_of_groups(path: Path) -> None:
    _segment_of(path, 1, parameters=EXACT)


def _segment_without_a_group(path: Path) -> None:
    _segment_of(path, 0, parameters=EXACT)


def _segment_of_nothing(path: Path) -> None:
    _segment_of(path, *range(len(NAMES)), earlier=())


def _segment_of_a_deletion(path: Path) -> None:
    names = [name.encode() for name in NAMES]
    write_deletion_segment(path, MASK, ALICE, _origin(), ids_of(names))


def _segment_of_a_deletion_of_groups(path: Path) -> None:
    names = [name.encode() for name in NAMES]
    write_deletion_segment(path, EXACT, ALICE, _origin(), ids_of(names))


def _segment_of_a_deletion_of_nothing(path: Path) -> None:
    write_deletion_segment(path, MASK, ALICE, _origin(()), ids_of([]))


def _query(path: Path, parameters: Parameters = MASK, owners: tuple[str, ...] = ()) -> None:
    write_query(
        path,
        parameters,
        ALICE,
        QUERY_ID,
        codes=FEATURES[:2],
        candidates=5,
        usk=USK,
        sealing_key=KMC.public,
        owners=owners,
    )


def _query_of_two_owners(path: Path) -> None:
    _query(path, owners=("north", "south"))


def _query_to_rank(path: Path) -> None:
    _query(path, EXACT)


def _query_of_two_owners_to_rank(path: Path) -> None:
    _query(path, EXACT, ("north", "south"))


def _selection(path: Path) -> None:
    groups = (GroupRef("north", NUMBER, 0), GroupRef("north", NUMBER, 2), GroupRef("south", 2**63 - 1, 1))
    write_selection(path, ALICE, Selection(QUERY_ID, KEY.public, groups, (1000, 1000, 28)))


def _selection_of_nothing(path: Path) -> None:
    write_selection(path, ALICE, Selection(QUERY_ID, KEY.public, (), ()))


def _groups(path: Path) -> None:
    write_groups(path, ALICE, QUERY_ID, [BroughtRow(place, name, b"ew" * 20) for place, name in ROWS])


def _groups_of_nothing(path: Path) -> None:
    write_groups(path, ALICE, QUERY_ID, [])


def _results(path: Path) -> None:
    query = path.with_name("query.h5")
    _query(query)
    images = [(ImageRef("north", name, NUMBER, key_id(IMAGE_KEY)), b"ew" * 20) for name in NAMES]
    matches = [Match(0, 0, 0.0), Match(0, 2, 1.5), Match(1, 1, 3.25)]
    write_results(path, ALICE, QUERY_ID, query.read_bytes(), images, matches, {"north": 3, "south": 0})
    query.unlink()


def _reencrypted(path: Path) -> None:
    sealed = ANSWER_CIPHER.seal_manifest(MANIFEST.pack(4, 2))
    ner = [ANSWER_CIPHER.encrypt_image(b"content", place) for place in range(MANIFEST.images)]
    write_reencrypted(path, ALICE, QUERY_ID, ner, lambda: sealed)


def _index(path: Path) -> None:
    digest, root = b"\3" * 32, b"\4" * 32
    segments = (
        Segment("north", 5, 6, 2, digest, root),
        Segment("south", 5, 6, 1, digest, root, revision=4, earlier=(2, 3)),
        Segment("north", 9, 0, 0, digest, root, revision=6, deleted=3, earlier=(7,)),
        Segment("north", 8, 6, 2, digest, root),
    )
    parts = (Part(1, bytes(32), (0, 3)), Part(2, bytes(32), (1,)))
    write_index(path, ALICE, Index(NUMBER, segments, parts))


def _part(path: Path) -> None:
    rows = index_construct([5, 9, 5], [7, 11, 7], ids_of(name.encode() for name in NAMES))
    write_part(path, ALICE, NUMBER, [rows])


# by target: the kind, and the scheme if that of the others makes another file of it
WRITERS: dict[str, tuple[Callable[[Path], None], ...]] = {
    "members": (_members,),
    "enrolment": (_enrolment,),
    "upload": (_upload,),
    "upload-exact": (_upload_of_groups,),
    "features": (_features, _features_of_one),
    "delete": (_delete, _delete_that_nothing_came_before),
    "query": (_query, _query_of_two_owners),
    "query-exact": (_query_to_rank, _query_of_two_owners_to_rank),
    "selection": (_selection, _selection_of_nothing),
    "results": (_results,),
    "groups": (_groups, _groups_of_nothing),
    "reencrypted": (_reencrypted,),
    "index": (_index,),
    "part": (_part,),
    "segment": (
        _segment,
        _segment_of_a_deletion,
        _segment_of_nothing,
        _segment_of_a_deletion_of_nothing,
    ),
    "segment-exact": (_segment_of_groups, _segment_of_a_deletion_of_groups, _segment_without_a_group),
}


def kind_of(target: str) -> str:
    """Return the kind of the containers of a target."""
    return target.partition("-")[0]


def containers(name: str, scratch: Path) -> list[bytes]:
    """Return containers for a target, user block and all."""
    return list(_written(WRITERS[name], scratch / "seed.h5"))


def _written(writers: tuple[Callable[[Path], None], ...], path: Path) -> Iterator[bytes]:
    for write in writers:
        write(path)
        yield path.read_bytes()
        path.unlink()


def bodies(name: str, scratch: Path) -> list[bytes]:
    """Return the HDF5 content of containers for a target."""
    return [container[HEAD_BYTES:] for container in containers(name, scratch)]


def envelopes() -> list[bytes]:
    """Return the envelope of a file."""
    return [Envelope("dir/naïve.png", "image/png", FEATURES[0], picture_files("png")[0]).pack()]


def answer_manifests() -> list[bytes]:
    """Return manifests as the KMC writes them."""
    return [Manifest("ab" * 32, 0, (), ()).pack(0, 0), MANIFEST.pack(2, 2), MANIFEST.pack(9, 3)]


def feature_files() -> list[bytes]:
    """Return files of features (.npy), without the six bytes that such a file begins with."""
    files = []
    for codes in (FEATURES, FEATURES.astype("<f4"), FEATURES.astype(">u2")):
        memory = io.BytesIO()
        np.save(memory, codes)
        files.append(memory.getvalue()[6:])
    return files
