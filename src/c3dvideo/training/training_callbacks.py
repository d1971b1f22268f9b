"""What a training run reports while it runs: progress, log.csv, the picture of its first input, whole checkpoints."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from c3dvideo.datasets.lists import write_table
from c3dvideo.progress import Bar, progress
from c3dvideo.training.lightning_api import Callback, TorchCheckpointIO
from c3dvideo.training.run_folder import LAST, check_not_deleted, save_state
from c3dvideo.training.training_report import draw_input


class RunLog(Callback):
    """A progress bar on a terminal; log.csv; the picture of the first input; one line per epoch to `note`."""

    def __init__(self, out: Path, note: Callable[[str], None] | None = None) -> None:
        self.out, self.note = out, note
        self.stack = ExitStack()
        self.bar: Bar | None = None

    def on_train_start(self, trainer: Any, learner: Any) -> None:
        if trainer.ckpt_path is None:  # so that even a run that fails in its first epoch can be resumed
            trainer.save_checkpoint(self.out / "checkpoints" / LAST)
        if trainer.is_global_zero:
            total = learner.batches.total
            self.bar = self.stack.enter_context(progress("training", total=total, unit="batches"))
            self.bar.skip(learner.current_epoch * learner.batches.per_epoch)

    def on_train_batch_end(self, trainer: Any, learner: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        picture = self.out / "input_batch.png"
        if trainer.is_global_zero and batch_idx == 0 and not picture.exists():
            inputs, names = learner.first_input
            draw_input(picture, inputs, names, channel_order=learner.network.profile.channel_order)
        if self.bar is not None:
            self.bar.advance()

    def on_train_epoch_end(self, trainer: Any, learner: Any) -> None:
        learner.end_epoch()
        if not trainer.is_global_zero:
            return
        last = learner.history[-1]
        write_table(self.out / "log.csv", list(last), learner.history)
        epoch = f"epoch {last['epoch'] + 1}/{trainer.max_epochs}"
        if self.bar is not None and self.bar.drawn:
            self.bar.note(f"{epoch}, validation {last['val_accuracy']:.1%}")
        elif self.note is not None:
            self.note(
                f"{epoch}: {last['updates']} updates, training loss {last['train_loss']:.3f}, validation loss "
                f"{last['val_loss']:.3f}, validation accuracy {last['val_accuracy']:.1%}"
            )

    def teardown(self, trainer: Any, learner: Any, stage: str) -> None:
        self.stack.close()


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that appear complete or not at all, so that a kill while one is written costs nothing.

    Lightning's own writer holds the whole checkpoint in memory and leaves a temporary file behind on a full disk.
    """

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        check_not_deleted(Path(path).parents[1])
        save_state(checkpoint, Path(path))
