"""Pre-train C3D on generated clips only: layers in closed form, then optional gradient steps.

    network = pretrain("runs/embedded")                     # minutes on a CPU; run again to resume
    network = pretrain("runs/wide", settings=PretrainSettings(stages=STAGES, fc_width=4096, n_steps=20_000))

1. Convolutions, one after the other: whitened principal directions of each layer's input (`whitening`).
2. `still_steps` gradient steps on still frames, then `n_steps` on clips and still frames (`gradients`). The losses
   predict the part and its motion at every location, the labels of motion, appearance and people, and which two views
   show one scene (`objectives`). Scenes are generated without end, and each is used twice (`batches`).
3. fc6 and fc7 in closed form; fc8 by logistic regression on the everyday classes, so that it predicts their names.

The clips of step n depend on the seed and n alone, so that a resumed run equals an uninterrupted one.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from c3dvideo import __version__
from c3dvideo.errors import UsageError
from c3dvideo.files import atomic_text
from c3dvideo.inference.devices import find_device
from c3dvideo.inference.engine import make_engine
from c3dvideo.network.c3d import C3D
from c3dvideo.network.folder import save_folder
from c3dvideo.progress import track
from c3dvideo.reading import ForeignFile, read_json
from c3dvideo.synthetic import EVERYDAY, Scene, everyday_scene, render
from c3dvideo.training.arithmetic import choose_precision
from c3dvideo.training.pretraining.batches import draw_any
from c3dvideo.training.pretraining.gradients import learn
from c3dvideo.training.pretraining.pretraining_input import PROFILE, network_input
from c3dvideo.training.pretraining.pretraining_settings import PretrainSettings
from c3dvideo.training.pretraining.whitening import fit_convolutions, fit_layer, gather_layer
from c3dvideo.training.run_folder import held, load_state, save_state


def pretrain(out: str | Path, *, settings: PretrainSettings | None = None, device: str = "auto") -> C3D:
    """The pre-trained network, also saved as the weights folder out/weights in half precision.

    A folder with an unfinished run of the same settings is resumed. Raises UsageError if its settings differ, and for a
    device that is not there.
    """
    out, settings = Path(out), settings or PretrainSettings()
    where = find_device(device)
    with held(out):
        return _pretrain(out, _claim(out, settings, where), where)


def _pretrain(out: Path, settings: PretrainSettings, device: torch.device) -> C3D:
    network = C3D(
        num_classes=len(EVERYDAY),
        stages=settings.stages,
        temporal_depths=settings.temporal_depths,
        fc_width=settings.fc_width,
        filler="xavier",
    )
    network.profile, network.classes = PROFILE, EVERYDAY
    _fit_convolutions(network, out, settings)
    if settings.still_steps or settings.n_steps:
        network = learn(network, out, settings, _clips(settings, 3), device)
    fit_head(network, settings, device)
    network.provenance = {
        "source": "c3dvideo pretrain: generated clips only, no real picture or video",
        "recipe": json.loads(json.dumps(asdict(settings))),
        "version": __version__,
    }
    save_folder(network, out / "weights", precision="fp16")
    return network.eval()


def _claim(out: Path, settings: PretrainSettings, device: torch.device) -> PretrainSettings:
    """The settings with the precision chosen; writes them to `out`, or checks that `out` has the same."""
    path = out / "recipe.json"
    foreign = ForeignFile(path, error=UsageError, expected="the settings of a run", advice="choose another `out=`")
    stored = read_json(foreign) if path.is_file() else None
    if settings.precision == "auto":
        chosen: Any = stored.get("precision") if stored else choose_precision("auto", accelerator=device.type)
        settings = replace(settings, precision=chosen)
    text = json.dumps(asdict(settings), indent=1)
    if stored is not None and stored != json.loads(text):
        raise UsageError(f"{out} holds a run with other settings; choose another `out=`, or delete that folder")
    with atomic_text(path) as file:
        file.write(text)
    return settings


def _scenes(settings: PretrainSettings, part: int, n_scenes: int) -> list[Scene]:
    """The first scenes of random sequence `part` of the settings."""
    return [draw_any(10 * settings.seed + part, index, settings.people_share) for index in range(n_scenes)]


def _clips(settings: PretrainSettings, part: int) -> Tensor:
    """The first filter_clips clips of random sequence `part` of the settings, uint8 (n, 3, 16, 112, 112)."""
    return render(_scenes(settings, part, settings.filter_clips), height=112, width=112)


def _fit_convolutions(network: C3D, out: Path, settings: PretrainSettings) -> None:
    """Fit every convolution, or load it if an earlier run has fitted it."""
    path = out / "convolutions.pt"
    done: dict[str, dict[str, Tensor]] = load_state(path) if path.is_file() else {}
    for name, state in done.items():
        network.get_submodule(name).load_state_dict(state)
    names = [name for name, layer in network.named_layers() if isinstance(layer, nn.Conv3d)]
    if len(done) == len(names):
        return
    clips = network_input(_clips(settings, 0))
    fitted = fit_convolutions(
        network, clips, ridges=settings.ridges, active=settings.active, seed=settings.seed, skip=tuple(done)
    )
    for name in track(fitted, "fitting convolutions", total=len(names) - len(done), unit="layers"):
        done[name] = network.get_submodule(name).state_dict()
        save_state(done, path)


@torch.no_grad()
def fit_head(network: C3D, settings: PretrainSettings, device: torch.device, *, keep_fc6: bool = False) -> None:
    """Fit fc6 and fc7 on people and research scenes, and fc8 on the everyday classes, in place.

    keep_fc6: leave fc6 unchanged, because gradient steps have trained it.
    """
    scenes = _scenes(settings, 1, settings.fc_clips)
    everyday = [
        everyday_scene(name, seed=settings.seed, index=index, n_frames=16, fps=16)
        for index in range(settings.everyday_clips)
        for name in EVERYDAY
    ]
    engine = make_engine(network, layers=["pool5"], device=str(device))
    batches = [(scenes + everyday)[start : start + 8] for start in range(0, len(scenes + everyday), 8)]
    pool5 = [
        torch.from_numpy(engine(render(batch, height=112, width=112).numpy())["pool5"]).flatten(1)
        for batch in track(batches, "fitting fc6 to fc8", unit="batches")
    ]
    x = torch.cat(pool5)
    network.cpu()
    mixture = slice(settings.fc_clips)
    if not keep_fc6:
        gather_layer(network.fc6, x[mixture])
    x = torch.relu(network.fc6(x))
    generator = torch.Generator().manual_seed(1000 * settings.seed + 500)
    fit_layer(network.fc7, x[mixture], generator=generator, ridge=0.1, n_directions=settings.n_directions)
    x = torch.relu(network.fc7(x))
    head = network.head
    assert isinstance(head, nn.Linear)
    _fit_classifier(head, x[settings.fc_clips :], torch.arange(len(everyday)) % len(EVERYDAY))


def _fit_classifier(layer: nn.Linear, features: Tensor, targets: Tensor) -> None:
    """Fit `layer` in place by multinomial logistic regression with a ridge penalty."""
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
