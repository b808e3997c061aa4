"""Results of scheme `exact` at the KMC: the images that it selected, matched by what it remembers."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace

from mipp_cli.containers.query import Query
from mipp_cli.containers.results import Match, ResultsReader
from mipp_cli.errors import MalformedError, NotAuthorisedError, TamperedError
from mipp_cli.roles.kmc import Kmc
from mipp_cli.roles.ranking import FeatureMac, Ranking, recorded_ranking
from mipp_cli.scheme.image_cipher import Envelope
from mipp_cli.scheme.parameters import Parameters


@dataclass(frozen=True)
class RankedFeatures:
    """What the images of an answer must have for features: a MAC of each, by the image's position.

    ``left_out`` is how many images were never ranked, because their features did not open.
    """

    mac: FeatureMac
    features: tuple[bytes, ...]
    left_out: int

    @classmethod
    def of(cls, ranking: Ranking, usk: bytes, query: Query, parameters: Parameters) -> RankedFeatures:
        """Return what a ranking demands of the answer."""
        features = tuple(image.feature for image in ranking.images)
        return cls(FeatureMac(usk, query.query_id, parameters), features, ranking.left_out)

    def check(self, number: int, plaintext: bytes) -> None:
        """Refuse an image that has another feature than the one that was ranked; raises TamperedError."""
        try:
            feature = Envelope.unpack(plaintext).feature
        except MalformedError:
            feature = None
        if feature is None or not hmac.compare_digest(self.mac.of(feature), self.features[number]):
            raise TamperedError(
                "an image has other features than those that it was selected by",
                hint="its owner made it so, or the cloud took another image of the same upload",
            )


def with_matches(kmc: Kmc, query: Query, reader: ResultsReader) -> tuple[ResultsReader, Ranking]:
    """Return results with the matches that the KMC remembers, and the ranking that they are of.

    Decoys are the images that match nothing. Raises NotAuthorisedError for a query that was not ranked,
    MalformedError for other images than those selected.
    """
    ranking = recorded_ranking(kmc.directory, query)
    if ranking is None:
        raise NotAuthorisedError(
            "answers a query that this KMC did not rank",
            hint="mipp kmc rank comes first, then mipp cloud collect",
        )
    selected = [(image.row.owner, image.row.chunk.upload, image.key_id) for image in ranking.images]
    if reader.matches or selected != [(ref.owner, ref.upload, ref.key_id) for ref in reader.images]:
        raise MalformedError(
            "does not hold the images that this KMC selected, in their order",
            hint="run mipp cloud collect again",
        )
    matches = [
        Match(number, position, 0.0)
        for position, image in enumerate(ranking.images)
        for number in image.matches
    ]
    return replace(reader, matches=matches), ranking
