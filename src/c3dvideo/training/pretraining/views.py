"""Draw random views of clips: crop, colour and blur, with the target maps cropped in the same way."""

import torch
from torch import Tensor
from torch.nn import functional


def random_view(clips: Tensor, maps: Tensor, *, crop: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Clips with a random crop, exposure, colour mix, blur and black bars, the same in all frames of a clip.

    clips: uint8 (N, 3, T, H, W). maps: uint8 (N, m, t, h, w). Returns float (N, 3, T, crop, crop) in 0..255, and the
    maps as int64 (N, m, t, crop / 2, crop / 2). No clip is mirrored or reversed, because the labels would change.
    """
    n_clips, _, n_frames, _, _ = clips.shape

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(n_clips, *shape, device=clips.device).uniform_(low, high, generator=generator)

    side, ratio = draw(0.2, 1.0).sqrt(), draw(-0.25, 0.25).exp()
    size = torch.stack([side * ratio, side / ratio], dim=1).clamp(max=1)
    lookup = torch.cat([torch.diag_embed(size), (draw(-1, 1, 2) * (1 - size))[:, :, None]], dim=2)
    view = _crop(clips.float().flatten(1, 2), lookup, crop, "bilinear").view(n_clips, 3, n_frames, crop, crop)
    shown = _crop(maps.float().flatten(1, 2), lookup, crop // 2, "nearest").long()
    mixing = torch.eye(3, device=clips.device) + draw(-0.3, 0.3, 3, 3)
    mixing = torch.lerp(mixing, torch.full_like(mixing, 1 / 3), (draw(0, 1, 1, 1) < 0.2).float())
    mean = view.mean(dim=(1, 2, 3, 4), keepdim=True)
    view = (view - mean) * draw(-0.5, 0.5, 1, 1, 1, 1).exp() + mean + draw(-40, 50, 1, 1, 1, 1)
    view = (torch.einsum("nij,njthw->nithw", mixing, view - 128) + 128).clamp(0, 255)
    soft = draw(0, 1) < 0.3
    blurred = functional.avg_pool2d(view[soft].flatten(1, 2), 3, 1, 1, count_include_pad=False)
    view[soft] = blurred.view(-1, 3, n_frames, crop, crop)
    bar = (draw(0, 0.14) * (draw(0, 1) < 0.3)).view(-1, 1, 1, 1, 1)
    down = torch.linspace(0, 1, crop, device=clips.device)[:, None]
    view = view * ((down >= bar) & (down <= 1 - bar))
    return view, shown.view(*maps.shape[:3], crop // 2, crop // 2)


def _crop(images: Tensor, lookup: Tensor, side: int, mode: str) -> Tensor:
    """Crops (N, C, side, side) of images (N, C, H, W) by the affine maps `lookup` (N, 2, 3)."""
    grid = functional.affine_grid(lookup, [len(images), 1, side, side], align_corners=False)
    return functional.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False)
