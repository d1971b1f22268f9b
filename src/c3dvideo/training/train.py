"""Train C3D from scratch or from other weights, on whatever Lightning runs on.

    result = train("my_videos", "runs/first", width=0.25, epochs=60)
    result = train("my_videos", "runs/tuned", init="sports1m")
    result = train("my_videos", "runs/1", preset="release")           # the authors' SGD and sampling, to the letter

A run's folder holds `weights/` (best by validation accuracy), `metrics.json`, confusion matrices and a table a class,
`input_batch.png`, `log.csv`, `tensorboard/`, `recipe.json` and `checkpoints/`. Every random number is a function of the
seed, the epoch and the batch, so that a run resumed from its last finished epoch equals one that never stopped.
"""

import copy
import csv
import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from c3dvideo import __version__
from c3dvideo.datasets.examples import Dataset
from c3dvideo.datasets.read import read_dataset
from c3dvideo.datasets.splits import check_for_training, with_validation
from c3dvideo.errors import MissingExtraError, TrainingError, WeightsError
from c3dvideo.extras import require_extra
from c3dvideo.machine import n_cores
from c3dvideo.network.c3d import C3D
from c3dvideo.network.folder import save_folder
from c3dvideo.progress import Bar, progress
from c3dvideo.training.arithmetic import Precision, choose_precision, keep_freed_memory
from c3dvideo.training.augment import Normalise, centre_batch, train_batch
from c3dvideo.training.clip_loaders import Clips, add_probabilities, centre_crop, judge, mean_probabilities
from c3dvideo.training.folding import folded, with_batch_norm
from c3dvideo.training.forward import fast_logits
from c3dvideo.training.frames import load_frames, stored_size
from c3dvideo.training.initial import initial_network, set_input
from c3dvideo.training.optim import learning_rate_factor, make_optimizer, move_average
from c3dvideo.training.sampling import Ints, release_draws
from c3dvideo.training.settings import LAST, Recipe, make_recipe, open_run, stored_recipe
from c3dvideo.training.training_report import draw_input, write_report
from c3dvideo.weights.load import load_weights

try:
    import lightning.pytorch as lightning
    from lightning.fabric.utilities.warnings import PossibleUserWarning
    from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
    from lightning.pytorch.loggers import TensorBoardLogger
    from lightning.pytorch.plugins.io import TorchCheckpointIO
    from lightning.pytorch.utilities import rank_zero_only
except ImportError as missing:
    raise MissingExtraError((missing.name or "lightning").split(".")[0], "train") from missing

BEST = "best.ckpt"
PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class TrainResult:
    """Where a run's folder is and what came of it; `metrics` is the content of metrics.json."""

    out: Path
    weights: Path
    metrics: dict[str, Any]


