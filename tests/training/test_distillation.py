"""Distillation's parts: motion labels of moving stills, kept maps of teachers, media, inputs and teachers."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from c3dvideo.errors import DatasetError, MissingExtraError, UsageError
from c3dvideo.training.distillation import moving_stills
from c3dvideo.training.distillation.distillation_inputs import TeacherChoice, find_inputs
from c3dvideo.training.distillation.distillation_media import load_media
from c3dvideo.training.distillation.distillation_settings import DistilSettings
from c3dvideo.training.distillation.moving_stills import DIRECTIONS, NO_TARGET, move_stills, view_clips
from c3dvideo.training.distillation.student_batches import StudentBatches
from c3dvideo.training.distillation.student_heads import StudentHeads
from c3dvideo.training.distillation.teacher import Teacher, load_teacher, read_vectors
from c3dvideo.training.distillation.teacher_targets import given_vectors, teacher_of_views, teacher_once

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def angle_of(direction: torch.Tensor) -> torch.Tensor:
    """Angles of direction classes, 0 to the right and a quarter turn down the screen."""
    return (direction - 1) * (math.pi / 4)


def landmark_places(camera: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Where points (N, 2) of the picture are on the screen, (N, T, 2): the inverse of the lookups."""
    inverse = torch.linalg.inv(camera[..., :2])
    return torch.einsum("ntij,ntj->nti", inverse, points[:, None] - camera[..., 2])


