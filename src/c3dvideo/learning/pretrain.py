"""Pre-train C3D on generated clips only: layers in closed form, then, if asked, gradient steps on labels and contrast.

    network = pretrain("runs/embedded")                     # minutes on a CPU; run again to go on after a stop
    network = pretrain("runs/wide", recipe=PretrainRecipe(stages=STAGES, fc_width=4096, n_steps=20_000))

1. Convolutions, one after the other: whitened principal directions of what each sees (`whitening`).
2. `n_steps` of multi-task classification of motion and look, plus instance discrimination (two crops, colours and
   blurs of one clip find each other in the batch), on clips that are never shown twice.
3. fc6 and fc7 in closed form; fc8 by logistic regression on the everyday classes, so that it can name something.

The clips of step n are a function of the seed and n, so a resumed run equals one that never stopped.
"""

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from c3dvideo import __version__
from c3dvideo.errors import UsageError
from c3dvideo.learning.training.folding import folded, with_batch_norm
from c3dvideo.learning.training.machine import choose_precision
from c3dvideo.learning.whitening import fit_convolutions, fit_layer, gather_layer
from c3dvideo.network.c3d import C3D
from c3dvideo.network.engine import Engine
from c3dvideo.network.weights import save_folder
from c3dvideo.progress import progress, track
from c3dvideo.video.preprocess import Profile
from c3dvideo.video.synthetic import EVERYDAY, TASKS, draw_scene, everyday_scene, render

NARROW_STAGES = ((16,), (32,), (64, 64), (128, 128), (128, 128))
PROFILE = Profile(name="embedded", channel_order="rgb", mean=(110.0, 105.0, 100.0))
_RENDER_SIZE, _CROP = 80, 56
_CHECKPOINT_EVERY = 100


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe:
    """What is learned from how much; everything is written to the card's provenance.

    filter_clips: clips that the convolutions are fitted on. fc_clips: research clips for fc6 and fc7.
    everyday_clips: clips of each everyday class for fc8. n_directions: principal directions of fc6 that fc7 looks at.
    ridges, active: how little each stage whitens and how often its units are active, see `whitening`.
    n_steps: gradient steps of batch_size clips, each seen in two views; label_weight and contrast_weight scale the two
        losses, `temperature` divides the similarities. precision: of the gradient steps; "auto" is bf16 where the
        hardware multiplies it, and stored as what was chosen.
    """

    seed: int = 0
    stages: tuple[tuple[int, ...], ...] = NARROW_STAGES
    temporal_depths: tuple[int, ...] = (3, 3, 3, 3, 3)
    fc_width: int = 1024
    filter_clips: int = 64
    fc_clips: int = 512
    everyday_clips: int = 40
    n_directions: int = 200
    ridges: tuple[float, ...] = (0.02,) * 5
    active: tuple[float, ...] = (0.5,) * 5
    n_steps: int = 0
    batch_size: int = 32
    learning_rate: float = 1e-3
    label_weight: float = 0.25
    contrast_weight: float = 1.0
    temperature: float = 0.2
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def __post_init__(self) -> None:
        if min(self.filter_clips, self.fc_clips, self.everyday_clips, self.n_directions, self.batch_size) < 2:
            raise UsageError("filter_clips, fc_clips, everyday_clips, n_directions and batch_size must be 2 or more")
        if self.stages[-1][-1] * 16 % self.fc_width:
            cells = self.stages[-1][-1] * 16
            raise UsageError(f"fc_width is {self.fc_width}; fc6 gathers the {cells} cells of pool5 in equal shares")


def pretrain(out: str | Path, *, recipe: PretrainRecipe | None = None, device: str = "auto") -> C3D:
    """The pre-trained network, also saved as the weights folder out/weights in half precision.

    A folder that holds an unfinished run of the same recipe is continued; raises UsageError for another recipe.
    """
    out, recipe = Path(out), recipe or PretrainRecipe()
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else torch.device(device)
    recipe = _claim(out, recipe, where)
    network = C3D(
        num_classes=len(EVERYDAY),
        stages=recipe.stages,
        temporal_depths=recipe.temporal_depths,
        fc_width=recipe.fc_width,
        filler="xavier",
    )
    network.profile, network.classes = PROFILE, EVERYDAY
    _fit_convolutions(network, out, recipe)
    if recipe.n_steps:
        network = _train_convolutions(network, out, recipe, where)
    _fit_head(network, recipe, where)
    network.provenance = {
        "source": "c3dvideo pretrain: generated clips only, no real picture or video",
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "version": __version__,
    }
    save_folder(network, out / "weights", precision="fp16")
    return network.eval()


