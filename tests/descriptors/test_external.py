"""Features of one's own: whose row is whose, how values become codes, and roles that work with them."""

from __future__ import annotations

import csv
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from mipp_cli.descriptors.edge_histogram import edge_histogram
from mipp_cli.descriptors.external import own_features
from mipp_cli.errors import InvalidRequestError
from mipp_cli.images.collection import ImageFile, collect_images
from mipp_cli.images.pictures import open_picture
from mipp_cli.owner.descriptions import SYNC_IMAGES
from mipp_cli.scheme.descriptor import Descriptor
from tests.owner.test_encrypt import envelopes
from tests.support.deployment import JOBS, SAMPLES, SCHEMES, Deployment, done, picture, refused, snapshot

EIGHT = Descriptor("shares", 4, 8)


def hdf5(path: Path, names: list[str], rows: object) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("names", data=names)
        file.create_dataset("features", data=rows)
    return path


def npy(path: Path, rows: object) -> Path:
    np.save(path, np.asarray(rows))
    return path


def test_rows_with_names_may_come_in_any_order(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").touch()
    images = collect_images([tmp_path])
    rows = [[3, 3, 3, 3], [1, 1, 1, 1], [2, 2, 2, 2]]
    with own_features(hdf5(tmp_path / "f.h5", ["c.png", "a.png", "b.png"], rows), images, EIGHT) as features:
        assert features is not None
        assert [features.codes(image).tolist() for image in images] == sorted(rows)


COMPOSED, APART = "é.png", "e\N{COMBINING ACUTE ACCENT}.png"


@pytest.mark.parametrize(
    ("files", "names"),
    [([COMPOSED], [APART]), ([APART], [COMPOSED]), ([APART, COMPOSED], [APART, COMPOSED])],
    ids=["one", "the other", "both"],
)
def test_names_may_be_composed_otherwise(tmp_path: Path, files: list[str], names: list[str]) -> None:
    images = [ImageFile(tmp_path / name, name) for name in files]
    rows = [[number] * 4 for number in range(len(files))]
    with own_features(hdf5(tmp_path / "f.h5", names, rows), images, EIGHT) as features:
        assert features is not None
        assert [features.codes(image).tolist() for image in images] == rows


def test_two_names_for_one_image_are_refused(tmp_path: Path) -> None:
    images, file = (
        [ImageFile(tmp_path / APART, APART)],
        hdf5(tmp_path / "f.h5", [APART, COMPOSED], [[1] * 4] * 2),
    )
    with (
        pytest.raises(InvalidRequestError, match=r"features of the image '.*' twice"),
        own_features(file, images, EIGHT),
    ):
        pass


# What the roles make of them: 4 × 4 × 4 colours and the 80 codes of edges, computed here, as shares.


def colours_and_edges(path: Path) -> np.ndarray:
    image = open_picture(path.read_bytes(), path=None).eight_bits()
    pixels = np.asarray(image.convert("RGB").resize((64, 64))).reshape(-1, 3)
    colours, _ = np.histogramdd(pixels, bins=(4, 4, 4), range=[(0, 256)] * 3)
    return np.concatenate([colours.ravel() / len(pixels), edge_histogram(image) / 7])


def make_roles(root: Path, scheme: str, descriptor: str) -> Deployment:
    """Make a deployment of two owners and a user, enrolled, without any image yet."""
    root.mkdir(exist_ok=True)
    kmc = root / "kmc" / "kmc.pub"
    done("kmc", "init", root / "kmc", *SCHEMES[scheme], "--descriptor", descriptor)
    done("cloud", "init", root / "cloud", "--kmc", kmc)
    done("user", "init", root / "alice", "--id", "alice", "--kmc", kmc)
    for owner in ("north", "lake"):
        words = ("--id", owner, "--kmc", kmc, "--authorize", root / "alice" / "user.pub")
        done("owner", "init", root / owner, *words)
    enrolments = [root / owner / "enrolment.h5" for owner in ("north", "lake")]
    done("kmc", "enroll", root / "kmc", *enrolments, root / "cloud" / "cloud.pub")
    done("cloud", "enroll", root / "cloud", *(root / owner / "members.h5" for owner in ("north", "lake")))
    return Deployment(root, scheme)


@pytest.mark.parametrize(("scheme", "levels", "most"), [("mask", 256, 16), ("dcr", 200, 3)])
def test_the_roles_rank_by_the_distance_of_the_vectors_given(
    tmp_path: Path, scheme: str, levels: int, most: int
) -> None:
    made = make_roles(tmp_path / "roles", scheme, f"colours-and-edges:144:{levels}:0..1")
    vectors = {}
    for owner, folder in (("north", "hospital-north"), ("lake", "clinic-lake")):
        images = collect_images([SAMPLES / "owners" / folder])[:: 16 // most][:most]
        names = [image.name for image in images]
        rows = np.array([colours_and_edges(image.path) for image in images]).astype(np.float32)
        vectors |= {(owner, name): row for name, row in zip(names, rows, strict=True)}
        file = npy(tmp_path / f"{owner}.npy", rows)
        if owner == "lake":
            file = hdf5(tmp_path / "lake.h5", names[::-1], rows[::-1])
        root = ("--root", SAMPLES / "owners" / folder, "-o", made / f"{owner}.h5", "--features", file)
        done("owner", "encrypt", made / owner, *(image.path for image in images), *root, *JOBS)
    done("cloud", "index", made / "cloud", made / "north.h5", made / "lake.h5", *JOBS)
    example = SAMPLES / "queries" / "fundus.jpg"
    asked = colours_and_edges(example)
    file = npy(tmp_path / "query.npy", asked[None])
    query, answer = made / "query.h5", tmp_path / "matches"
    done("user", "query", made / "alice", example, "-o", query, "--features", file, "--candidates", 2 * most)
    done("user", "decrypt", made / "alice", made.answer(made.search(query)), "-o", answer, "--top", 2 * most)
    with (answer / "matches.csv").open(newline="") as lines:
        found = [(row["owner"], row["name"], float(row["distance"])) for row in csv.DictReader(lines)]

    def codes(vector: np.ndarray) -> list[int]:
        return [min(int(value * levels), levels - 1) for value in vector.tolist()]

    def distance(key: tuple[str, str]) -> float:
        return sum((x - y) ** 2 for x, y in zip(codes(vectors[key]), codes(asked), strict=True)) ** 0.5

    assert {key[:2] for key in found} == set(vectors)
    assert [each[2] for each in found] == sorted(each[2] for each in found)
    for owner, name, measured in found:
        assert measured == pytest.approx(distance((owner, name)), abs=1e-5)
        assert measured / levels == pytest.approx(
            float(np.linalg.norm(vectors[owner, name] - asked)), abs=12 / levels
        )


@pytest.mark.parametrize("descriptor", ["wide:4096:200", "widest:65535:256"])
def test_the_cloud_ranks_the_widest_vectors_exactly(tmp_path: Path, descriptor: str) -> None:
    made = make_roles(tmp_path / "roles", "mask", descriptor)
    dimension, levels = (int(number) for number in descriptor.split(":")[1:])
    names = [f"{number}.png" for number in range(7)]
    for name in names:
        (tmp_path / "images").mkdir(exist_ok=True)
        picture(1, size=(24, 24)).save(tmp_path / "images" / name)
    random = np.random.default_rng(7)
    rows = random.integers(0, levels, (7, dimension), dtype=np.uint8)
    rows[0], rows[1], rows[2, ::2] = levels - 1, 0, levels - 1
    words = ("-o", made / "u.h5", "--features", npy(tmp_path / "f.npy", rows), *JOBS)
    done("owner", "encrypt", made / "north", tmp_path / "images", *words)
    done("cloud", "index", made / "cloud", made / "u.h5", *JOBS)
    exact = [[int(x) for x in row] for row in rows.tolist()]
    sums = [(sum(row), sum(x * x for x in row)) for row in exact]
    table = list(csv.DictReader(done("inspect", made / "cloud" / "index.h5", "--csv").out.splitlines()))
    assert sorted((int(row["sum1"]), int(row["sum2"])) for row in table) == sorted(sums)
    for query in (0, 1, 4):
        file = npy(tmp_path / "q.npy", rows[query : query + 1])
        words = ("-o", made / f"q{query}.h5", "--features", file, "--candidates", 4)
        done("user", "query", made / "alice", tmp_path / "images" / names[query], *words)
        numerators = [dimension * (s2 + sums[query][1]) - 2 * s1 * sums[query][0] for s1, s2 in sums]
        nearest = sorted(range(7), key=numerators.__getitem__)[:4]
        for option in ((), ("--without-index",)):
            results = tmp_path / f"{query}{len(option)}.h5"
            done("cloud", "search", made / "cloud", made / f"q{query}.h5", "-o", results, *option, *JOBS)
            with h5py.File(results) as found:
                sims = sorted(found["match_sims"][:].tolist())
            assert sims == pytest.approx([(numerators[row] / dimension) ** 0.5 for row in nearest], rel=1e-15)
        answer = made.answer(results)
        done("user", "decrypt", made / "alice", answer, "-o", tmp_path / f"m{query}")
        with (tmp_path / f"m{query}" / "matches.csv").open(newline="") as lines:
            ranked = [(row["name"], float(row["distance"])) for row in csv.DictReader(lines)]
        assert {name for name, _ in ranked} == {names[row] for row in nearest}
        for name, distance in ranked:
            squares = sum((x - y) ** 2 for x, y in zip(exact[int(name[0])], exact[query], strict=True))
            assert distance == pytest.approx(squares**0.5, abs=1e-6)
        assert [distance for _, distance in ranked] == sorted(distance for _, distance in ranked)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Roles with a descriptor of 4 codes of 8 levels, and three pictures."""
    root = tmp_path_factory.mktemp("own-features")
    for seed, name in enumerate(("b/x.png", "a.png", "b.png")):
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(root / "images" / name)
    yield make_roles(root, "mask", "shares:4:8")


NAMES = ["a.png", "b.png", "b/x.png"]
ROWS = [[0, 1, 2, 3], [4, 5, 6, 7], [7, 0, 7, 0]]


def refuse(made: Deployment, code: int, words: str, *options: object) -> None:
    """Demand that neither an owner nor a user can do it, and that nothing changes."""
    before = snapshot(made / "north" / "state.json", made / "alice")
    output = made / "refused.h5"
    for command in (("owner", "encrypt", made / "north", *JOBS), ("user", "query", made / "alice")):
        outcome = refused(code, *command, made / "images", "-o", output, *options)
        assert words in outcome.err
    assert snapshot(made / "north" / "state.json", made / "alice") == before
    assert not output.exists()
    assert not (made / "north" / "partial").exists()


def test_features_must_be_given_where_they_are_not_computed(made: Deployment) -> None:
    refuse(made, 2, "mipp cannot compute the features of this deployment (shares)")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (ROWS[:2], "2 rows for 3 images"),
        ([*ROWS, ROWS[0]], "4 rows for 3 images"),
        ([row[:3] for row in ROWS], "features of 3 numbers; this deployment's have 4"),
        ([[*row, 0] for row in ROWS], "features of 5 numbers"),
        (
            [ROWS[0], [4, 5, 8, 7], ROWS[2]],
            "row 1, of the image 'b.png', is not a feature of shares: column 2 is 8",
        ),
        (
            [ROWS[0], ROWS[1], [7, -1, 7, 0]],
            "row 2, of the image 'b/x.png', is not a feature of shares: column 1 is -1",
        ),
        (
            [ROWS[0], [4, 5, 6.0, 7], ROWS[2]],
            "row 0, of the image 'a.png', is not a feature of shares: column 0 is 0.0",
        ),
    ],
    ids=str,
)
def test_rows_that_are_not_the_images_features_are_refused(
    made: Deployment, tmp_path: Path, rows: list[list[float]], words: str
) -> None:
    refuse(made, 2, words, "--features", npy(tmp_path / "f.npy", rows))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.png", "b.png", "c.png"], "lacks features of 1 of the 3 images, the first 'b/x.png'"),
        (["a.png", "b.png", "a.png"], "features of the image 'a.png' twice, in rows 0 and 2"),
        (["A.PNG", "images/b.png", "x.png"], "lacks features of 3 of the 3 images, the first 'a.png'"),
        ([*NAMES, "d.png", "e.png"], "features of 2 images that were not given, the first 'd.png'"),
    ],
)
def test_names_that_are_not_the_images_names_are_refused(
    made: Deployment, tmp_path: Path, names: list[str], words: str
) -> None:
    refuse(made, 2, words, "--features", hdf5(tmp_path / "f.h5", names, [ROWS[0]] * len(names)))


def test_a_file_that_holds_no_features_is_malformed(made: Deployment, tmp_path: Path) -> None:
    refuse(made, 3, "is not a feature file", "--features", made / "images" / "a.png")


def test_pictures_with_features_of_ones_own_must_be_readable(made: Deployment, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_bytes(b"no picture")
    picture(1).save(images / "b.png")
    words = ("--features", npy(tmp_path / "f.npy", ROWS[:2]), "-o", tmp_path / "u.h5")
    refused(7, "owner", "encrypt", made / "north", images, *words, *JOBS)
    refused(7, "user", "query", made / "alice", images, *words)
    outcome = done("owner", "encrypt", made / "north", images, *words, *JOBS, "--skip-unreadable", "--json")
    assert outcome.json["counts"] | {"images": 1, "skipped": 1, "edgeless": 0} == outcome.json["counts"]


def test_features_of_zeros_are_called_edgeless_only_of_edges(made: Deployment, tmp_path: Path) -> None:
    words = (made / "images", "--features", npy(tmp_path / "f.npy", np.zeros((3, 4), dtype=int)), "--json")
    for command in (("owner", "encrypt", made / "lake", *JOBS), ("user", "query", made / "alice")):
        report = done(*command, *words, "-o", tmp_path / f"{command[0]}.h5").json
        assert report["counts"]["edgeless"] == 0
        assert report["warnings"] == []


def test_a_run_with_other_features_is_not_the_interrupted_one(made: Deployment, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(SYNC_IMAGES):
        picture(1, size=(24, 24)).save(images / f"{number:03d}.png")
    (images / "z.png").write_bytes(b"no picture")
    rows = np.ones((SYNC_IMAGES + 1, 4), dtype=int)
    first, other = npy(tmp_path / "f.npy", rows), npy(tmp_path / "g.npy", 2 * rows)
    words = ("owner", "encrypt", made / "lake", images, "-o", tmp_path / "u.h5", *JOBS)
    refused(7, *words, "--features", first)
    assert "other features" in refused(2, *words, "--features", other, "--resume").err
    picture(1).save(images / "z.png")
    (images / "000.png").rename(images / "zz.png")  # each row of the file is another image's now
    assert "other features" in refused(2, *words, "--features", first, "--resume").err
    (images / "zz.png").rename(images / "000.png")
    done(*words, "--features", first, "--resume")


def test_edge_histograms_of_ones_own_are_codes(changeable: Deployment, tmp_path: Path) -> None:
    images = changeable / "pictures" / "queries"
    rows = [
        edge_histogram(open_picture(path.read_bytes(), path=None).eight_bits())
        for path in sorted(images.iterdir())
    ]
    words = ("user", "query", changeable / "alice", images, "-o", tmp_path / "q.h5", "--features")
    done(*words, npy(tmp_path / "codes.npy", rows))
    outcome = refused(2, *words, npy(tmp_path / "shares.npy", np.array(rows) / 7), "--force")
    assert "integers must be codes, 0 to 7" in outcome.err


def real_roles(root: Path, descriptor: str) -> tuple[Deployment, Path]:
    """Make roles with a descriptor of real numbers, and a folder of three pictures."""
    for seed, name in enumerate(NAMES):
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed, size=(24, 24)).save(root / "images" / name)
    return make_roles(root, "mask", descriptor), root / "images"


@pytest.mark.parametrize(
    ("descriptor", "rows", "codes", "clipped"),
    [
        (
            "v:4:-1..1",
            [[-1, 1, 0, -0.999], [2, -9, 0.5, 0], [0, 0, 0, 0]],
            [[0, 255, 128, 0], [255, 0, 192, 128], [128] * 4],
            2,
        ),
        (
            "v:4:8:0..2",
            [[0, 0.25, 2, 1], [0.2499, 1.75, 1.7499, 0], [3, 3, -1, 1]],
            [[0, 1, 7, 4], [0, 7, 6, 0], [7, 7, 0, 4]],
            3,
        ),
        (
            "v:4:l2",
            [[3, 0, 0, 4], [-3e30, 0, 0, 4e30], [0, 1e-30, 0, 0]],
            [[147, 128, 128, 153], [108, 128, 128, 153], [128, 160, 128, 128]],
            0,
        ),
    ],
)
def test_real_numbers_become_codes_as_declared(
    tmp_path: Path, descriptor: str, rows: list[list[float]], codes: list[list[int]], clipped: int
) -> None:
    made, images = real_roles(tmp_path, descriptor)
    words = (images, "--features", npy(tmp_path / "f.npy", rows), "-o", tmp_path / "u.h5", *JOBS, "--json")
    report = done("owner", "encrypt", made / "north", *words).json
    found = envelopes(made, tmp_path / "u.h5").values()
    assert {each.path: each.feature.tolist() for each in found} == dict(zip(NAMES, codes, strict=True))
    assert report["counts"]["clipped"] == clipped
    assert bool(clipped) == any("outside the range" in warning for warning in report["warnings"])


@pytest.mark.parametrize(
    ("descriptor", "row", "words"),
    [
        (
            "v:4:-1..1",
            [0, np.nan, 0, 0],
            "row 1, of the image 'b.png', is not a feature of v: column 1 is nan",
        ),
        (
            "v:4:l2",
            [0, 0, -np.inf, 0],
            "row 1, of the image 'b.png', is not a feature of v: column 2 is -inf",
        ),
        ("v:4:l2", [0, 0, 0, 0], "row 1, of the image 'b.png', is not a feature of v: it is all zeros"),
    ],
)
def test_what_has_no_code_is_refused_with_its_place(
    tmp_path: Path, descriptor: str, row: list[float], words: str
) -> None:
    made, images = real_roles(tmp_path, descriptor)
    file = npy(tmp_path / "f.npy", np.array([[1.0] * 4, row, [1.0] * 4]))
    output = tmp_path / "u.h5"
    outcome = refused(2, "owner", "encrypt", made / "north", images, "--features", file, "-o", output, *JOBS)
    assert words in outcome.err


@pytest.mark.parametrize("kind", ["i1", "u2", "i8"])
def test_whole_numbers_are_not_taken_for_real_ones(tmp_path: Path, kind: str) -> None:
    made, images = real_roles(tmp_path, "v:4:l2")
    words = (images / "a.png", "--features", npy(tmp_path / "f.npy", np.array([[1, 2, 3, 4]], dtype=kind)))
    outcome = refused(2, "user", "query", made / "alice", *words, "-o", tmp_path / "q.h5")
    assert "contains integers" in outcome.err
    assert "save them as floats" in outcome.err


def test_bytes_are_codes_that_are_quantised_already(tmp_path: Path) -> None:
    made, images = real_roles(tmp_path, "v:4:200:l2")
    rows = np.array([[0, 1, 199, 7], [100] * 4, [0] * 4], dtype=np.uint8)
    words = ("--features", npy(tmp_path / "f.npy", rows), "-o", tmp_path / "u.h5", *JOBS)
    done("owner", "encrypt", made / "north", images, *words)
    found = envelopes(made, tmp_path / "u.h5").values()
    assert {each.path: each.feature.tolist() for each in found} == dict(
        zip(NAMES, rows.tolist(), strict=True)
    )
    bad = npy(tmp_path / "g.npy", rows + np.uint8(1))
    refused(2, "user", "query", made / "alice", images, "--features", bad, "-o", tmp_path / "q.h5")


def test_clipped_numbers_of_a_query_are_told(tmp_path: Path) -> None:
    made, images = real_roles(tmp_path, "v:4:0..1")
    words = ("--features", npy(tmp_path / "f.npy", [[0.5, 1.5, -2, 1]]), "-o", tmp_path / "q.h5", "--json")
    report = done("user", "query", made / "alice", images / "a.png", *words).json
    assert any("2 of 4 numbers in" in warning and "clipped" in warning for warning in report["warnings"])


@pytest.mark.parametrize("size", [512, 1024, 4096])
def test_hdf5_with_a_user_block_is_read(made: Deployment, tmp_path: Path, size: int) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w", userblock_size=size) as content:
        content.create_dataset("names", data=NAMES)
        content.create_dataset("features", data=np.array(ROWS, dtype=np.uint8))
    with file.open("r+b") as block:
        block.write(b"notes of our laboratory\n")
    done("user", "query", made / "alice", made / "images", "--features", file, "-o", tmp_path / "q.h5")


def test_rows_that_nobody_wrote_are_not_all_read(made: Deployment, tmp_path: Path) -> None:
    file = tmp_path / "features.h5"
    with h5py.File(file, "w") as content:
        content.create_dataset("features", (1 << 40, 4), "u1", chunks=(1, 4))
        content.create_dataset("names", (1 << 40,), h5py.string_dtype(), chunks=(1,))
    refuse(made, 2, f"has features of {1 << 40} images, but ", "--features", file)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    images = [ImageFile("", str(number)) for number in range(2000)]
    file = npy(tmp_path / "f.npy", np.ones((2000, 4096)))
    assert file.stat().st_size > 60 << 20
    tracemalloc.start()
    with own_features(file, images, Descriptor("large", 4096, 256, "l2")) as features:
        assert features is not None
        assert all((features.codes(image) == 144).all() for image in images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 << 20


def test_rows_go_to_images_in_the_order_of_their_names(made: Deployment, tmp_path: Path) -> None:
    given = [tmp_path / "z", tmp_path / "a", tmp_path / "single.png"]
    for number, name in enumerate(("z/b.png", "z/b/x.png", "z/b-c.png", "a/k.png", "a/B.png", "single.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number, size=(24, 24)).save(tmp_path / name)
    for number in range(12):
        picture(number, size=(24, 24)).save(tmp_path / "a" / f"{number}.png")
    order = ["b-c.png", "b.png", "b/x.png", *sorted(path.name for path in (tmp_path / "a").iterdir())]
    order.append("single.png")
    rows = [[number // 8, number % 8, 7, 0] for number in range(len(order))]
    words = ("-o", tmp_path / "u.h5", "--features", npy(tmp_path / "f.npy", rows), "--jobs", 2)
    done("owner", "encrypt", made / "north", *given, *words)
    found = envelopes(made, tmp_path / "u.h5").values()
    assert {each.path: each.feature.tolist() for each in found} == dict(zip(order, rows, strict=True))


def test_a_query_that_would_be_too_large_is_refused_at_once(tmp_path: Path) -> None:
    kmc = tmp_path / "kmc" / "kmc.pub"
    done("kmc", "init", tmp_path / "kmc", *SCHEMES["dcr"], "--descriptor", "wide:65535:2")
    done("user", "init", tmp_path / "user", "--id", "user", "--kmc", kmc)
    (tmp_path / "images").mkdir()
    for number in range(16):
        (tmp_path / "images" / f"{number}.png").touch()
    words = (tmp_path / "images", "-o", tmp_path / "q.h5", "--features", tmp_path / "missing.npy")
    outcome = refused(2, "user", "query", tmp_path / "user", *words)
    assert "16 query images would make a query of more than 512 MB" in outcome.err
    assert "at most 15 images" in outcome.err
