"""Seconds per clip of training: forward and backward on a CPU, whole updates on a GPU where there is one."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.turns import Row, rows_of, take_turns
from c3dvideo.network.c3d import C3D, c3d
from c3dvideo.training.arithmetic import Precision, choose_precision
from c3dvideo.training.augment import Normalise, train_batch
from c3dvideo.training.clip_loaders import centre_crop
from c3dvideo.training.forward import fast_logits
from c3dvideo.training.losses import LossLog
from c3dvideo.training.optim import MovingAverage, make_optimizer
from c3dvideo.training.settings import make_settings
from c3dvideo.video.preprocess import PROFILES

EAGER = "PyTorch eager, as the ports run it"
N_CLASSES = 101
UPDATES_PER_TURN = 8  # so that a host that runs ahead of the device counts as it does in a run


def measure(*, quick: bool) -> Iterator[Row]:
    """The CPU, and the GPU where there is one."""
    yield from on_cpu(rounds=2 if quick else 5)
    if torch.cuda.is_available():
        yield from updates_on(torch.device("cuda"), rounds=5 if quick else 15)


def on_cpu(*, rounds: int) -> Iterator[Row]:
    """Forward and backward with the classification loss, as the ports and as `c3dvideo train` do."""
    torch.manual_seed(0)
    clips, labels = 60 * torch.randn(2, 3, 16, 112, 112), torch.tensor([0, 1])
    plain = c3d(N_CLASSES, filler="xavier")
    last = deepcopy(plain).to(memory_format=torch.channels_last_3d)
    precision = choose_precision("auto", accelerator="cpu")

    def step(network: C3D, run: Callable[[Tensor], Tensor], x: Tensor) -> None:
        network.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(run(x).float(), labels).backward()

    def ours(x: Tensor, *, low: bool) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            return fast_logits(last, x.to(memory_format=torch.channels_last_3d))

    ways = {
        EAGER: lambda: step(plain, plain, clips),
        "channels_last_3d": lambda: step(last, last, clips.to(memory_format=torch.channels_last_3d)),
        "c3dvideo train, fp32": lambda: step(last, partial(ours, low=False), clips),
    }
    if precision == "bf16":
        ways["c3dvideo train, bf16"] = lambda: step(last, partial(ours, low=True), clips)
    yield from rows_of("training", take_turns(ways, rounds=rounds), against=EAGER, per=2, unit="s/clip")


def updates_on(device: torch.device, *, rounds: int, n_clips: int = 30, network: C3D | None = None) -> Iterator[Row]:
    """Whole updates from uint8 clips in host memory: augmentation, forward, backward, optimizer, average, loss.

    The ports: float clips in host memory, the default memory layout, SGD, and the loss read after each update.
    """
    torch.manual_seed(0)
    network = network or c3d(N_CLASSES, filler="xavier")
    ways: dict[str, Callable[[], object]] = {EAGER: plain_updates(deepcopy(network), device, n_clips=n_clips)}
    for precision in ("fp32", "bf16"):
        ways[f"c3dvideo train, {precision}"] = our_updates(deepcopy(network), device, precision, n_clips=n_clips)
    per = UPDATES_PER_TURN * n_clips
    yield from rows_of(
        "training on a GPU",
        take_turns(ways, rounds=rounds),
        against=EAGER,
        per=per,
        unit="s/clip",
    )


def plain_updates(network: C3D, device: torch.device, *, n_clips: int) -> Callable[[], None]:
    """A turn of updates as the ports write them."""
    network.to(device)
    clips, labels = 60 * torch.randn(n_clips, 3, 16, 112, 112), torch.randint(N_CLASSES, (n_clips,))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

    def turn() -> None:
        for _ in range(UPDATES_PER_TURN):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(clips.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            loss.item()

    return turn


def our_updates(network: C3D, device: torch.device, precision: Precision, *, n_clips: int) -> Callable[[], None]:
    """A turn of updates as `c3dvideo train` makes them, without its data loader and its log."""
    settings = make_settings("modern", batch_norm=False, learning_rate=1e-4)
    network.profile = PROFILES["caffe_channel_mean"]
    network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    pixels = torch.randint(0, 256, (n_clips, 16, 3, 128, 171), dtype=torch.uint8)
    labels = torch.randint(N_CLASSES, (n_clips,))
    if device.type == "cuda":
        pixels, labels = pixels.pin_memory(), labels.pin_memory()
    normalise, crop = Normalise.of(network.profile, None).to(device), centre_crop(network.profile)
    optimizer = make_optimizer(network, settings)
    average = MovingAverage(network, decay=settings.ema)
    generator = torch.Generator().manual_seed(0)

    def turn() -> None:
        losses = LossLog()
        for update in range(UPDATES_PER_TURN):
            inputs, targets = train_batch(
                pixels.to(device, non_blocking=True),
                labels.to(device, non_blocking=True),
                normalise,
                settings,
                n_classes=N_CLASSES,
                crop=crop,
                generator=generator,
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = nn.functional.cross_entropy(fast_logits(network, inputs), targets, label_smoothing=0.1)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), settings.clip_gradient)
            optimizer.step()
            optimizer.zero_grad()
            average.update_parameters(network)
            losses.add(loss, update=update, learning_rate=settings.learning_rate)
        for _ in losses.rest():  # waits for the device, once per turn
            pass

    return turn
