"""List folders: one that cannot be listed is an error, which ``Path.glob`` would take for an empty one."""

from __future__ import annotations

import os
from pathlib import Path

from mipp_cli.errors import OutputError
from mipp_cli.files.system_errors import hint_of


def paths_in(folder: Path, ending: str = "") -> list[Path]:
    """Return what is in a folder and has this ``ending``, sorted by name; nothing if the folder is missing.

    Raises OutputError if the folder cannot be listed.
    """
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(
            f"cannot be listed: {os.strerror(error.errno or 0)}",
            path=folder,
            hint=hint_of(error, "check its permissions, then run the command again"),
        ) from error
    return [path for path in paths if path.name.endswith(ending)]
