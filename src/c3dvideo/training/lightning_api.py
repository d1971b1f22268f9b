"""The parts of Lightning that training uses; imported in one place, so that a missing extra is named once."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from c3dvideo.errors import MissingExtraError
from c3dvideo.quiet import quiet

try:
    import torchmetrics  # noqa: F401
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.fabric.utilities.warnings import PossibleUserWarning
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer
    from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
    from lightning.pytorch.loggers import TensorBoardLogger
    from lightning.pytorch.plugins.io import TorchCheckpointIO
except ImportError as missing:
    raise MissingExtraError((missing.name or "lightning").split(".")[0], "train") from missing

__all__ = [
    "Callback",
    "EarlyStopping",
    "LightningDataModule",
    "LightningModule",
    "MisconfigurationException",
    "ModelCheckpoint",
    "PossibleUserWarning",
    "TensorBoardLogger",
    "TorchCheckpointIO",
    "Trainer",
    "quiet_lightning",
]


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice about workers and its lines about hardware off the terminal."""
    with quiet("lightning.pytorch", all_warnings=False):
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", "`isinstance", FutureWarning)  # of PyTorch about Lightning 2.6
        warnings.filterwarnings("ignore", "Checkpoint directory", UserWarning)  # a resumed run's own
        yield
