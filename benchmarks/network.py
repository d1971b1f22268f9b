"""Seconds per clip up to fc6: ours, plain PyTorch as the ports run it, and the runtimes one would export to."""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from shutil import which
from statistics import median
from time import perf_counter, process_time

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.turns import Row, rows_of, take_turns
from c3dvideo.inference.cpu import kernels
from c3dvideo.inference.cpu.overlap import longest_chain
from c3dvideo.inference.cpu.winograd_network import WinogradNetwork
from c3dvideo.network.c3d import C3D, c3d

EAGER = "PyTorch eager, as the ports run it"
OURS = "c3dvideo, compiled"
GFLOP_A_CLIP = 2 * 38.5
OPENVINO_DEFAULT = "OpenVINO, its default precision"
DEFAULT_TOLERANCE = 3e-2  # of bfloat16
TOLERANCE = 1e-4

Run = Callable[[Tensor], Tensor]


def seeded_network() -> C3D:
    """The network of the release with weights that keep activations at the scale of its input."""
    torch.manual_seed(0)
    return c3d(filler="xavier").eval()


class ToFc6(nn.Module):
    """The network cut after fc6, for exporters."""

    def __init__(self, network: C3D) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        return self.network.activations(clips, ["fc6"])["fc6"]


def measure(*, quick: bool) -> Iterator[Row]:
    """Wall seconds for one clip per call and for eight, beside a matrix product that is measured in the same turns."""
    for batch in (1,) if quick else (1, 8):
        yield from _compare(
            f"network batch {batch}", batch, rounds=5 if quick else 15, clock=perf_counter, slow=not quick
        )


