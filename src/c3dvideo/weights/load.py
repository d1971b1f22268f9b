"""Load a network from a weights folder, a published name or a hub id.

network = load_weights("my_weights")       # a folder, a published name, a hub id "owner/name"; None is the default
"""

import re
from difflib import get_close_matches
from pathlib import Path

from c3dvideo.errors import UsageError, WeightsError
from c3dvideo.network.c3d import C3D
from c3dvideo.network.folder import CONFIG, EMBEDDED, load_folder, load_folder_or_hub
from c3dvideo.weights import published


def load_weights(name: str | Path | None = None) -> C3D:
    """The network of these weights, in evaluation mode.

    name: a weights folder, a name from `c3dvideo weights list` (downloaded once into the cache folder), a model hub
    id "owner/name", or "embedded" or None for the weights that the package ships.
    Raises WeightsError when they are damaged, DownloadError when they cannot be downloaded, UsageError for an
    unknown name.

    >>> network = load_weights()
    >>> network.layer_shape("fc6"), network.profile.name
    ((1024,), 'embedded')
    """
    folder = weights_folder(name)
    return load_folder_or_hub(C3D, str(name)) if folder is None else load_folder(C3D, folder)


def weights_folder(name: str | Path | None = None) -> Path | None:
    """The folder that holds the weights of this name, downloaded first where necessary; None for a hub id.

    name: as in `load_weights`, with the same errors.
    """
    if name is None or str(name) == "embedded":
        if not (EMBEDDED / CONFIG).is_file():
            raise WeightsError(
                "this installation ships no default weights; give a folder made by `c3dvideo weights import` or "
                "`c3dvideo train`, or a name from `c3dvideo weights list`"
            )
        return EMBEDDED
    path = Path(name)
    if path.is_dir():
        return path
    if path.is_file():
        raise UsageError(
            f"{name} is a file; turn it into a weights folder with `c3dvideo weights import {name} --out DIR`"
        )
    if str(name) in published.PUBLISHED:
        return published.fetch(str(name))
    if isinstance(name, str) and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        return None
    known = [entry.name for entry in published.PUBLISHED.values() if entry.fetchable and entry.is_network]
    near = get_close_matches(str(name), [*known, "embedded"], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UsageError(
        f"weights {str(name)!r} are neither a folder, nor a hub id (owner/name), nor one of "
        f"{', '.join(known)}, embedded{hint}"
    )
