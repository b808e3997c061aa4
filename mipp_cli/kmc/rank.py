"""`kmc rank` (scheme `exact`): ranks a query by Eq. 7 and selects the groups that the cloud must return."""

from __future__ import annotations

import hmac
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from mipp_cli.containers.base.container import read_header
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.base.source import FileSource
from mipp_cli.containers.messages.manifest import Manifest, SearchedOwner
from mipp_cli.containers.messages.public_files import load_party
from mipp_cli.containers.messages.query import QUERY_BYTES_LIMIT, Query, features_place, parse_query
from mipp_cli.containers.messages.searched import warnings_of
from mipp_cli.containers.messages.selection import GroupRef, write_selection
from mipp_cli.errors import (
    InvalidRequestError,
    MalformedError,
    MippError,
    NotAuthorisedError,
    ReplayedError,
    TamperedError,
    errors_at,
)
from mipp_cli.files.atomic import refuse_existing
from mipp_cli.files.locks import locked
from mipp_cli.kmc.kmc import Kmc, same_as
from mipp_cli.kmc.nearest import Collection, NearestMatches
from mipp_cli.kmc.ranking import (
    RANKINGS_FOLDER,
    RankedGroup,
    RankedMatch,
    Ranking,
    read_ranking,
    write_ranking,
)
from mipp_cli.kmc.users import authorising_owners, check_user, not_searched
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Output, Report
from mipp_cli.scheme.encoding import length_prefixed
from mipp_cli.scheme.protocol import Codes
from mipp_cli.scheme.secret_keys import derive_key

DEFAULT_LIMIT = 10 * 10**9
_NUMBER_BYTES = 16
_LEAST_ROOM = 16


def rank(
    path: Path,
    query_file: Path,
    output: Path,
    *,
    cloud: Path | None = None,
    limit: int = DEFAULT_LIMIT,
    force: bool = False,
    progress: Progress = silent,
) -> Report:
    """Rank a query over the owners who authorised its user, and write the `selection` ``output``.

    For each query image these are the nearest images by exact squared distance, as many as the query asks
    for; ties are broken by a hash of the row keyed with the query's id. The ranking is stored first: the same
    query selects the same groups again. ``cloud`` is the public file of the cloud that the selection is for,
    if several are enrolled. Beyond ``limit`` bytes the largest groups are left out. Raises NotAuthorisedError
    if no owner authorised the user, ReplayedError for different content under a known query id, or for
    another cloud.
    """
    refuse_existing(output, force=force)
    kmc = Kmc.open(path)
    kmc.directory.refuse_inside(output)
    deployment = kmc.directory.deployment
    protocol = deployment.parameters.protocol.check_kmc_ranks()
    chosen = _cloud_key(kmc, cloud)
    with errors_at(query_file):
        query = _read_query(kmc, query_file)
        protocol.check_matches(query.images * query.candidates)
        authorising = authorising_owners(kmc, query)
        number = _number(kmc, query.header)
        ranking = known = _known(kmc, number, query, chosen)
        if ranking is None:
            codes = _codes(kmc, query)
            found = Collection(kmc, authorising.owners).nearest(codes, query, progress)
            if not any(owner.images for owner in found.owners):
                raise InvalidRequestError(
                    f"no image of {', '.join(owner.name for owner in found.owners)} can be ranked",
                    hint="apply the owners' upload.features.h5 (mipp kmc index KMC FILE) and rank again; "
                    "mipp kmc check lists what is damaged, mipp kmc status the keys",
                )
            owners = (*found.owners, *(SearchedOwner(n, 0, unread=True) for n in sorted(authorising.unread)))
            made = _ranking(kmc, number, query, chosen, found._replace(owners=owners), limit)
            with locked(kmc.directory.folder(RANKINGS_FOLDER)):
                # another run of the same query may have stored its ranking first: use that
                ranking = _known(kmc, number, query, chosen)
                if ranking is None:
                    write_ranking(kmc.directory, ranking := made)
    write_selection(output, kmc.directory.sender, ranking.selection, force=force)
    return _report(kmc, ranking, authorising.damaged, output, again=known is not None)


def _cloud_key(kmc: Kmc, cloud: Path | None) -> bytes:
    """Return the key of the cloud that the selection is for."""
    if cloud is not None:
        key = load_party(cloud, "cloud", kmc.directory.deployment.fingerprint).key
        if not kmc.knows_cloud(key):
            raise NotAuthorisedError(
                "is not enrolled with this KMC", path=cloud, hint="enrol it: mipp kmc enroll KMC cloud.pub"
            )
        return key
    known = kmc.cloud_names()
    if not known:
        raise NotAuthorisedError(
            "no cloud is enrolled with this KMC", hint="enrol one: mipp kmc enroll KMC cloud.pub"
        )
    if len(known) > 1:
        raise InvalidRequestError(
            f"{len(known)} clouds are enrolled, but a selection is for one",
            hint="name it: --cloud cloud.pub",
        )
    return bytes.fromhex(known[0])