def _claim(out: Path, recipe: PretrainRecipe, device: torch.device) -> PretrainRecipe:
    """Make `out` the folder of this recipe, or find that it already is; the recipe with its precision chosen."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "recipe.json"
    stored = json.loads(path.read_text()) if path.is_file() else None
    if recipe.precision == "auto":
        chosen: Any = stored["precision"] if stored else choose_precision("auto", accelerator=device.type)
        recipe = replace(recipe, precision=chosen)
    text = json.dumps(asdict(recipe), indent=1)
    if stored is not None and stored != json.loads(text):
        raise UsageError(f"{out} holds a run of another recipe; give another folder, or delete that one")
    path.write_text(text)
    return recipe


def network_input(clips: Tensor) -> Tensor:
    """Float clips with the profile's mean subtracted, from uint8 (N, 3, T, H, W) in RGB."""
    return clips.float() - torch.tensor(PROFILE.mean, device=clips.device).view(1, 3, 1, 1, 1)


def _research_clips(recipe: PretrainRecipe, part: int, n_clips: int) -> Tensor:
    """The first clips of one of the recipe's rows of scenes, uint8 (n, 3, 16, 112, 112)."""
    scenes = [draw_scene(seed=10 * recipe.seed + part, index=index) for index in range(n_clips)]
    return render(scenes, height=112, width=112)


def _fit_convolutions(network: C3D, out: Path, recipe: PretrainRecipe) -> None:
    """Fit every convolution, or take those that an earlier run has finished."""
    path = out / "convolutions.pt"
    done: dict[str, dict[str, Tensor]] = torch.load(path, weights_only=True) if path.is_file() else {}
    for name, state in done.items():
        network.get_submodule(name).load_state_dict(state)
    names = [name for name, layer in network.named_layers() if isinstance(layer, nn.Conv3d)]
    if len(done) == len(names):
        return
    clips = network_input(_research_clips(recipe, 0, recipe.filter_clips))
    fitted = fit_convolutions(
        network, clips, ridges=recipe.ridges, active=recipe.active, seed=recipe.seed, skip=tuple(done)
    )
    for name in track(fitted, "fitting convolutions", total=len(names) - len(done), unit="layers"):
        done[name] = network.get_submodule(name).state_dict()
        _save(done, path)


def _save(state: Any, path: Path) -> None:
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


@torch.no_grad()
def _fit_head(network: C3D, recipe: PretrainRecipe, device: torch.device) -> None:
    """Fit fc6 and fc7 on research clips and fc8 on the everyday classes."""
    scenes = [draw_scene(seed=10 * recipe.seed + 1, index=index) for index in range(recipe.fc_clips)]
    everyday = [
        everyday_scene(name, seed=recipe.seed, index=index, n_frames=16, fps=16)
        for index in range(recipe.everyday_clips)
        for name in EVERYDAY
    ]
    engine = Engine(network, layers=["pool5"], device=str(device))
    batches = [(scenes + everyday)[start : start + 8] for start in range(0, len(scenes + everyday), 8)]
    pool5 = [
        torch.from_numpy(engine(render(batch, height=112, width=112).numpy())["pool5"]).flatten(1)
        for batch in track(batches, "fitting fc6 to fc8", unit="batches")
    ]
    x = torch.cat(pool5)
    network.cpu()
    research = slice(recipe.fc_clips)
    gather_layer(network.fc6, x[research])
    x = torch.relu(network.fc6(x))
    generator = torch.Generator().manual_seed(1000 * recipe.seed + 500)
    fit_layer(network.fc7, x[research], generator=generator, ridge=0.1, n_directions=recipe.n_directions)
    x = torch.relu(network.fc7(x))
    head = network.head
    assert isinstance(head, nn.Linear)
    _fit_classifier(head, x[recipe.fc_clips :], torch.arange(len(everyday)) % len(EVERYDAY))


