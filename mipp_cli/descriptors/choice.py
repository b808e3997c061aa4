"""Selects a descriptor by name, for commands that work without a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mipp_cli.descriptors.describer import FORMULAS, BuiltIn, Describer, check_device
from mipp_cli.descriptors.image_model import ImageModel, pin_model
from mipp_cli.errors import InvalidRequestError
from mipp_cli.scheme.descriptor import parse_descriptor

_MODEL: Final = "model:"


def chosen_describer(
    text: str,
    *,
    device: str = "cpu",
    output: str | None = None,
    pooling: str | None = None,
) -> Describer:
    """Return the describer for the name of a built-in descriptor or ``model:PATH``.

    ``output``, ``pooling`` and ``device`` apply to a model. Raises InvalidRequestError for any other text, or
    if they are given without a model, and what :func:`pin_model` raises.
    """
    if text in FORMULAS:
        if output is not None or pooling is not None:
            raise InvalidRequestError(
                f"--model-output and --model-pooling need an image model, not {text}", hint="leave them out"
            )
        check_device(device, is_model=False)
        return BuiltIn(parse_descriptor(text))
    path = text.removeprefix(_MODEL)
    if path in ("", text):
        raise InvalidRequestError(
            f"{text!r} is not a descriptor",
            hint=f"write {', '.join(FORMULAS)}, or model:PATH for an image model",
        )
    pinned = pin_model(Path(path), output=output, pooling=pooling)
    return ImageModel(Path(path), pinned, device=device)
