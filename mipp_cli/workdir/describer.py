"""What a role describes pictures with: the deployment's formula, or the role's own copy of its model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mipp_cli.descriptors.describer import BuiltIn, Describer, check_device
from mipp_cli.descriptors.external import OwnFeatures
from mipp_cli.descriptors.image_model import ImageModel
from mipp_cli.errors import InvalidRequestError
from mipp_cli.log import timed
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.workdir.directory import RoleDirectory

MODEL_FILE = "model.json"


def remember_model(directory: RoleDirectory, parameters: Parameters, model: Path | None) -> None:
    """Keep in a role's directory where its copy of the deployment's model is, once it was found to be that.

    Raises InvalidRequestError if the deployment has a model and ``model`` is None, or the other way round,
    and what :class:`ImageModel` raises for one that is not the deployment's.
    """
    if parameters.descriptor.model is None:
        if model is not None:
            raise InvalidRequestError(
                f"features of this deployment are no model's, but {parameters.descriptor.name}",
                hint="leave out --model",
            )
        return
    if model is None:
        raise InvalidRequestError(
            "features of this deployment are those of an image model",
            hint="name your copy of it: --model PATH; ask the KMC which model it is",
        )
    ImageModel(model, parameters.descriptor).check()
    _remember(directory, model)


@timed("making ready what describes images")
def describer_of(
    directory: RoleDirectory,
    features: OwnFeatures | None,
    model: Path | None,
    device: str = "cpu",
    *,
    remember: bool = True,
) -> Describer:
    """Return what describes pictures for a role, checked; where it brings ``features``, what passes them on.

    ``model`` is where the role's copy of the model is now, and remembered unless told not to. Raises what
    :func:`remember_model` raises.
    """
    parameters = directory.deployment.parameters
    descriptor = parameters.descriptor
    if features is not None or descriptor.model is None:
        if model is not None and (remember or descriptor.model is None):
            remember_model(directory, parameters, model)
        check_device(device, is_model=False)
        return BuiltIn(descriptor)
    path = model or directory.load(MODEL_FILE, _model_of, "name the model again with --model PATH")
    if model is None and not path.exists():
        raise InvalidRequestError(
            "is where this role's copy of the model was, and it is not there",
            path=path,
            hint="name it where it is now: --model PATH",
        )
    made = ImageModel(path, descriptor, device=device)
    made.check()
    if model is not None and remember:
        _remember(directory, model)
    return made


def _remember(directory: RoleDirectory, model: Path) -> None:
    # by its bytes: the next command may run in another locale
    path = os.fsencode(model.absolute()).decode(errors="surrogateescape")
    directory.write_json(MODEL_FILE, {"path": path})


def _model_of(fields: dict[str, Any]) -> Path:
    return Path(os.fsdecode(fields["path"].encode(errors="surrogateescape")))
