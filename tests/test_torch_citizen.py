"""C3D among PyTorch's tools: torch.hub, torch.compile, torch.export, a Trainer of one's own, other projects' names."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from c3dvideo import C3D, ClipDataModule, ClipPlan, c3d, c3d_plain, c3d_small, import_weights
from c3dvideo.choices import Port
from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.errors import C3DVideoError, DatasetError, UsageError
from c3dvideo.training.lightning_api import LightningModule, Trainer
from c3dvideo.weights.formats.port_names import port_state_dict

ROOT = Path(__file__).parents[1]
NARROW = {"stages": ((4,), (4,), (8, 8), (8, 8), (8, 8)), "fc_width": 16}


def test_torch_hub_loads_every_constructor_and_any_weights() -> None:
    def load(entry: str, **options: object) -> C3D:
        return torch.hub.load(str(ROOT), entry, source="local", **options)  # type: ignore[no-any-return]

    embedded = load("c3d", weights="embedded")
    assert embedded.architecture == C3D.from_pretrained("embedded").architecture
    assert load("c3d", num_classes=3, **NARROW).head.out_features == 3
    with torch.device("meta"):
        assert load("c3d_plain", num_class=4).architecture["last_layer"] == "out"
        assert load("c3d_small").architecture["fc_width"] == 2048
    with pytest.raises(C3DVideoError, match="the architecture comes from `weights='embedded'`; leave out num_classes"):
        load("c3d", weights="embedded", num_classes=3)


CONSTRUCTORS: dict[str, Callable[[], C3D]] = {
    "c3d": lambda: c3d(5, **NARROW),
    "c3d_plain": lambda: c3d_plain(5),
    "c3d_small": lambda: c3d_small(5, stages=((4,), (4,), (8,), (8,), (8,)), fc_width=16),
}


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_torch_export_and_compile_keep_the_numbers(name: str) -> None:
    """Of every constructor; the plain one in full width as a graph of shapes only."""
    if name == "c3d_plain":
        with torch.device("meta"):
            network, clips = CONSTRUCTORS[name]().eval(), torch.empty(2, 3, 16, 112, 112)
    else:
        network, clips = CONSTRUCTORS[name]().eval(), torch.randn(2, 3, 16, 112, 112)
    program = torch.export.export(network, (clips,), dynamic_shapes={"clips": {0: torch.export.Dim.DYNAMIC}})
    with torch.no_grad():
        expected = network(clips)
        assert program.module()(clips[:1]).shape == (1, 5)
        compiled = torch.compile(network, backend="eager", fullgraph=True)(clips)
        assert compiled.shape == expected.shape
        if name != "c3d_plain":
            torch.testing.assert_close(program.module()(clips), expected)
            torch.testing.assert_close(compiled, expected)


@pytest.mark.parametrize("port", ["davidea", "vgg", "mmaction2"])
def test_a_state_dict_goes_to_a_port_and_back(port: Port, narrow_network: C3D, tmp_path: Path) -> None:
    arrays = port_state_dict(narrow_network, port)
    torch.save(arrays, tmp_path / "port.pth")
    again = import_weights(tmp_path / "port.pth")
    kept = {name: array for name, array in narrow_network.state_dict().items() if port != "vgg" or "fc8" not in name}
    assert len(arrays) == len(kept)
    for name, array in kept.items():
        assert torch.equal(again.state_dict()[name], array), name
    expected = {"davidea": "conv1.weight", "vgg": "features.0.weight", "mmaction2": "backbone.conv1a.conv.weight"}
    assert expected[port] in arrays


def test_a_port_loads_the_state_dict_strictly(narrow_network: C3D) -> None:
    """DavideA's class, as far as its names and shapes go."""

    class DavideA(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            names = ("conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b")
            widths = (3, 4, 4, 8, 8, 8, 8, 8, 8)
            for name, before, after in zip(names, widths[:-1], widths[1:], strict=True):
                self.add_module(name, nn.Conv3d(before, after, kernel_size=(3, 3, 3), padding=(1, 1, 1)))
            self.fc6, self.fc7, self.fc8 = nn.Linear(128, 16), nn.Linear(16, 16), nn.Linear(16, 5)

    DavideA().load_state_dict(port_state_dict(narrow_network, "davidea"), strict=True)


def test_a_network_that_no_port_has_is_refused(narrow_network: C3D) -> None:
    with pytest.raises(UsageError, match="this network has conv1a, conv2a, conv3a, conv4a"):
        port_state_dict(CONSTRUCTORS["c3d_small"](), "davidea")
    with pytest.raises(UsageError, match="`to=` is 'caffe2'; expected one of davidea"):
        port_state_dict(narrow_network, "caffe2")  # type: ignore[arg-type]


class Classifier(LightningModule):
    """What somebody else would write around the network."""

    def __init__(self, network: C3D) -> None:
        super().__init__()
        self.network = network
        self.seen: list[int] = []

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        clips, targets = batch
        self.seen.append(len(targets))
        return nn.functional.cross_entropy(self.network(clips), targets)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.seen.append(-len(batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-4)


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")  # inside Lightning
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_the_data_module_feeds_a_trainer_of_ones_own(
    tiny_network: C3D, moving_square: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [("a/0.mp4", "train"), ("b/1.mp4", "train"), ("a/2.mp4", "train"), ("b/3.mp4", "val")]
    for seed, (path, _) in enumerate(rows):
        moving_square(tmp_path / path, n_frames=18, height=48, width=64, seed=seed)
    dataset = Dataset(tuple(Example(path, path[0], split) for path, split in rows), ("a", "b"), root=tmp_path)
    data = ClipDataModule(
        dataset,
        plan=ClipPlan(clip_length=8, stride_frames=8),
        profile=tiny_network.profile,
        mean_volume=tiny_network.mean_volume,
        batch_size=2,
    )
    module = Classifier(tiny_network.train())
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(max_epochs=1, accelerator="cpu", num_sanity_val_steps=0, default_root_dir=tmp_path, **quiet)
    trainer.fit(module, datamodule=data)
    assert module.seen == [2, -2]  # one of three training clips is left out; two whole clips of the plan
    assert data.classes == ("a", "b")
    with pytest.raises(DatasetError, match="no example is in the split 'test'"):
        data.setup("test")
