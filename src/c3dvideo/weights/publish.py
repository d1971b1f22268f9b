"""Publish a network: a folder that a model hub shows and `from_pretrained` reads, and its upload.

    publish(network, "to_publish", licence="apache-2.0", metrics={"UCF101, video@1": 0.82})      # writes the folder
    publish(network, "to_publish", repo="someone/c3d-ucf101")                                    # and uploads it

The folder holds `model.safetensors`, `config.json`, `README.md` (the model card) and, if there are names, `labels.txt`.
"""

from collections.abc import Mapping
from pathlib import Path

from c3dvideo.errors import UsageError, WeightsError
from c3dvideo.files import atomic_text
from c3dvideo.network.c3d import C3D
from c3dvideo.network.folder import EMBEDDED, fingerprint, load_folder, save_folder
from c3dvideo.network.model_card import model_card
from c3dvideo.weights.published import EMBEDDED_ENTRY, PUBLISHED

CARD, LABELS = "README.md", "labels.txt"


def publish(
    network: C3D,
    folder: str | Path,
    *,
    repo: str | None = None,
    licence: str | None = None,
    data: str | None = None,
    metrics: Mapping[str, float | str] | None = None,
    private: bool = False,
    token: str | None = None,
) -> str | None:
    """Write the folder and, with `repo`, upload it. Returns the address of the upload, None without one.

    repo: hub id "owner/name", made if it does not exist. licence, data, metrics: see `model_card`; by default those of
    the published weights that the network was imported from. token: of the hub; by default that of `hf auth login`.
    Raises WeightsError when the folder cannot be written or the hub refuses the upload.
    """
    folder = Path(folder)
    if repo is not None and (repo.count("/") != 1 or not all(repo.split("/"))):
        raise UsageError(f"`repo=` is {repo!r}; expected a hub id such as owner/name")
    known_licence, known_data = _known(network)
    card = model_card(
        network,
        name=repo or f"owner/{folder.resolve().name}",
        licence=licence or known_licence,
        data=data or known_data,
        metrics=metrics or measured(network),
    )
    save_folder(network, folder)
    for name, text in ((CARD, card), (LABELS, "".join(f"{each}\n" for each in network.classes))):
        if text:
            with atomic_text(folder / name, error=WeightsError) as file:
                file.write(text)
    return None if repo is None else upload(folder, repo, private=private, token=token)


def upload(folder: str | Path, repo: str, *, private: bool = False, token: str | None = None) -> str:
    """Put a published folder on the model hub, in one commit; returns its address there."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(token=token)
    try:
        name = api.create_repo(repo, private=private, exist_ok=True).repo_id
        done = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=["model.safetensors", "config.json", CARD, LABELS],
            commit_message="Publish C3D weights",
        )
    except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"{folder} could not be uploaded to {repo}: {reason}; log in with `hf auth login`. The "
            "folder is complete, so the upload can be repeated"
        ) from error
    return str(done.commit_url)


def measured(network: C3D) -> dict[str, float | str]:
    """The figures that a training run left in the provenance."""
    accuracy = network.provenance.get("val_video_accuracy")
    return {} if accuracy is None else {"validation videos, by which the epoch was chosen": float(accuracy)}


def _known(network: C3D) -> tuple[str | None, str | None]:
    """Licence and data of the published weights that these are, or None."""
    digest = network.provenance.get("file_sha256")
    for entry in PUBLISHED.values():
        if entry.hash is not None and entry.hash.kind == "sha256" and str(digest).startswith(entry.hash.digits):
            return entry.licence, entry.what
    is_embedded = fingerprint(network) == fingerprint(load_folder(C3D, EMBEDDED))
    return (EMBEDDED_ENTRY.licence, EMBEDDED_ENTRY.what) if is_embedded else (None, None)