def _fit_classifier(layer: nn.Linear, features: Tensor, targets: Tensor) -> None:
    """Ridge-penalised multinomial logistic regression, in place."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        with torch.enable_grad():
            value = functional.cross_entropy(layer(features), targets) + 1e-2 * layer.weight.square().sum()
            value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    optimizer.step(loss)  # type: ignore[no-untyped-call]


class Heads(nn.Module):
    """From pool5 of a training crop to a logit for every class of every task, and to a point on the unit sphere."""

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(n_inputs, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU())
        self.labels = nn.Linear(512, sum(map(len, TASKS.values())))
        self.point = nn.Sequential(nn.Linear(512, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 128))


def _train_convolutions(network: C3D, out: Path, recipe: PretrainRecipe, device: torch.device) -> C3D:
    """The network after gradient steps on its convolutions, batch-normalised on the way and folded at the end."""
    with_batch_norm(network)
    torch.manual_seed(recipe.seed)
    side = math.ceil(_CROP // 16 / 2)
    heads = Heads(recipe.stages[-1][-1] * side**2).to(device)
    network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    convolutions = [layer for name, layer in network.named_children() if name.startswith("conv")]
    parameters = [p for module in (*convolutions, heads) for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.02)
    path, first = out / "checkpoint.pt", 0
    parts: dict[str, Any] = {"network": network, "heads": heads, "optimizer": optimizer}
    if path.is_file():
        state = torch.load(path, weights_only=True)
        first = int(state["step"])
        for name, part in parts.items():
            part.load_state_dict(state[name])
    with progress("pre-training", total=recipe.n_steps - first, unit="steps") as bar:
        for step in range(first, recipe.n_steps):
            warm = min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * step / recipe.n_steps))
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * warm
            loss, accuracies = _step(network, heads, recipe, step, device)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            bar.note(f"loss {float(loss.detach()):.2f}")
            bar.advance()
            if (step + 1) % _CHECKPOINT_EVERY == 0 or step + 1 == recipe.n_steps:
                _save({"step": step + 1} | {name: part.state_dict() for name, part in parts.items()}, path)
                with (out / "log.jsonl").open("a") as log:
                    log.write(json.dumps({"step": step + 1, "loss": float(loss.detach()), **accuracies}) + "\n")
    _settle(network, recipe, device)
    return folded(network)


def _step(
    network: C3D, heads: Heads, recipe: PretrainRecipe, step: int, device: torch.device
) -> tuple[Tensor, dict[str, float]]:
    """The loss of one step on fresh clips, and the accuracy of every task and of the contrast in it."""
    network.train()
    heads.train()
    start = step * recipe.batch_size
    scenes = [draw_scene(seed=10 * recipe.seed + 2, index=start + index) for index in range(recipe.batch_size)]
    clips = render(scenes, height=_RENDER_SIZE, width=_RENDER_SIZE, device=device)
    generator = torch.Generator(device).manual_seed(100_000 * recipe.seed + step)
    views = torch.cat([random_view(clips, generator), random_view(clips, generator)])
    x = network_input(views).contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        for name in network.steps[: network.steps.index("fc6")]:
            x = network.step(name, x)
    x = heads.trunk(x.float().flatten(1))
    logits, loss, accuracies = heads.labels(x), x.new_zeros(()), {}
    for (task, names), part in zip(TASKS.items(), logits.split([len(c) for c in TASKS.values()], 1), strict=True):
        asked = [row for row, scene in enumerate(scenes) if task in scene.labels]
        if asked:
            target = torch.tensor([names.index(scenes[row].labels[task]) for row in asked], device=device).repeat(2)
            rows = torch.tensor(asked + [row + len(scenes) for row in asked], device=device)
            share = recipe.label_weight * len(asked) / len(scenes)
            loss = loss + share * functional.cross_entropy(part[rows], target)
            accuracies[task] = float((part[rows].argmax(1) == target).float().mean())
    points = functional.normalize(heads.point(x), dim=1)
    diagonal = torch.eye(len(points), dtype=torch.bool, device=device)
    similarity = (points @ points.T / recipe.temperature).masked_fill(diagonal, -torch.inf)
    partner = torch.arange(len(points), device=device).roll(len(scenes))
    accuracies["contrast"] = float((similarity.argmax(1) == partner).float().mean())
    return loss + recipe.contrast_weight * functional.cross_entropy(similarity, partner), accuracies


def random_view(clips: Tensor, generator: torch.Generator) -> Tensor:
    """A crop, exposure, colour mix and blur of every clip, the same in all its frames: float (N, 3, T, 56, 56), 0..255.

    clips: uint8 (N, 3, T, H, W). Nothing is mirrored or played backwards, since the labels would change.
    """
    n_clips, _, n_frames, _, _ = clips.shape

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(n_clips, *shape, device=clips.device).uniform_(low, high, generator=generator)

    side, ratio = draw(0.25, 1.0).sqrt(), draw(-0.25, 0.25).exp()
    size = torch.stack([side * ratio, side / ratio], dim=1).clamp(max=1)
    lookup = torch.cat([torch.diag_embed(size), (draw(-1, 1, 2) * (1 - size))[:, :, None]], dim=2)
    grid = functional.affine_grid(lookup, [n_clips, 1, _CROP, _CROP], align_corners=False)
    view = functional.grid_sample(clips.float().flatten(1, 2), grid, padding_mode="border", align_corners=False)
    view = view.view(n_clips, 3, n_frames, _CROP, _CROP)
    mixing = torch.eye(3, device=clips.device) + draw(-0.3, 0.3, 3, 3)
    grey = (draw(0, 1, 1, 1) < 0.2).float()
    mixing = torch.lerp(mixing, torch.full_like(mixing, 1 / 3), grey)
    mean = view.mean(dim=(1, 2, 3, 4), keepdim=True)
    view = (view - mean) * draw(-0.5, 0.5, 1, 1, 1, 1).exp() + mean + draw(-40, 40, 1, 1, 1, 1)
    view = (torch.einsum("nij,njthw->nithw", mixing, view - 128) + 128).clamp(0, 255)
    blurred = functional.avg_pool3d(view, (1, 3, 3), 1, (0, 1, 1), count_include_pad=False)
    return torch.lerp(view, blurred, (draw(0, 1, 1, 1, 1, 1) < 0.3).float())


@torch.no_grad()
def _settle(network: C3D, recipe: PretrainRecipe, device: torch.device) -> None:
    """Replace the running statistics of every normalisation by those of whole, unchanged clips of 112 x 112."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    for clips in torch.split(_research_clips(recipe, 3, recipe.filter_clips), 16):
        network.activations(network_input(clips.to(device)), ["pool5"])
    network.eval()
