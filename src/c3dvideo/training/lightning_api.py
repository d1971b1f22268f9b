"""The parts of Lightning that training uses; imported in one place, so that a missing extra is named once."""

from c3dvideo.errors import MissingExtraError

try:
    import torchmetrics  # noqa: F401
    from lightning.fabric.utilities.warnings import PossibleUserWarning
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer
    from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
    from lightning.pytorch.loggers import TensorBoardLogger
    from lightning.pytorch.plugins.io import TorchCheckpointIO
    from lightning.pytorch.utilities import rank_zero_only
except ImportError as missing:
    raise MissingExtraError((missing.name or "lightning").split(".")[0], "train") from missing

__all__ = [
    "Callback",
    "EarlyStopping",
    "LightningDataModule",
    "LightningModule",
    "ModelCheckpoint",
    "PossibleUserWarning",
    "TensorBoardLogger",
    "TorchCheckpointIO",
    "Trainer",
    "rank_zero_only",
]
