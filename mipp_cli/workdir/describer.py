"""Choose what describes a role's pictures: the built-in descriptor, or the role's own copy of the model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mipp_cli.descriptors.describer import BuiltIn, Describer, check_device
from mipp_cli.descriptors.external import OwnFeatures
from mipp_cli.descriptors.image_model import ImageModel
from mipp_cli.errors import InvalidRequestError
from mipp_cli.files.folders import is_there
from mipp_cli.log import timed
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.workdir.directory import RoleDirectory

MODEL_FILE = "model.json"


def remember_model(directory: RoleDirectory, parameters: Parameters, model: Path | None) -> None:
    """Check a role's copy of the deployment's model, and keep its path in the role's directory.

    Raises InvalidRequestError if the deployment has a model and ``model`` is None, or the other way round,
    and what :class:`ImageModel` raises for a different model.
    """
    if parameters.descriptor.model is None:
        if model is not None:
            raise InvalidRequestError(
                f"this deployment uses no image model, but the descriptor {parameters.descriptor.name}",
                hint="leave out --model",
            )
        return
    if model is None:
        raise InvalidRequestError(
            "this deployment uses an image model",
            hint="give your copy of it: --model PATH; ask the KMC which model it is",
        )
    ImageModel(model, parameters.descriptor).check()
    _remember(directory, model)


@timed("preparing the descriptor")
def describer_of(
    directory: RoleDirectory,
    features: OwnFeatures | None,
    model: Path | None,
    device: str = "cpu",
    *,
    remember: bool = True,
) -> Describer:
    """Return a role's describer, checked; with its own ``features``, one that passes them through.

    ``model`` is the new path of the role's copy of the model, kept if ``remember``. Raises what
    :func:`remember_model` raises.
    """
    parameters = directory.deployment.parameters
    descriptor = parameters.descriptor
    if features is not None or descriptor.model is None:
        if model is not None and (remember or descriptor.model is None):
            remember_model(directory, parameters, model)
        check_device(device, is_model=False)
        return BuiltIn(descriptor)
    path = model or directory.load(MODEL_FILE, _model_of, "give the model again: --model PATH")
    if model is None and not is_there(path):
        raise InvalidRequestError(
            "no longer exists; it was this role's copy of the model",
            path=path,
            hint="give its new path: --model PATH",
        )
    made = ImageModel(path, descriptor, device=device)
    made.check()
    if model is not None and remember:
        _remember(directory, model)
    return made


def _remember(directory: RoleDirectory, model: Path) -> None:
    # kept byte for byte: the next command may run in another locale
    path = os.fsencode(model.absolute()).decode(errors="surrogateescape")
    directory.write_json(MODEL_FILE, {"path": path})


def _model_of(fields: dict[str, Any]) -> Path:
    return Path(os.fsdecode(fields["path"].encode(errors="surrogateescape")))
