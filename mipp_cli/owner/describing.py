"""The first pass of `owner encrypt`: describe the images, and handle those that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

from mipp_cli.compute.processes import Parallelism, open_workers
from mipp_cli.descriptors.describer import Describer
from mipp_cli.descriptors.external import OwnFeatures
from mipp_cli.errors import (
    InvalidRequestError,
    NoPictureError,
    Problem,
    UnreadableImageError,
    UnreadableImagesError,
)
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.kinds import DICOM
from mipp_cli.log import timed
from mipp_cli.owner.describe_batch import ReadImage, WantedImage, describe_and_encrypt
from mipp_cli.owner.described_image import DescribedImage
from mipp_cli.owner.descriptions import Descriptions, Rehearsal
from mipp_cli.owner.grouping import Grouping
from mipp_cli.owner.owner import Owner
from mipp_cli.owner.whats_new import Choice, EncryptOptions
from mipp_cli.progress import Progress
from mipp_cli.scheme.protocol import ExactProtocol, FeatureProtocol

_BATCH_IMAGES = 8
_BATCH_BYTES = 1 << 24


@dataclass(frozen=True)
class FirstPass:
    """The first pass of a run.

    Features are taken from ``features`` if the owner supplied them, and otherwise computed by ``describer``.
    ``unreadable`` collects the images that were skipped, ``passed_over`` the files that hold no picture.
    """

    owner: Owner
    images: Mapping[str, ImageFile]
    options: EncryptOptions
    features: OwnFeatures | None
    describer: Describer
    choice: Choice
    work: Descriptions | Rehearsal
    unreadable: list[UnreadableImageError] = field(default_factory=list)
    passed_over: list[Problem] = field(default_factory=list)

    @timed("describing the images and encrypting their features")
    def describe(self, parallelism: Parallelism, progress: Progress) -> Grouping:
        """Describe the images to send, except those already described, and then their group mates.

        Raises TooFewImagesError if a new group would be too small: before the work, unless that depends on
        which images turn out to be unreadable.
        """
        choice, work, options = self.choice, self.work, self.options
        grouping = self.grouping({image.name for image in choice.sent})
        # a DICOM file may turn out to hold no picture, such as a report
        certain = DICOM not in choice.kinds
        if not options.small and not options.skip_unreadable and certain:
            grouping.check_size({*grouping.sent, *grouping.mates(self.images.keys())})
        self._describe(choice.sent, parallelism, progress)
        if not work.done and self.unreadable and not choice.left_out:
            raise InvalidRequestError(
                "none of the images can be read",
                path=self.unreadable[0].path,
                hint=f"the first: {self.unreadable[0].message}",
            )
        if not work.done:
            work.remove()  # nothing to resume
            if self.passed_over and not choice.left_out:
                raise InvalidRequestError(
                    "none of the files holds a picture",
                    path=self.passed_over[0].path,
                    hint=f"the first: {self.passed_over[0].message}",
                )
            raise choice.nothing_to_send()
        if self.unreadable or self.passed_over:
            grouping = self.grouping(set(work.done))
        mates = grouping.mates(self._readable())
        self._describe([self.images[path] for path in mates], parallelism, progress)
        for path in set(mates).difference(grouping.mates(self._readable())) & work.done.keys():
            work.put_back(path)  # another mate cannot be read, so this group stays as it is
        if not options.small:
            grouping.check_size(work.done.keys())
        return grouping

    def grouping(self, sent: set[str]) -> Grouping:
        """Return the grouping of a run that is to send the images ``sent``."""
        group_size = self.owner.directory.deployment.parameters.protocol.group_size
        return Grouping(self.owner.ledger, self.choice.groups(), sent, group_size)

    @property
    def problems(self) -> list[Problem]:
        """Each file that was skipped, and why."""
        return [Problem(str(each.path), each.message) for each in self.unreadable]

    def _readable(self) -> set[str]:
        """Return the names of all images except those known to be unreadable."""
        unreadable = {str(each.path) for each in self.unreadable}
        unreadable |= {each.path for each in self.passed_over}
        if not unreadable:  # a Path per image would stay in memory, since its parts are interned
            return set(self.images)
        return {name for name, image in self.images.items() if str(image.path) not in unreadable}

    def _describe(self, images: Sequence[ImageFile], parallelism: Parallelism, progress: Progress) -> None:
        """Describe images that an interrupted run has not described; refuse or skip unreadable ones."""
        if not images:
            return
        with progress("describing", len(images), "image") as advance:
            todo = [image for image in images if not self.work.keep(image)]
            advance(len(images) - len(todo))
            for result in self._described(todo, parallelism) if todo else ():
                if isinstance(result, NoPictureError):
                    self.passed_over.append(Problem(str(result.path), result.message))
                elif isinstance(result, UnreadableImageError):
                    self.unreadable.append(result)
                else:
                    self.work.append(result)
                advance(1)
        if self.unreadable and not self.options.skip_unreadable:
            if len(self.unreadable) == 1:
                raise self.unreadable[0]
            hint = "repair or replace them, or leave them out with --skip-unreadable"
            raise UnreadableImagesError(self.problems, hint=hint)

    def _described(
        self, images: Sequence[ImageFile], parallelism: Parallelism
    ) -> Iterator[DescribedImage | UnreadableImageError]:
        """Yield the result of each image, in order."""
        # a picture takes 1 to 120 ms, so a batch is done before another process has started
        parallelism = parallelism.at_most(len(images) // _BATCH_IMAGES)
        describer = self.describer.travelling() if parallelism.scheduler else self.describer
        if describer.in_threads:
            parallelism = replace(parallelism, threads=True)
        parameters, pixels = self.owner.directory.deployment.parameters, self.options.pixels
        protocol: FeatureProtocol = parameters.protocol
        if isinstance(self.work, Rehearsal):  # nothing is kept, so no feature need be encrypted
            protocol = ExactProtocol(parameters.l, protocol.group_size)
        protocol = protocol.prepared(-(-len(images) // parallelism.count))  # a worker's part
        describe = partial(describe_and_encrypt, protocol=protocol, describer=describer, pixels=pixels)
        # workers on this machine read the files themselves; those of a cluster may not have them
        in_batches = read_in_batches if parallelism.scheduler else files_in_batches
        with open_workers(describe, parallelism) as workers:
            batches = in_batches(images, self.features)
            for _, results in workers.in_order(batches, under_way=2 * workers.count):
                yield from results


def files_in_batches(
    images: Iterable[ImageFile], features: OwnFeatures | None
) -> Iterator[list[WantedImage]]:
    """Yield images in small batches, for workers that read the files themselves."""
    wanted = _wanted(images, features)
    while batch := list(islice(wanted, _BATCH_IMAGES)):
        yield batch


def read_in_batches(images: Iterable[ImageFile], features: OwnFeatures | None) -> Iterator[list[ReadImage]]:
    """Read images and yield them in batches of limited count and size, for workers on other machines."""
    batch: list[ReadImage] = []
    size = 0
    for wanted in _wanted(images, features):
        batch.append(wanted.read())
        size += len(batch[-1].content) if isinstance(batch[-1].content, bytes) else 0
        if len(batch) >= _BATCH_IMAGES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _wanted(images: Iterable[ImageFile], features: OwnFeatures | None) -> Iterator[WantedImage]:
    return (WantedImage(each, None if features is None else features.codes(each)) for each in images)
