"""The examples that end the help of each command."""

from __future__ import annotations

_EXAMPLES = {
    "kmc init": ("kmc init kmc", "kmc init kmc --model efficientnet --protect"),
    "kmc enroll": ("kmc enroll kmc enrolment.h5 cloud.pub",),
    "kmc index": ("kmc index kmc upload.features.h5", "kmc index kmc delete.h5"),
    "kmc rank": ("kmc rank kmc query.h5 -o selection.h5",),
    "kmc reencrypt": ("kmc reencrypt kmc results.h5 -o reencrypted.h5",),
    "kmc status": ("kmc status kmc", "kmc status kmc --json"),
    "kmc check": ("kmc check kmc",),
    "kmc remove": ("kmc remove kmc hospital-north",),
    "kmc rotate-key": ("kmc rotate-key kmc", "kmc rotate-key kmc --drop-former"),
    "kmc forget-key": ("kmc forget-key kmc",),
    "cloud init": ("cloud init cloud --kmc kmc.pub",),
    "cloud enroll": ("cloud enroll cloud members.h5",),
    "cloud check": ("cloud check cloud", "cloud check cloud --sums --jobs 4"),
    "cloud remove": ("cloud remove cloud hospital-north",),
    "cloud index": ("cloud index cloud upload.h5", "cloud index cloud --rebuild"),
    "cloud search": (
        "cloud search cloud selection.h5 -o results.h5",
        "cloud search cloud query.h5 -o results.h5   # scheme dcr, mask or paper",
    ),
    "user init": ("user init doctor --id dr-lee --kmc kmc.pub",),
    "user query": (
        "user query doctor fundus.jpg -o query.h5",
        "user query doctor images/ -o query.h5 --owner clinic-lake",
    ),
    "user decrypt": (
        "user decrypt doctor reencrypted.h5 -o matches",
        "user decrypt doctor reencrypted.h5 -o matches --top 50 --per-series 1",
    ),
    "user forget": ("user forget doctor query.h5", "user forget doctor --all"),
    "user update-kmc-key": ("user update-kmc-key doctor sealing.pub",),
    "owner init": (
        "owner init north --id hospital-north --kmc kmc.pub --authorize user.pub",
        "owner init north --id hospital-north --kmc kmc.pub --image-names path",
    ),
    "owner authorize": ("owner authorize north user.pub",),
    "owner revoke": ("owner revoke north dr-lee",),
    "owner encrypt": (
        "owner encrypt north images/ -o upload.h5",
        "owner encrypt north dicom/ -o upload.h5 --payload pixels --jobs 4",
    ),
    "owner list": ("owner list north --match 'brain/*'", "owner list north --deleted --csv"),
    "owner delete": (
        "owner delete north brain/scan-17.png -o delete.h5",
        "owner delete north --files-from - -o delete.h5   # paths on stdin",
    ),
    "owner features": ("owner features north -o features",),
    "owner rotate-key": ("owner rotate-key north",),
    "owner forget-key": ("owner forget-key north --applied 1764150894000000",),
    "owner renumber": ("owner renumber north", "owner renumber north --above 1764150894000000"),
    "owner update-kmc-key": ("owner update-kmc-key north sealing.pub",),
    "demo": ("demo holiday/ --query holiday/beach.jpg -o demo",),
    "features": ("features scan.png", "features images/*.png --descriptor colour-edge --csv"),
    "inspect": ("inspect upload.h5", "inspect cloud --csv"),
    "protect": ("protect north", "protect north --remove --passphrase-file passphrase.txt"),
    "experiment accuracy": (
        "experiment accuracy dataset/ -o accuracy",
        "experiment accuracy dataset/ --descriptor colour-edge --queries all",
    ),
    "experiment positions": ("experiment positions dataset/ --returned 50 -o positions",),
    "experiment descriptors": ("experiment descriptors dataset/ --descriptor colour-edge --queries all",),
    "experiment timing": ("experiment timing dataset/ --sizes 1000,5000 --repeats 3 -o timing",),
    "experiment storage": ("experiment storage dataset/ --scheme dcr,mask -o storage",),
    "experiment leakage": ("experiment leakage dataset/ --seed 1 -o leakage",),
    "experiment attack": ("experiment attack upload.h5 --kmc kmc.pub --images images/",),
    "experiment all": ("experiment all dataset/ -o report",),
}


def examples_of(command: str) -> str:
    """Return the examples of a command, such as ``kmc init``, as click shows them below its options."""
    lines = (f"  mipp {example}" for example in _EXAMPLES[command])
    return "\n".join(("\b", "Examples:", *lines))
