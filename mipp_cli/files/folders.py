"""Look into folders: what may not be looked at is an error, and never taken for missing or empty.

``Path.glob`` takes a folder that cannot be listed for an empty one. From Python 3.14 on, ``Path.exists``
takes a file that cannot be reached for a missing one.
"""

from __future__ import annotations

import os
from pathlib import Path

from mipp_cli.errors import OutputError
from mipp_cli.files.system_errors import hint_of


def is_there(path: Path) -> bool:
    """Return whether there is a file or folder; raises OSError if this cannot be said."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


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