def measure_one_core(*, quick: bool) -> Iterator[Row]:
    """Processor seconds on one thread: the same comparison, little disturbed by whatever else the machine does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for batch in (1, 8):
            yield from _compare(
                f"one core batch {batch}", batch, rounds=3 if quick else 9, clock=process_time, slow=False
            )
    finally:
        torch.set_num_threads(threads)


def _compare(section: str, batch: int, *, rounds: int, clock: Callable[[], float], slow: bool) -> Iterator[Row]:
    network = seeded_network()
    square = torch.randn(2048, 2048)
    clips = 60 * torch.randn(batch, 3, 16, 112, 112)
    ways = dict(_ways(network, clips, slow=slow))
    with torch.inference_mode():
        expected = ways[EAGER](clips)
        for name, run in ways.items():
            distance = float((run(clips) - expected).norm() / expected.norm())
            if not distance < (DEFAULT_TOLERANCE if name == OPENVINO_DEFAULT else TOLERANCE):
                raise SystemExit(f"{name} computes something else: relative L2 distance {distance:.2g} to eager")
            yield Row(section=section, name=f"distance of {name}", value=distance, unit="relative L2")
        runs: dict[str, Callable[[], object]] = {name: partial(run, clips) for name, run in ways.items()}
        seconds = take_turns({**runs, "matrix product": lambda: square @ square}, rounds=rounds, clock=clock)
    rate = 2 * 2048**3 / median(seconds.pop("matrix product")) / 1e9
    yield from rows_of(section, seconds, against=EAGER, per=batch, unit="s/clip")
    if "OpenVINO" in seconds and OURS in seconds:
        ratio = median(one / other for one, other in zip(seconds[OURS], seconds["OpenVINO"], strict=True))
        value = median(seconds[OURS]) / batch
        yield Row(section=section, name=f"{OURS} again", value=value, unit="s/clip", against="OpenVINO", ratio=ratio)
    yield Row(section=section, name="matrix product rate", value=rate, unit="GFLOP/s")
    yield Row(section=section, name="direct wall", value=GFLOP_A_CLIP / rate, unit="s/clip")


def _ways(network: C3D, clips: Tensor, *, slow: bool) -> Iterator[tuple[str, Run]]:
    cut = ToFc6(network).eval()
    yield EAGER, cut
    last = deepcopy(cut).to(memory_format=torch.channels_last_3d)
    yield "PyTorch channels_last_3d", lambda x: last(x.to(memory_format=torch.channels_last_3d))
    if slow and (which("c++") or which("g++")):
        yield "torch.compile", torch.compile(cut)
    yield from _exported(cut, clips)
    library = kernels.load()
    if library is not None:
        library = kernels.Kernels(library.library, n_threads=torch.get_num_threads())
        compiled = WinogradNetwork(network, ["fc6"], kernels=library)
        yield OURS, lambda x: compiled(x)["fc6"]
    plain = WinogradNetwork(network, ["fc6"], kernels=None)
    yield "c3dvideo, plain PyTorch", lambda x: plain(x)["fc6"]


def _exported(cut: nn.Module, clips: Tensor) -> Iterator[tuple[str, Run]]:
    """ONNX Runtime and OpenVINO, where they are installed."""
    try:
        import onnx  # noqa: F401
    except ImportError:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "c3d.onnx")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(cut, (clips,), str(path), dynamo=False, input_names=["clips"], output_names=["fc6"])
        try:
            import onnxruntime
        except ImportError:
            pass
        else:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.add_session_config_entry("session.force_spinning_stop", "1")  # or it steals the next one's time
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            yield "ONNX Runtime", lambda x: torch.from_numpy(session.run(None, {"clips": x.numpy()})[0])
        try:
            import openvino
        except ImportError:
            return
        threads = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        # Its default is bfloat16 where the processor multiplies that: what a user gets who sets nothing.
        for name, precision in (("OpenVINO", {"INFERENCE_PRECISION_HINT": "f32"}), (OPENVINO_DEFAULT, {})):
            model = openvino.Core().compile_model(str(path), "CPU", {**threads, **precision})
            yield name, lambda x, model=model: torch.from_numpy(np.array(model(x.numpy())[0]))


def measure_overlap(*, quick: bool) -> Iterator[Row]:
    """Seconds per clip with and without sharing what overlapping clips have in common, by stride."""
    library = kernels.load()
    if library is None:
        return
    fast = WinogradNetwork(seeded_network(), ["fc6"], kernels=library)
    for stride in (8, 4, 2, 1):
        n_clips = longest_chain(stride)
        frames = 60 * torch.randn(3, 16 + stride * (n_clips - 1), 112, 112)
        starts = range(0, stride * n_clips, stride)
        ways = {
            "separate": lambda frames=frames, starts=starts: fast(frames[:, one : one + 16] for one in starts),
            "shared": lambda frames=frames, starts=starts: fast.run([(frames, starts)]),
        }
        assert torch.equal(ways["separate"]()["fc6"], ways["shared"]()["fc6"])
        seconds = take_turns(ways, rounds=3 if quick else 9)
        yield from rows_of(f"overlap stride {stride}", seconds, against="separate", per=n_clips, unit="s/clip")


def measure_precisions(*, quick: bool) -> Iterator[Row]:
    """What 16-bit weights and activations cost in fc6, computed on the CPU with float32 sums, as a GPU would."""
    from c3dvideo.choices import Precision
    from c3dvideo.inference.direct import DirectNetwork

    network = seeded_network()
    clips = 60 * torch.randn(1 if quick else 4, 3, 16, 112, 112)
    device = torch.device("cpu")
    with torch.inference_mode():
        expected = deepcopy(network).double().activations(clips.double(), ["fc6"])["fc6"]
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
    found = {one: DirectNetwork(network, ["fc6"], device=device, precision=one)(clips)[0]["fc6"] for one in precisions}
    found["fp32, winograd"] = WinogradNetwork(network, ["fc6"], kernels=kernels.load())(clips)["fc6"]
    for name, y in found.items():
        distance = float((y.double() - expected).norm() / expected.norm())
        cosine = float(nn.functional.cosine_similarity(y.double(), expected).mean())
        yield Row(section="precision", name=f"{name}: distance", value=distance, unit="relative L2")
        yield Row(section="precision", name=f"{name}: cosine", value=cosine, unit="cosine")
