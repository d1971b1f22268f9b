"""One network being trained: what happens in a batch, an update and a validation.

learner = Learner(network, settings, clips)
fit(learner, out)                                   # see `lightning_trainer`
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from c3dvideo.errors import TrainingError
from c3dvideo.network.c3d import C3D
from c3dvideo.training.augment import Normalise, centre_batch, clip_generators, dropout_factors, send, train_batch
from c3dvideo.training.clip_loaders import Clips, add_probabilities, centre_crop, mean_probabilities
from c3dvideo.training.forward import fast_logits
from c3dvideo.training.frame_decoding import stored_size
from c3dvideo.training.lightning_api import LightningModule
from c3dvideo.training.losses import Loss, LossLog
from c3dvideo.training.optim import MovingAverage, learning_rate_factor, make_optimizer
from c3dvideo.training.run_folder import LAST
from c3dvideo.training.sampling import Ints, TrainingBatches, release_draws
from c3dvideo.training.settings import TrainSettings
from c3dvideo.training.shared_norm import share_batch_norms

UPDATES_PER_LOG = 10


class Learner(LightningModule):
    """A network, the settings it is trained with and the clips it is trained on."""

    def __init__(self, network: C3D, settings: TrainSettings, clips: Clips) -> None:
        super().__init__()
        self.network, self.settings, self.clips = network, settings, clips
        self.average = MovingAverage(network, decay=settings.ema).requires_grad_(False) if settings.ema else None
        self.normalise = Normalise.of(network.profile, network.mean_volume)
        self.crop = centre_crop(network.profile)
        self.class_weights = clips.class_weights(len(network.classes)) if settings.balance == "loss" else None
        self.history: list[dict[str, Any]] = []
        self.first_input: tuple[Tensor, list[str]] | None = None
        self.batches: TrainingBatches | None = None
        self._sums: dict[int, Tensor] = {}
        self.losses = LossLog()

    @property
    def evaluated(self) -> C3D:
        """The network that is validated and saved: the moving average where there is one."""
        return self.network if self.average is None else self.average.module  # type: ignore[return-value]

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        self.batches = self.clips.training_batches(rank=self.trainer.global_rank, world=self.trainer.world_size)
        # Loader processes read ahead as soon as they start, which is before Lightning sets the epoch of a resumed run.
        # A finished run that is resumed stands behind its last epoch.
        self.batches.set_epoch(min(self._next_epoch(), self.batches.n_epochs - 1))
        return self.clips.loader(self.batches)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        rank, world = self.trainer.global_rank, self.trainer.world_size
        return self.clips.evaluation("val", self.settings.validation_clips, rank=rank, world=world)

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.network, self.settings)
        batches = self.clips.training_batches(world=self.trainer.world_size)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor(self.settings, batches.n_updates))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def setup(self, stage: str) -> None:
        """Share the normalisations among processes, and take the memory layout that is fastest.

        It is twice as fast as the default on a CPU, and what tensor cores read.
        """
        if self.trainer.world_size > 1:
            share_batch_norms(self.network, self.trainer.strategy.root_device)
        if self.trainer.strategy.root_device.type in ("cpu", "cuda"):
            for network in {self.network, self.evaluated}:
                network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def on_fit_start(self) -> None:
        self.normalise = self.normalise.to(self.device)
        self.class_weights = None if self.class_weights is None else self.class_weights.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Let the last epoch of a run of so many `steps` be shorter: Lightning measures the length only once."""
        assert self.batches is not None
        self.trainer.fit_loop.max_batches = self.trainer.val_check_batch = len(self.batches)

    def training_step(self, batch: dict[str, Any], number: int) -> Tensor:
        assert self.batches is not None
        positions = range(*self.batches.share(number))  # not from the batch: reading it would wait for the device
        generators = clip_generators(seed=self.settings.seed, epoch=self.current_epoch, positions=positions)
        inputs, targets = train_batch(
            batch["pixels"],
            batch["target"],
            self.normalise,
            self.settings,
            n_classes=len(self.network.classes),
            crop=self.crop,
            generators=generators,
            draws=self._release_draws(number) if self.settings.crops == "release" else None,
            positions=positions,
        )
        if self.first_input is None:
            self.first_input = (inputs.detach(), [self.network.classes[label] for label in batch["target"].tolist()])
        loss = functional.cross_entropy(
            fast_logits(self.network, inputs, dropout=self._dropout(generators)),
            targets,
            weight=self.class_weights,
            label_smoothing=self.settings.label_smoothing,
        )
        loss = loss * self._weight(number, len(positions))
        # The mean over all processes, so that all of them stop for the same loss and record the same.
        mean = self.trainer.strategy.reduce(loss.detach(), reduce_op="mean")
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.losses.add(mean, update=self.global_step, learning_rate=rate)
        self._watch(self.losses.arrived(in_step=self.trainer.world_size > 1))
        return loss

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """One update of the weights, then of their moving average."""
        super().optimizer_step(*arguments, **options)
        if self.average is not None:
            self.average.update_parameters(self.network)

    def on_validation_start(self) -> None:
        """Read the last losses of the epoch: a network that is not finite is not validated."""
        self._watch(self.losses.rest())

    def validation_step(self, batch: dict[str, Any], number: int) -> None:
        add_probabilities(self._sums, self.evaluated, centre_batch(batch["pixels"], self.normalise, self.crop), batch)

    def on_validation_epoch_end(self) -> None:
        """Log accuracy and loss over the videos of all devices; a video's probabilities are the mean of its clips'."""
        rank, world = self.trainer.global_rank, self.trainer.world_size
        own = self.clips.evaluated_by("val", rank=rank, world=world)
        sums = {example: self._sums[example] for example in own}
        self._sums = {}
        totals = torch.zeros(3)
        if sums:
            probabilities, targets = mean_probabilities(sums, self.clips.targets)
            loss = functional.nll_loss(probabilities.clamp_min(1e-9).log(), targets, reduction="sum")
            right = (probabilities.argmax(1) == targets).sum()
            totals = torch.stack((right.float(), loss, torch.tensor(float(len(targets)))))
        totals = totals.to(self.device)
        totals = self.trainer.strategy.reduce(totals, reduce_op="sum")
        self.log("val_accuracy", totals[0] / totals[2])
        self.log("val_loss", totals[1] / totals[2])

    def _next_epoch(self) -> int:
        """The epoch that follows the last finished one; `current_epoch` of a resumed run is not yet set in `setup`."""
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        return int(progress.processed)

    def end_epoch(self) -> None:
        """Write the epoch that just ended into the history."""
        metrics, losses = self.trainer.callback_metrics, self.losses.values
        self.losses = LossLog()
        row = {
            "epoch": self.current_epoch,
            "updates": self.global_step,
            "learning_rate": self.trainer.optimizers[0].param_groups[0]["lr"],
            "train_loss": round(float(np.mean(losses)), 6),
            "val_loss": round(float(metrics["val_loss"]), 6),
            "val_accuracy": round(float(metrics["val_accuracy"]), 6),
        }
        self.history.append(row)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]
        state = checkpoint["state_dict"]
        if self.average is not None and "average.n_averaged" not in state:  # written before AveragedModel was used
            for name in [name for name in state if name.startswith("average.")]:
                state[f"average.module.{name.removeprefix('average.')}"] = state.pop(name)
            state["average.n_averaged"] = torch.tensor(checkpoint["global_step"])

    def _weight(self, number: int, n_clips: int) -> float:
        """Factor on the mean loss of this process's clips, so that all clips of the whole batch count alike."""
        assert self.batches is not None
        return n_clips * self.trainer.world_size / self.batches.n_clips(number)

    def _dropout(self, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
        """Dropout drawn per clip: masks of PyTorch's own would depend on which clips share a process."""
        probability = self.network.architecture["dropout"]
        layers = dict(self.network.named_layers())
        widths = {name: layer.weight.shape[0] for name, layer in layers.items() if name in ("fc6", "fc7")}
        factors = dropout_factors(widths, probability, generators) if probability else {}
        return {name: send(factor, self.device) for name, factor in factors.items()}

    def _release_draws(self, number: int) -> Ints:
        """The release's crops and mirrors of this process's clips in a batch, whose number counts on through epochs."""
        assert self.batches is not None
        height, width = (max(1, side - self.crop[0]) for side in stored_size(self.network.profile))
        draws = release_draws(
            self.settings.seed,
            self.current_epoch * self.batches.per_epoch + number,
            self.batches.n_clips(number),
            height_margin=height,
            width_margin=width,
        )
        draws[:, 2] *= self.settings.flip
        first, last = self.batches.share(number)
        before = number * self.settings.batch_size * self.trainer.world_size
        return draws[first - before : last - before]

    def _watch(self, losses: Iterable[Loss]) -> None:
        """Stop for a loss that is not finite; show every tenth in TensorBoard."""
        for loss in losses:
            if not math.isfinite(loss.value):
                self._stop_for(loss)
            if loss.update % UPDATES_PER_LOG == UPDATES_PER_LOG - 1 and self.logger is not None:
                shown = {"train_loss": loss.value, "learning_rate": loss.learning_rate}
                self.logger.log_metrics(shown, step=loss.update)

    def _stop_for(self, loss: Loss) -> None:
        # The rate that a user sets, not that of a group: the release's biases learn at twice that rate.
        rate = self.settings.learning_rate
        advice = [f"`learning_rate={rate / 3:.1g}` or less (now {rate:.3g})"]
        if not self.settings.clip_gradient:
            advice.append("`clip_gradient=5`")
        if self.settings.precision != "fp32":
            advice.append("`precision=fp32`")
        raise TrainingError(
            f"the loss is {loss.value} at update {loss.update} (epoch {self.current_epoch}); checkpoints/{LAST} keeps "
            f"the last finished epoch. Train again in another folder with {', or with '.join(advice)}"
        )
