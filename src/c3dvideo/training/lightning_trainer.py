"""Run Lightning on a learner: checkpoints, early stopping, precision, and errors that say what to do.

if fit(learner, out, resume=False):               # True on the one process that writes the results
    ...
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from c3dvideo.errors import TrainingError, WeightsError
from c3dvideo.training.arithmetic import takes_gpu
from c3dvideo.training.learner import Learner
from c3dvideo.training.lightning_api import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    TensorBoardLogger,
    Trainer,
    quiet_lightning,
)
from c3dvideo.training.run_folder import LAST, check_state
from c3dvideo.training.settings import TrainSettings
from c3dvideo.training.training_callbacks import RunLog, WholeCheckpoints

BEST = "best.ckpt"
PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def fit(
    learner: Learner,
    out: Path,
    *,
    resume: bool = False,
    note: Callable[[str], None] | None = None,
    accelerator: str = "auto",
    devices: int | str = "auto",
    n_nodes: int = 1,
    strategy: str = "auto",
) -> bool:
    """Train; returns whether this process is the one that writes the results.

    `out/checkpoints` gets the last epoch and the best one by validation accuracy; see `train` for the arguments. Raises
    TrainingError when the loss is not finite, the memory does not suffice or the checkpoint to resume is damaged,
    WeightsError for a foreign checkpoint.
    """
    settings, last = learner.settings, out / "checkpoints" / LAST
    if resume:
        check_state(last)
    with quiet_lightning():
        trainer = Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=n_nodes,
            strategy=strategy,
            precision=PRECISIONS[settings.precision],
            max_epochs=1,  # set below, when the number of processes is known
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.clip_gradient or None,
            callbacks=_callbacks(out, settings, note),
            logger=TensorBoardLogger(out, name="tensorboard", version=""),
            log_every_n_steps=10,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            # All batches have one shape, so that cuDNN's trial of its algorithms pays on a GPU.
            benchmark=takes_gpu(accelerator) or None,
            enable_progress_bar=False,
            enable_model_summary=False,
            plugins=[WholeCheckpoints()],
        )
        learner.clips.check_enough_for(trainer.world_size)
        trainer.fit_loop.max_epochs = learner.clips.training_batches(world=trainer.world_size).n_epochs
        try:
            trainer.fit(learner, ckpt_path=last if resume else None, weights_only=True)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            _explain(error, settings)
            raise
        except SystemExit as stopped:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from stopped
    return bool(trainer.is_global_zero)


def _callbacks(out: Path, settings: TrainSettings, note: Callable[[str], None] | None) -> list[Callback]:
    checkpoints: dict[str, Any] = {
        "dirpath": out / "checkpoints",
        "enable_version_counter": False,
        "save_on_train_epoch_end": True,
    }
    callbacks: list[Callback] = [
        RunLog(out, note),
        ModelCheckpoint(**checkpoints, filename="best", monitor="val_accuracy", mode="max", save_weights_only=True),
        ModelCheckpoint(**checkpoints, filename="last"),
    ]
    if settings.patience:
        callbacks.append(EarlyStopping("val_accuracy", mode="max", patience=settings.patience))
    return callbacks


def _explain(error: RuntimeError, settings: TrainSettings) -> None:
    """Raise an error that says what to do, for the errors of PyTorch that have a known cause."""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text or "out of memory" in text:
        half = max(1, settings.batch_size // 2)
        raise TrainingError(
            f"a batch of {settings.batch_size} clips does not fit in memory; try `batch_size={half}` with "
            f"`accumulate={settings.accumulate * 2}`, which makes updates of as many clips, or `precision=bf16`, or "
            "a smaller `width=`"
        ) from error
    if "loading state_dict" in text:
        first = text.strip().splitlines()[1].strip() if len(text.splitlines()) > 1 else text
        raise WeightsError(
            f"checkpoints/{LAST} belongs to another architecture ({first}); resume the run that made it"
        ) from error
