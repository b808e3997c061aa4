"""A descriptor chosen by name, for whoever looks at features or measures them without a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mipp_cli.descriptors.describer import FORMULAS, BuiltIn, Describer
from mipp_cli.descriptors.image_model import ImageModel, pin_model
from mipp_cli.errors import InvalidRequestError
from mipp_cli.scheme.descriptor import parse_descriptor

_MODEL: Final = "model:"


def chosen_describer(text: str, *, grey_bits: int = 16, device: str = "cpu") -> Describer:
    """Return what describes pictures: a built-in descriptor by its name, or ``model:PATH``.

    Raises InvalidRequestError for any other text, and what :func:`pin_model` raises.
    """
    if text in FORMULAS:
        return BuiltIn(parse_descriptor(text), grey_bits=grey_bits)
    path = text.removeprefix(_MODEL)
    if path in ("", text):
        raise InvalidRequestError(
            f"{text!r} is no descriptor",
            hint=f"write {', '.join(FORMULAS)}, or model:PATH for an image model",
        )
    return ImageModel(Path(path), pin_model(Path(path)), grey_bits=grey_bits, device=device)