def train(
    data: str | Path | Dataset,
    out: str | Path,
    *,
    init: str | Path | C3D | None = None,
    preset: str = "modern",
    resume: bool = False,
    validation_share: float = 0.2,
    allow_leaks: bool = False,
    cache: str | Path | None = None,
    workers: int = 0,
    accelerator: str = "auto",
    devices: int | str = "auto",
    n_nodes: int = 1,
    strategy: str = "auto",
    **changes: Any,
) -> TrainResult:
    """Train on `data` and leave everything in the folder `out`.

    data: a data set, or what `read_dataset` reads. Without a validation part of its own, `validation_share` of what it
        would train on is held out, whole groups at a time; `allow_leaks` as in `split_at_random`.
    init: weights to start from (anything that `load_weights` takes); None starts from scratch.
    preset, changes: the recipe, see `Recipe`. resume: go on with the run in `out` after its last finished epoch.
    cache: folder for decoded frames, which runs can share; None keeps them in `out`; "none" decodes at every use.
    workers: processes that read clips while the network trains.
    accelerator, devices, n_nodes, strategy: Lightning's, for one or many GPUs and machines.
    Raises DatasetError, UsageError, WeightsError, or TrainingError when the run itself had to stop.
    """
    require_extra("train")
    out = Path(out)
    dataset = data if isinstance(data, Dataset) else read_dataset(data)
    start = init if isinstance(init, C3D) or init is None else load_weights(init)
    recipe = make_recipe(preset, fine_tuning=start is not None, **changes)
    if start is not None:
        taken = {name: start.architecture[name] for name in ("clip_length", "crop_size")}
        recipe = replace(recipe, **taken)
    recipe = replace(recipe, precision=_precision(recipe, out, resume=resume, accelerator=accelerator))
    dataset = with_validation(dataset, validation_share, seed=recipe.seed, allow_leaks=allow_leaks)
    check_for_training(dataset)
    rank_zero_only(open_run)(out, recipe, dataset, resume=resume)
    keep_freed_memory()
    torch.manual_seed(recipe.seed)
    network = initial_network(recipe, dataset.classes, start)
    store = None if cache == "none" else out / "frames" if cache is None else Path(cache)
    decoders = max(1, min(n_cores(), len(dataset.examples) // 16))
    frames = load_frames(dataset, network.profile, cache=store, workers=decoders)
    clips = Clips(dataset, frames, recipe, workers)
    set_input(network, recipe, clips.in_order())
    if start is not None and recipe.batch_norm:
        with_batch_norm(network, clips.typical_input(network), skip=recipe.freeze)
    learner = Learner(network, recipe, clips)
    machine: dict[str, Any] = {"accelerator": accelerator, "devices": devices, "n_nodes": n_nodes, "strategy": strategy}
    if not _fit(learner, out, resume=resume, **machine):
        return TrainResult(out, out / "weights", {})
    return _finish(learner, out, init)


def _precision(recipe: Recipe, out: Path, *, resume: bool, accelerator: str) -> Precision:
    """The arithmetic of this run; a resumed one keeps what it started with."""
    if resume and recipe.precision == "auto":
        stored: Precision = stored_recipe(out)["precision"]
        return stored
    return choose_precision(recipe.precision, accelerator=accelerator)


class Learner(lightning.LightningModule):
    """One network being trained by a recipe: what happens in a batch, an update and a validation."""

    def __init__(self, network: C3D, recipe: Recipe, clips: Clips) -> None:
        super().__init__()
        self.network, self.recipe, self.clips = network, recipe, clips
        self.average = copy.deepcopy(network).requires_grad_(False) if recipe.ema else None
        self.normalise = Normalise.of(network.profile, network.mean_volume)
        self.crop = centre_crop(network.profile)
        self.class_weights = clips.class_weights(len(network.classes)) if recipe.balance == "loss" else None
        self.history: list[dict[str, Any]] = []
        self.first_input: tuple[Tensor, list[str]] | None = None
        self._sums: dict[int, Tensor] = {}
        self._losses: list[float] = []

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        batches = self.clips.training_batches(rank=self.trainer.global_rank, world=self.trainer.world_size)
        return self.clips.loader(batches)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        rank, world = self.trainer.global_rank, self.trainer.world_size
        return self.clips.evaluation("val", self.recipe.validation_clips, rank=rank, world=world)

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.network, self.recipe)
        batches = self.clips.training_batches(world=self.trainer.world_size)
        factor = learning_rate_factor(self.recipe, batches.n_epochs * batches.updates)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def setup(self, stage: str) -> None:
        """Take the memory layout that is fastest on a CPU (twice as fast as the default one there)."""
        if self.trainer.strategy.root_device.type == "cpu":
            for network in {self.network, self.judged}:
                network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def on_fit_start(self) -> None:
        self.normalise = self.normalise.to(self.device)

    def training_step(self, batch: dict[str, Any], number: int) -> Tensor:
        generator = self._seed(number)
        inputs, targets = train_batch(
            batch["pixels"],
            batch["target"],
            self.normalise,
            self.recipe,
            n_classes=len(self.network.classes),
            crop=self.crop,
            generator=generator,
            draws=self._release_draws(number, len(batch["target"])) if self.recipe.crops == "release" else None,
        )
        if self.first_input is None:
            self.first_input = (inputs.detach(), [self.network.classes[label] for label in batch["target"].tolist()])
        loss = functional.cross_entropy(
            fast_logits(self.network, inputs),
            targets,
            weight=None if self.class_weights is None else self.class_weights.to(inputs),
            label_smoothing=self.recipe.label_smoothing,
        )
        self._losses.append(float(loss.detach()))
        if not math.isfinite(self._losses[-1]):
            self._stop_for(self._losses[-1])
        self.log("train_loss", loss.detach())
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """One update of the weights, then of their moving average, whose memory grows with the first updates."""
        super().optimizer_step(*arguments, **options)
        if self.average is not None:
            n = self.global_step
            move_average(self.average, self.network, min(self.recipe.ema, (1 + n) / (10 + n)))

    def validation_step(self, batch: dict[str, Any], number: int) -> None:
        add_probabilities(self._sums, self.judged, centre_batch(batch["pixels"], self.normalise, self.crop), batch)

    def on_validation_epoch_end(self) -> None:
        """Log accuracy and loss over videos, each judged by the mean of its clips' probabilities, over all devices."""
        probabilities, targets = mean_probabilities(self._sums, self.clips.targets)
        self._sums = {}
        loss = functional.nll_loss(probabilities.clamp_min(1e-9).log(), targets, reduction="sum")
        right = (probabilities.argmax(1) == targets).sum()
        totals = torch.stack((right.float(), loss, torch.tensor(float(len(targets))))).to(self.device)
        totals = self.trainer.strategy.reduce(totals, reduce_op="sum")
        self.log("val_accuracy", totals[0] / totals[2])
        self.log("val_loss", totals[1] / totals[2])

    @property
    def judged(self) -> C3D:
        """The network that is validated and saved: the moving average where there is one."""
        return self.network if self.average is None else self.average

    def end_epoch(self) -> None:
        """Write the epoch that just ended into the history."""
        metrics, losses = self.trainer.callback_metrics, self._losses
        self._losses = []
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

    def _seed(self, batch: int) -> torch.Generator:
        """Seed every source of chance for this batch: dropout by the global generators, clips by the one returned."""
        where = (self.recipe.seed, self.current_epoch, batch, self.trainer.global_rank)
        first, second = np.random.SeedSequence(where).generate_state(2).tolist()
        torch.manual_seed(first)
        return torch.Generator().manual_seed(second)

    def _release_draws(self, batch: int, n_clips: int) -> Ints:
        rank, world = self.trainer.global_rank, self.trainer.world_size
        number = (self.current_epoch * int(self.trainer.num_training_batches) + batch) * world + rank
        height, width = (max(1, side - self.crop[0]) for side in stored_size(self.network.profile))
        draws = release_draws(self.recipe.seed, number, n_clips, height_margin=height, width_margin=width)
        draws[:, 2] *= self.recipe.flip
        return draws

    def _stop_for(self, loss: float) -> None:
        rate = max(group["lr"] for group in self.trainer.optimizers[0].param_groups)
        raise TrainingError(
            f"the loss is {loss} at update {self.global_step} (epoch {self.current_epoch}, learning rate {rate:.3g}); "
            f"checkpoints/{LAST} keeps the last finished epoch. Start again with a learning rate of {rate / 3:.1g} or "
            f"less, {'or ' if self.recipe.precision == 'fp32' else ''}with gradient clipping"
            + ("" if self.recipe.precision == "fp32" else ", or in fp32")
        )


class _Diary(Callback):
    """Progress on the terminal; the picture of the first input; log.csv."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.stack = ExitStack()
        self.bar: Bar | None = None

    def on_train_start(self, trainer: Any, learner: Any) -> None:
        if trainer.ckpt_path is None:  # so that even a run that fails at once can be looked at
            trainer.save_checkpoint(self.out / "checkpoints" / LAST)
        if trainer.is_global_zero:
            total = trainer.max_epochs * int(trainer.num_training_batches)
            self.bar = self.stack.enter_context(progress("training", total=total, unit="batches"))
            self.bar.skip(learner.current_epoch * int(trainer.num_training_batches))

    def on_train_batch_end(self, trainer: Any, learner: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        picture = self.out / "input_batch.png"
        if trainer.is_global_zero and batch_idx == 0 and not picture.exists():
            inputs, names = learner.first_input
            draw_input(picture, inputs, names, channel_order=learner.network.profile.channel_order)
        if self.bar is not None:
            self.bar.advance()

    def on_train_epoch_end(self, trainer: Any, learner: Any) -> None:
        learner.end_epoch()
        if trainer.is_global_zero:
            last = learner.history[-1]
            with (self.out / "log.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(last))
                writer.writeheader()
                writer.writerows(learner.history)
            if self.bar is not None:
                self.bar.note(f"epoch {last['epoch'] + 1}/{trainer.max_epochs}, validation {last['val_accuracy']:.1%}")

    def teardown(self, trainer: Any, learner: Any, stage: str) -> None:
        self.stack.close()


class _WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that appear complete or not at all, so that a kill while one is written costs nothing."""

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        part = Path(path).with_suffix(".part")
        super().save_checkpoint(checkpoint, part, storage_options)
        part.replace(path)


def _fit(
    learner: Learner, out: Path, *, resume: bool, accelerator: str, devices: int | str, n_nodes: int, strategy: str
) -> bool:
    """Train; True on the one process that writes the results."""
    recipe, last = learner.recipe, out / "checkpoints" / LAST
    checkpoints: dict[str, Any] = {
        "dirpath": out / "checkpoints",
        "enable_version_counter": False,
        "save_on_train_epoch_end": True,
    }
    callbacks: list[Callback] = [
        _Diary(out),
        ModelCheckpoint(**checkpoints, filename="best", monitor="val_accuracy", mode="max", save_weights_only=True),
        ModelCheckpoint(**checkpoints, filename="last"),
    ]
    if recipe.patience:
        callbacks.append(EarlyStopping("val_accuracy", mode="max", patience=recipe.patience))
    with _quiet():
        trainer = lightning.Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=n_nodes,
            strategy=strategy,
            precision=PRECISIONS[recipe.precision],
            max_epochs=1,  # set below, when the number of processes is known
            accumulate_grad_batches=recipe.accumulate,
            gradient_clip_val=recipe.clip_gradient or None,
            callbacks=callbacks,
            logger=TensorBoardLogger(out, name="tensorboard", version=""),
            log_every_n_steps=10,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            plugins=[_WholeCheckpoints()],
        )
        trainer.fit_loop.max_epochs = learner.clips.training_batches(world=trainer.world_size).n_epochs
        try:
            trainer.fit(learner, ckpt_path=last if resume else None, weights_only=True)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            _explain(error, recipe)
            raise
        except SystemExit as stopped:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from stopped
    return bool(trainer.is_global_zero)


