"""`kmc init`: creates a deployment: its scheme, descriptor and keys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mipp_cli.containers.messages.public_files import KMC_NAME, load_deployment, render_kmc
from mipp_cli.descriptors.image_model import pin_model
from mipp_cli.errors import InvalidRequestError
from mipp_cli.files.atomic import write_bytes
from mipp_cli.report import Output, Report
from mipp_cli.scheme.descriptor import Descriptor, parse_descriptor
from mipp_cli.scheme.keys import SealingKey, SigningKey
from mipp_cli.scheme.parameters import generate_parameters
from mipp_cli.workdir.directory import KMC_FILE, new_directory


def init_kmc(
    path: Path,
    *,
    scheme: str = "exact",
    descriptor: str | None = None,
    model: Path | None = None,
    model_output: str | None = None,
    model_pooling: str | None = None,
    modulus_bits: int | None = None,
    group_size: int | None = None,
    allow_insecure_modulus: bool = False,
) -> Report:
    """Create a KMC's directory and with it a deployment, with kmc.pub for all roles.

    The descriptor is the image ``model``, with its ``model_output`` pooled by ``model_pooling``; or
    ``descriptor``, in the syntax of :func:`parse_descriptor`; or else edge histograms. ``group_size`` is G,
    the number of images in a group of scheme `exact`.
    """
    parameters = generate_parameters(
        scheme,
        descriptor=_descriptor(descriptor, model, model_output, model_pooling),
        modulus_bits=modulus_bits,
        group_size=group_size,
        allow_insecure=allow_insecure_modulus,
    )
    signing, sealing = SigningKey.generate(), SealingKey.generate()
    with new_directory(path, "kmc", KMC_NAME) as directory:
        directory.write_secrets({"signing": signing.seed, "sealing": sealing.seeds})
        write_bytes(directory.file(KMC_FILE), render_kmc(parameters, sealing.public, signing))
    public = path / KMC_FILE
    shown = {str(public): load_deployment(public).fingerprint}
    notes = [f"features: {parameters.descriptor}"]
    if (pinned := parameters.descriptor.model) is not None:
        notes.append(f"model: {pinned.output} of the file with SHA-256 {pinned.sha256}")
        notes.append(
            "give owners and users a copy of the model: mipp owner init, mipp user init --model PATH"
        )
    warnings = replace(directory, path=path).warnings
    return Report((Output(public, "kmc.pub"),), {}, warnings, shown, notes=tuple(notes))


def _descriptor(
    text: str | None, model: Path | None, output: str | None, pooling: str | None
) -> Descriptor | None:
    if model is None:
        if output is not None or pooling is not None:
            raise InvalidRequestError(
                "--model-output and --model-pooling need --model", hint="name the model: --model PATH"
            )
        return None if text is None else parse_descriptor(text)
    if text is not None:
        raise InvalidRequestError(
            "--model and --descriptor cannot be combined",
            hint="leave out one of them: a model is a descriptor",
        )
    return pin_model(model, output=output, pooling=pooling)