def _read_query(kmc: Kmc, file: Path) -> Query:
    """Return a verified query; the user is checked before memory is allocated for the query."""
    deployment = kmc.directory.deployment
    source = FileSource(file)
    try:
        header = read_header(source, kind="query", deployment=deployment.fingerprint)
        check_user(kmc, header)
        if source.size > QUERY_BYTES_LIMIT:
            raise MalformedError("is larger than any valid query")
        data = source.read_at(0, source.size)
    finally:
        source.close()
    return parse_query(data, deployment.parameters, deployment.fingerprint, same_as(header))


def _known(kmc: Kmc, number: str, query: Query, cloud: bytes) -> Ranking | None:
    """Return the stored ranking of a query; raises ReplayedError for another query or another cloud."""
    ranking = read_ranking(kmc.directory, number)
    if ranking is None:
        return None
    if not hmac.compare_digest(ranking.query_digest, query.digest.hex()):
        raise ReplayedError(
            "reuses the id of another query of this user", hint="ask the user to make a new query"
        )
    if not hmac.compare_digest(ranking.cloud, cloud):
        raise ReplayedError(
            "was ranked for another cloud before", hint="ask the user to make a new query for this cloud"
        )
    return ranking


def _number(kmc: Kmc, header: Header) -> str:
    """Return the number of a query's selection: 128 bits that only this KMC can tell from random.

    The same query always has the same number, so that a second run finds the stored ranking.
    """
    place = length_prefixed(header.sender, header.sender_key, header.number)
    return derive_key(kmc.directory.secret("signing"), "mipp/1 selection", place)[:_NUMBER_BYTES].hex()


def _codes(kmc: Kmc, query: Query) -> Codes:
    """Return the codes of the query images, shape (u, l)."""
    deployment = kmc.directory.deployment
    parameters = deployment.parameters
    usk = query.open_usk(kmc.sealing_keys)
    place = features_place(deployment.fingerprint, query.header.sender, query.query_id)
    protocol = parameters.protocol.check_kmc_ranks()
    try:
        codes = protocol.open_query(query.features[0], usk, place)
    except TamperedError:
        raise TamperedError(
            "contains features that its sealed key cannot decrypt", hint="ask the user for a new query"
        ) from None
    if codes.max() >= parameters.levels:
        raise MalformedError(f"contains a code that is not below {parameters.levels}")
    return codes


def _ranking(kmc: Kmc, number: str, query: Query, cloud: bytes, found: NearestMatches, limit: int) -> Ranking:
    """Return the ranking to store, without the largest groups if all exceed the limit."""
    size = {ref: length * rows for ref, (length, rows) in found.sizes.items()}
    kept, total = set(size), sum(size.values())
    for ref in sorted(size, key=lambda each: (-size[each], each)):
        if total <= limit:
            break
        total -= size[ref]
        kept.remove(ref)
    images = sorted({(each.ref, each.name) for each in found.matches if each.ref in kept})
    places = {image: place for place, image in enumerate(images)}
    matched: defaultdict[GroupRef, list[str]] = defaultdict(list)
    for ref, name in images:
        matched[ref].append(name.hex())
    groups = tuple(RankedGroup(ref, *found.sizes[ref], tuple(names)) for ref, names in matched.items())
    matches = tuple(
        RankedMatch(each.query, places[each.ref, each.name], each.distance)
        for each in found.matches
        if each.ref in kept
    )
    owners = (*found.owners, *not_searched(query, {owner.name for owner in found.owners}))
    names = {*kmc.owner_names(), *query.owners, *(owner.name for owner in owners)}
    # room for all owners: the size that the cloud sees must not reveal their number
    room = max(_LEAST_ROOM, 1 << (len(names) - 1).bit_length())
    return Ranking(
        number,
        query.digest.hex(),
        query.query_id,
        query.header.sender,
        query.header.sender_key,
        query.sealed_usk,
        query.header.sealing_info,
        cloud,
        groups,
        matches,
        owners,
        (query.images * query.candidates, room),
        len(size) - len(kept),
    )


def _report(
    kmc: Kmc, ranking: Ranking, damaged: Mapping[str, MippError], output: Path, *, again: bool
) -> Report:
    searched = [owner for owner in ranking.owners if owner.images is not None]
    counts = {
        "owners": len(searched),
        "images ranked": sum(owner.images or 0 for owner in searched),
        "images not ranked": sum(owner.unranked for owner in searched),
        "matches": len(ranking.matches),
        "groups": len(ranking.groups),
        "groups left out": ranking.left_out,
        "bytes to bring": sum(group.length * group.rows for group in ranking.groups),
    }
    warnings = list(kmc.directory.warnings)
    warnings += [
        f"{each.path} {each.message}: its owner was not searched; run mipp kmc check"
        for each in damaged.values()
    ]
    warnings += warnings_of(Manifest(ranking.query_digest, 0, ranking.owners, (), ranking.left_out))
    notes = [f"next, at the cloud: mipp cloud search CLOUD {output.name} -o results.h5"]
    if again:
        notes.insert(
            0, "this query was ranked before: the selection and these counts are those of the first ranking"
        )
    return Report((Output(output, "selection"),), counts, tuple(warnings), notes=tuple(notes))