def _explain(error: RuntimeError, recipe: Recipe) -> None:
    """Raise what a user can act on, for the errors of PyTorch that have a known cause."""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text or "out of memory" in text:
        half = max(1, recipe.batch_size // 2)
        raise TrainingError(
            f"a batch of {recipe.batch_size} clips does not fit in memory; try a batch size of {half} with accumulate "
            f"{recipe.accumulate * 2}, which trains the same way, or precision bf16, or a smaller width"
        ) from error
    if "loading state_dict" in text:
        first = text.strip().splitlines()[1].strip() if len(text.splitlines()) > 1 else text
        raise WeightsError(
            f"checkpoints/{LAST} belongs to another architecture ({first}); resume the run that made it"
        ) from error


def _finish(learner: Learner, out: Path, init: str | Path | C3D | None) -> TrainResult:
    """Best weights as a folder, and the numbers of every part of the data that was held out."""
    best = torch.load(out / "checkpoints" / BEST, map_location="cpu", weights_only=True)
    learner.load_state_dict(best["state_dict"])
    network = folded(learner.judged)
    recipe, clips, history = learner.recipe, learner.clips, learner.history
    chosen = max(history, key=lambda row: row["val_accuracy"])
    metrics: dict[str, Any] = {
        "best_epoch": chosen["epoch"],
        "epochs": len(history),
        "updates": history[-1]["updates"],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "training_videos": len(clips.of("train")),
        "unreadable": clips.frames.problems,
    }
    for split in ("val", "test"):
        if clips.of(split):
            probabilities, targets = judge(network, clips, split, recipe.test_clips)
            metrics[split] = write_report(out, split, probabilities, targets, network.classes)
    network.provenance = {
        "trained_by": f"c3dvideo {__version__}",
        "recipe": asdict(recipe),
        "init": None if init is None else "a network in memory" if isinstance(init, C3D) else str(init),
        "best_epoch": chosen["epoch"],
        "val_video_accuracy": metrics["val"]["video_accuracy"],
    }
    save_folder(network, out / "weights")
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return TrainResult(out, out / "weights", metrics)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advice about workers and its lines about hardware off the terminal."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            warnings.filterwarnings("ignore", "`isinstance", FutureWarning)  # of PyTorch about Lightning 2.6
            warnings.filterwarnings("ignore", "Checkpoint directory", UserWarning)  # a resumed run's own
            yield
    finally:
        logger.setLevel(level)
