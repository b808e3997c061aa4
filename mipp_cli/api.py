"""The interface for other programs: the steps of the roles, readers of pictures, and descriptors.

The names in ``__all__`` and the errors in :mod:`mipp_cli.errors` change only with a minor version (0.2 to
0.3), and the changelog says so. Everything else in the package may change at any time. `docs/python.md`
describes each name.
"""

from mipp_cli.cloud.check import check_cloud
from mipp_cli.cloud.cloud import enroll_at_cloud, init_cloud
from mipp_cli.cloud.index import index_containers
from mipp_cli.cloud.rebuild import rebuild_index
from mipp_cli.cloud.remove import remove_from_cloud
from mipp_cli.cloud.search import search
from mipp_cli.compute.processes import Parallelism
from mipp_cli.descriptors.choice import chosen_describer
from mipp_cli.descriptors.colour_edge import colour_edge
from mipp_cli.descriptors.describe import describe_images
from mipp_cli.descriptors.describer import Describer, codes_of
from mipp_cli.descriptors.edge_histogram import edge_histogram
from mipp_cli.errors import MippError, Problem
from mipp_cli.images.collection import ImageFile, collect_examples, collect_images
from mipp_cli.images.pictures import Picture, open_picture
from mipp_cli.inspection.directories import inspect_path
from mipp_cli.inspection.files import Inspection
from mipp_cli.kmc.check import check_kmc
from mipp_cli.kmc.enroll import enroll_at_kmc
from mipp_cli.kmc.index import index_at_kmc
from mipp_cli.kmc.init import init_kmc
from mipp_cli.kmc.rank import rank
from mipp_cli.kmc.reencrypt import reencrypt
from mipp_cli.kmc.remove import remove_from_kmc
from mipp_cli.kmc.rotate import forget_sealing_keys, rotate_sealing_key
from mipp_cli.kmc.status import kmc_status
from mipp_cli.owner.authorize import authorize_users, revoke_users
from mipp_cli.owner.delete import delete_images
from mipp_cli.owner.encrypt import encrypt_images
from mipp_cli.owner.features import hand_out_features
from mipp_cli.owner.init import init_owner
from mipp_cli.owner.keys import forget_keys as forget_image_keys
from mipp_cli.owner.keys import rotate_key as rotate_image_key
from mipp_cli.owner.keys import update_kmc_key as update_kmc_key_of_owner
from mipp_cli.owner.listing import ListedImage, ListFilter, Listing
from mipp_cli.owner.listing import listing_of as list_images
from mipp_cli.owner.preview import preview as preview_upload
from mipp_cli.owner.renumber import renumber as renumber_owner
from mipp_cli.owner.whats_new import EncryptOptions
from mipp_cli.progress import Progress
from mipp_cli.report import Output, Report
from mipp_cli.user.decrypt import decrypt_answer
from mipp_cli.user.forget import forget_queries
from mipp_cli.user.matches import WrittenMatch
from mipp_cli.user.user import init_user, make_query
from mipp_cli.user.user import update_kmc_key as update_kmc_key_of_user
from mipp_cli.workdir.protect import protect_directory
from mipp_cli.workdir.secrets_file import Passphrases, passphrases_from

__all__ = [
    "Describer",
    "EncryptOptions",
    "ImageFile",
    "Inspection",
    "ListFilter",
    "ListedImage",
    "Listing",
    "MippError",
    "Output",
    "Parallelism",
    "Passphrases",
    "Picture",
    "Problem",
    "Progress",
    "Report",
    "WrittenMatch",
    "authorize_users",
    "check_cloud",
    "check_kmc",
    "chosen_describer",
    "codes_of",
    "collect_examples",
    "collect_images",
    "colour_edge",
    "decrypt_answer",
    "delete_images",
    "describe_images",
    "edge_histogram",
    "encrypt_images",
    "enroll_at_cloud",
    "enroll_at_kmc",
    "forget_image_keys",
    "forget_queries",
    "forget_sealing_keys",
    "hand_out_features",
    "index_at_kmc",
    "index_containers",
    "init_cloud",
    "init_kmc",
    "init_owner",
    "init_user",
    "inspect_path",
    "kmc_status",
    "list_images",
    "make_query",
    "open_picture",
    "passphrases_from",
    "preview_upload",
    "protect_directory",
    "rank",
    "rebuild_index",
    "reencrypt",
    "remove_from_cloud",
    "remove_from_kmc",
    "renumber_owner",
    "revoke_users",
    "rotate_image_key",
    "rotate_sealing_key",
    "search",
    "update_kmc_key_of_owner",
    "update_kmc_key_of_user",
]