def drawn_camera(n: int, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return moving_stills._camera(moving_stills._Draws(n, generator(seed)), 16)


def test_a_landmark_moves_the_way_that_the_pan_says() -> None:
    """Also in mirrored pictures: directions are those on the screen."""
    camera, targets = drawn_camera(400, 1)
    assert (torch.linalg.det(camera[:, 0, :, :2]) < 0).float().mean() > 0.4, "half of the pictures are mirrored"
    in_sight = camera[:, 8, :, 2]  # what is in the middle of the screen half-way
    places = landmark_places(camera, in_sight)
    way = places[:, -1] - places[:, 0]
    simple = (targets["zoom"] == 0) & (targets["turn"] == 0)
    moves = simple & (targets["pan"] > 0)
    error = torch.atan2(way[moves, 1], way[moves, 0]) - angle_of(targets["pan"][moves])
    assert (torch.atan2(error.sin(), error.cos()).abs() < math.pi / 4).all()
    assert way[simple & (targets["pan"] == 0)].norm(dim=1).max() < 0.1
    assert moves.sum() > 40


def test_what_zooms_in_grows_and_what_turns_clockwise_turns_so() -> None:
    camera, targets = drawn_camera(400, 2)
    centre = camera[:, 8, :, 2]
    right = centre + camera[:, 8, :, 0] * 0.5  # half a screen to the right half-way
    arm = landmark_places(camera, right) - landmark_places(camera, centre)
    growth = arm[:, -1].norm(dim=1) / arm[:, 0].norm(dim=1)
    assert growth[targets["zoom"] == 1].min() > 1.09 and growth[targets["zoom"] == 2].max() < 1 / 1.09
    assert (growth[targets["zoom"] == 0] - 1).abs().max() < 0.01
    # y points down, so clockwise on the screen is from right towards down: a growing angle.
    turned = torch.atan2(arm[:, -1, 1], arm[:, -1, 0]) - torch.atan2(arm[:, 0, 1], arm[:, 0, 0])
    names = moving_stills.MOTIONS["turn"]
    assert turned[targets["turn"] == names.index("clockwise")].min() > 0.09
    assert turned[targets["turn"] == names.index("anticlockwise")].max() < -0.09


def test_a_bright_dot_on_the_screen_moves_as_labelled() -> None:
    """The pixels themselves, not the lookups: the centre of brightness of a dot, in clips where it stays in sight."""
    stills = torch.zeros(256, 3, 60, 80, dtype=torch.uint8)
    stills[:, :, 28:32, 37:43] = 255
    camera, targets = drawn_camera(256, 3)
    clips = moving_stills._look(stills.float(), camera, 48)[:, 0]
    axis = (torch.arange(48) + 0.5) / 24 - 1
    mass = clips.sum((2, 3))
    x, y = (clips.sum(2) * axis).sum(2) / mass, (clips.sum(3) * axis).sum(2) / mass
    in_sight = (torch.stack([x, y]).abs() < 0.7).all(2).all(0) & (mass.amin(1) > 0)
    asked = in_sight & (targets["pan"] > 0) & (targets["zoom"] == 0) & (targets["turn"] == 0)
    error = torch.atan2(y[:, -1] - y[:, 0], x[:, -1] - x[:, 0]) - angle_of(targets["pan"])
    assert asked.sum() >= 10
    assert (torch.atan2(error.sin(), error.cos())[asked].abs() < math.pi / 4).float().mean() > 0.9


def test_a_patch_moves_as_labelled() -> None:
    patch = moving_stills._Patch.drawn(moving_stills._Draws(300, generator(4)), 16)
    way = patch.places[:, -1] - patch.places[:, 0]
    moves = patch.target > 0
    error = torch.atan2(way[moves, 1], way[moves, 0]) - angle_of(patch.target[moves])
    assert (torch.atan2(error.sin(), error.cos()).abs() < math.pi / 8).all()
    assert not way[patch.target == DIRECTIONS.index("still")].any()
    assert ((patch.opacity == 1) == (patch.target != NO_TARGET)).all(), "blended pictures have no direction"
    # The pixels: a white patch over black clips.
    clips = patch.over(torch.zeros(300, 1, 16, 32, 32), torch.full((300, 1, 8, 8), 255.0), slice(None), 32)[:, 0]
    axis = (torch.arange(32) + 0.5) / 16 - 1
    x = (clips.sum(2) * axis).sum(2) / clips.sum((2, 3)).clamp(min=1)
    inside = (patch.places.abs() + patch.half[:, None]).amax((1, 2)) < 1
    right = inside & (patch.target == DIRECTIONS.index("right"))
    left = inside & (patch.target == DIRECTIONS.index("left"))
    assert right.any() and left.any()
    assert (x[right, -1] > x[right, 0]).all() and (x[left, -1] < x[left, 0]).all()


def test_clips_come_from_the_generator_alone() -> None:
    stills = torch.randint(256, (6, 3, 30, 40), dtype=torch.uint8)
    one, same, other = (move_stills(stills, frames=16, size=32, generator=generator(seed)) for seed in (5, 5, 6))
    assert one.clips.equal(same.clips) and one.teacher_views(48).equal(same.teacher_views(48))
    assert not one.clips.equal(other.clips)
    assert one.clips.shape == (6, 3, 16, 32, 32) and one.clips.min() >= 0 and one.clips.max() <= 255
    assert {task: len(target) for task, target in one.targets.items()} == dict.fromkeys(moving_stills.MOTIONS, 6)


def test_views_of_real_clips_keep_the_frames_and_have_no_motion_target() -> None:
    clips = torch.arange(16, dtype=torch.uint8).view(1, 1, 16, 1, 1).expand(3, 3, 16, 32, 43) * 12
    found = view_clips(clips, clips[:, :, 8], size=32, generator=generator())
    brightness = found.clips.mean((1, 3, 4))
    assert (brightness[:, 1:-1].diff(dim=1) > -1).all() and brightness[0, -1] > brightness[0, 0]
    assert all((target == NO_TARGET).all() for target in found.targets.values())
    assert found.teacher_views(24).shape == (3, 3, 24, 24)


def toy_teacher(*, cells: int = 8, width: int = 3) -> Teacher:
    """Means of the colours over cells x cells places: what a convolutional teacher does, without weights."""

    def encode(pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(pictures, cells)[:, [0, 1, 2] * (width // 3)]

    return Teacher(
        name="toy", size=64, width=width, mean=(0.0,), std=(255.0,), encode=encode, identity=f"toy{width}", source="toy"
    )


@pytest.fixture
def smooth_pictures(tmp_path: Path) -> Path:
    """A folder of eight smooth pictures and a licence."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(8):
        coarse = np.random.default_rng(number).integers(0, 255, (4, 5, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((80, 60), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number}.png")
    (folder / "LICENSE").write_text("# Pictures\n\nCC0 1.0 Universal\n")
    return folder


def test_cached_targets_equal_those_of_views_on_smooth_pictures(
    smooth_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the light of the views left out: within 0.04 of the range 0..1 for vectors; 0.04 on average for maps."""
    monkeypatch.setenv("C3DVIDEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(moving_stills, "_light", lambda draws: lambda clips: clips)
    media = load_media(find_inputs(images=[smooth_pictures]), tmp_path / "clips", side=64, clips_per_video=2)
    batch = StudentBatches(media, DistilSettings(batch_size=32, size=32, generated=0), device=CPU).batch(0)
    vectors, maps = teacher_of_views(toy_teacher())(batch)
    kept_vectors, kept_maps = teacher_once(toy_teacher(), media, device=CPU)(batch)
    assert (vectors - kept_vectors).abs().max() < 0.04
    assert (maps - kept_maps).abs().mean() < 0.04
    agreement = torch.corrcoef(torch.stack([vectors.flatten(), kept_vectors.flatten()]))[0, 1]
    assert agreement > 0.98, "views differ by much more than the tolerance"


def test_the_teacher_runs_once_per_content(
    smooth_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("C3DVIDEO_CACHE", str(tmp_path / "cache"))
    (smooth_pictures / "copy.png").write_bytes((smooth_pictures / "0.png").read_bytes())
    media = load_media(find_inputs(images=[smooth_pictures]), tmp_path / "clips", side=64, clips_per_video=2)
    wide = toy_teacher(width=600)
    targets = teacher_once(wide, media, device=CPU)
    files = sorted((tmp_path / "cache/distillation" / wide.identity).rglob("*.npy"))
    assert len(files) == 8 and targets.width == 256, "the copy shares its map; wide maps are projected"
    files[0].write_bytes(files[0].read_bytes()[:100])
    seen: list[int] = []
    counting = Teacher(**{**vars(wide), "encode": lambda x: (seen.append(len(x)), wide.encode(x))[1]})
    batch = StudentBatches(media, DistilSettings(batch_size=4, size=32, generated=0), device=CPU).batch(0)
    again = teacher_once(counting, media, device=CPU)
    assert seen == [1], "only the damaged map is computed again"
    assert again(batch)[0].equal(targets(batch)[0])


def test_videos_are_cut_into_clips_and_mixed_in(
    smooth_pictures: Path, tmp_path: Path, moving_square: Callable[..., Path]
) -> None:
    moving_square(tmp_path / "videos/a.mp4", n_frames=130)
    moving_square(tmp_path / "videos/short.mp4", n_frames=12, seed=1)
    (tmp_path / "videos/bad.mp4").write_bytes(b"no video")
    inputs = find_inputs(images=[smooth_pictures], videos=[tmp_path / "videos"])
    media = load_media(inputs, tmp_path / "clips", side=64, clips_per_video=3)
    assert [Path(path).name for path in media.unreadable] == ["bad.mp4", "short.mp4"]
    assert [int(key.partition("-")[2]) for key in media.clip_keys] == [0, 64, 96], "evenly spaced, of eight"
    again = load_media(inputs, tmp_path / "clips", side=64, clips_per_video=3, workers=2)
    assert again.digest() == media.digest() and again.picture_names == media.picture_names
    index = torch.tensor([2])
    clip, middle = media.clips(index), media.middles(index)
    assert clip.shape == (1, 3, 16, 128, 171) and middle.shape == (1, 3, 192, 256)
    small = torch.nn.functional.interpolate(middle.float(), size=(128, 171), mode="bilinear", antialias=True)
    assert (small - clip[:, :, 8].float()).abs().mean() < 6, "the teacher sees the clip's middle frame"
    settings = DistilSettings(batch_size=8, size=32, generated=0, video_share=0.25)
    batch = StudentBatches(media, settings, device=CPU).batch(3)
    assert [(views.kind, len(views.index)) for views in batch.views] == [("pictures", 6), ("clips", 2)]
    assert batch.clips.shape == (8, 3, 16, 32, 32)
    assert (batch.targets["pan"][:6] != NO_TARGET).all() and (batch.targets["pan"][6:] == NO_TARGET).all()
    assert batch.clips.equal(StudentBatches(media, settings, device=CPU).batch(3).clips)


def test_inputs_have_origins_with_licences(smooth_pictures: Path, tmp_path: Path) -> None:
    inputs = find_inputs(images=[smooth_pictures])
    assert inputs.origins == ({"folder": "pictures", "kind": "pictures", "files": 8, "licence": "CC0 1.0 Universal"},)
    assert [source.name for source in inputs.pictures] == [f"{number}.png" for number in range(8)]
    assert find_inputs(images=[smooth_pictures], source_note="mine").origins[0]["licence"] == "mine"
    (smooth_pictures / "LICENSE").unlink()
    assert find_inputs(images=[smooth_pictures]).origins[0]["licence"] == "not stated"
    (smooth_pictures / "README.md").write_text("Pictures of things\nLicence: CC BY 4.0\n")
    assert find_inputs(images=[smooth_pictures]).origins[0]["licence"] == "Licence: CC BY 4.0"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no picture below"):
        find_inputs(images=[tmp_path / "empty"])
    with pytest.raises(UsageError, match="there is no folder"):
        find_inputs(images=[tmp_path / "missing"])
    with pytest.raises(UsageError, match="nothing to learn from"):
        find_inputs()
    (tmp_path / "empty/bad.jpg").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"0 pictures and 0 clips.*bad\.jpg"):
        load_media(find_inputs(images=[tmp_path / "empty"]), tmp_path / "clips", side=64, clips_per_video=2)


def test_vectors_are_found_by_name(smooth_pictures: Path, tmp_path: Path) -> None:
    media = load_media(find_inputs(images=[smooth_pictures]), tmp_path / "clips", side=64, clips_per_video=2)
    path = tmp_path / "vectors.npz"
    rows = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    np.savez(path, **{f"{number}": row for number, row in enumerate(rows)})
    targets = given_vectors(read_vectors(path), media, device=CPU)
    batch = StudentBatches(media, DistilSettings(batch_size=4, size=32, generated=0), device=CPU).batch(0)
    vectors, _ = targets(batch)
    uncovered = batch.views[0].moving.targets["patch"] == NO_TARGET
    wanted = torch.from_numpy(rows)[batch.views[0].index]
    assert not targets.has_map and vectors.shape == (4, 5) and uncovered.any()
    assert torch.nn.functional.cosine_similarity(vectors, wanted)[uncovered].median() > 0.8
    np.savez(path, **{"0.png": rows[0]})
    with pytest.raises(UsageError, match=r"no vector for 7 pictures or videos, such as 1\.png"):
        given_vectors(read_vectors(path), media, device=CPU)
    np.savez(path, **{"0": rows[0], "1": rows[1][:3]})
    with pytest.raises(UsageError, match=r"lengths \[3, 5\]"):
        read_vectors(path)
    path.write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"no whole \.npz"):
        read_vectors(path)


def onnx_encoder(path: Path, *, batch: int | str = "n", vectors: bool = False) -> Path:
    """An ONNX network that averages 16 x 16 pixels, or the whole picture."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    if vectors:
        nodes = [
            helper.make_node("GlobalAveragePool", ["pictures"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["out"]),
        ]
        shape = [batch, 3]
    else:
        nodes = [helper.make_node("AveragePool", ["pictures"], ["out"], kernel_shape=[16, 16], strides=[16, 16])]
        shape = [batch, 3, 2, 2]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("pictures", kind, [batch, 3, 32, 32])],
        [helper.make_tensor_value_info("out", kind, shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_an_onnx_teacher_takes_its_own_size_mean_and_scale(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pictures = 255 * torch.rand(5, 3, 32, 32)
    for batch in ("n", 2):
        choice = TeacherChoice(str(onnx_encoder(tmp_path / "t.onnx", batch=batch)), 32, (100.0, 110.0, 120.0), (50.0,))
        teacher = load_teacher(choice, device=CPU)
        vectors, maps = teacher(pictures)
        wanted = (pictures.mean((2, 3)) - torch.tensor([100.0, 110.0, 120.0])) / 50
        assert teacher.has_map and vectors.allclose(wanted, atol=1e-4) and maps.shape == (5, 3, 4, 4)
    plain = load_teacher(TeacherChoice(str(onnx_encoder(tmp_path / "v.onnx", vectors=True)), 32), device=CPU)
    assert not plain.has_map and plain.identity != teacher.identity and plain(pictures)[0].shape == (5, 3)
    with pytest.raises(UsageError, match=r"does not take pictures.*`teacher_size=`"):
        load_teacher(TeacherChoice(str(tmp_path / "t.onnx"), 48), device=CPU)
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(UsageError, match="is no ONNX network"):
        load_teacher(TeacherChoice(str(tmp_path / "bad.onnx"), 32), device=CPU)


def test_wrong_teachers_are_reported_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        TeacherChoice(str(tmp_path / "missing.onnx")).check()
    with pytest.raises(UsageError, match=r"expected 'efficientnet-lite2', the path of an \.onnx"):
        TeacherChoice("resnet").check()
    (tmp_path / "t.onnx").touch()
    for arguments, problem in (
        ({"mean": (1.0, 2.0)}, "`teacher_mean=` has 2 numbers"),
        ({"std": (0.0,)}, "`teacher_std=` is 0.0"),
        ({"size": 4}, "`teacher_size=` is 4"),
    ):
        with pytest.raises(UsageError, match=problem):
            TeacherChoice(str(tmp_path / "t.onnx"), **arguments).check()  # type: ignore[arg-type]
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(MissingExtraError, match=r"c3dvideo\[teacher\]"):
        TeacherChoice("efficientnet-lite2").check()


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_steps", 0), ("batch_size", 3), ("size", 40), ("size", 128), ("generated", 0.9), ("learning_rate", 0.0)],
)
def test_wrong_settings_are_named(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"`{name.removeprefix('n_')}=` is {value}"):
        DistilSettings(**{name: value})  # type: ignore[arg-type]


def test_the_heads_leave_out_what_has_no_target(narrow_network: object) -> None:
    heads = StudentHeads(narrow_network, teacher_width=6)  # type: ignore[arg-type]
    activations = {
        "conv4b": torch.rand(4, 8, 2, 7, 7),
        "conv5b": torch.rand(4, 8, 1, 4, 4),
        "pool5": torch.rand(4, 8, 1, 4, 4),
        "fc6": torch.rand(4, 16),
    }
    unknown = dict.fromkeys(moving_stills.MOTIONS, torch.full((4,), NO_TARGET))
    losses, _ = heads(activations, torch.randn(4, 6), None, unknown)
    assert set(losses) == {"vector", "contrast", "relation"}
    known = {task: torch.zeros(4, dtype=torch.int64) for task in moving_stills.MOTIONS}
    losses, found = heads(activations, torch.randn(4, 6), torch.randn(4, 6, 4, 4), known)
    assert set(losses) == {"vector", "contrast", "relation", "map", "motion"}
    assert all(bool(loss.isfinite()) for loss in losses.values()) and "pan pool5" in found
