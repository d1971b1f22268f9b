"""The model card of a network: README.md beside published weights, filled from the attributes of the network.

    text = model_card(network, name="someone/c3d-ucf101", licence="cc-by-4.0", metrics={"UCF101, video@1": 0.82})

It states the architecture, how pixels become input, the classes, the data, the measured figures and the licence. What
nobody stated is called "not stated", so that a reader sees what is missing.
"""

import json
from collections.abc import Mapping
from typing import Any

from c3dvideo.network.described_network import DescribedNetwork

NOT_STATED = "not stated"
PAPER = "https://arxiv.org/abs/1412.0767"
_MOST_CLASSES = 20


def model_card(
    network: DescribedNetwork,
    *,
    name: str = "owner/name",
    licence: str | None = None,
    data: str | None = None,
    metrics: Mapping[str, float | str] | None = None,
) -> str:
    """The card as Markdown with a YAML header, as model hubs read it.

    name: hub id, for the example. licence: identifier such as "apache-2.0", or a sentence. data: what the network was
    trained on. metrics: measured figures by the name of the data and the measure.
    """
    profile = network.profile
    mean = "a volume in `model.safetensors`" if profile.mean == "volume" else _numbers(profile.mean)
    input_rows = {
        "profile": profile.name,
        "channel order": profile.channel_order.upper(),
        "resized to (height x width)": f"{profile.resize_height} x {profile.resize_width}, {profile.resize}",
        "crop": f"{profile.crop_size} x {profile.crop_size}",
        "mean": mean,
        "scale, std": f"{profile.scale:g}, {_numbers(profile.std)}",
        "pool5": network.architecture["pool5"],
    }
    parts = [
        _header(licence),
        f"# {name}",
        "C3D (Tran et al., [Learning Spatiotemporal Features with 3D Convolutional Networks]"
        f"({PAPER}), ICCV 2015): {network.architecture['clip_length']} frames in, "
        f"{network.fc6.out_features:,} numbers (fc6) or {network.architecture['num_classes']:,} classes out. "
        f"{sum(array.numel() for array in network.state_dict().values()):,} parameters.",
        "## Use",
        f'```python\nfrom c3dvideo import extract\n\nextract(["my_videos"], "features", weights="{name}")\n```',
        "## Data",
        data or _data_of(network.provenance),
        "## Input",
        _table(input_rows),
        "## Classes",
        _classes(network.classes),
        "## Measured",
        _table({key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in metrics.items()})
        if metrics
        else f"{NOT_STATED.capitalize()}.",
        "## Licence",
        licence or f"{NOT_STATED.capitalize()}: ask the publisher before you use these weights.",
        "## Provenance",
        f"```json\n{json.dumps(network.provenance, indent=2, ensure_ascii=False, default=str)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _header(licence: str | None) -> str:
    lines = [
        "library_name: c3dvideo",
        "pipeline_tag: video-classification",
        "tags: [c3d, video, feature-extraction, action-recognition]",
    ]
    # Hubs accept identifiers only in this field.
    if licence is not None and " " not in licence.strip():
        lines.insert(0, f"license: {licence.strip().lower()}")
    return "\n".join(["---", *lines, "---"])


def _data_of(provenance: Mapping[str, Any]) -> str:
    """What the provenance says about the training data."""
    told = [provenance[key] for key in ("source", "data", "dataset", "layout") if isinstance(provenance.get(key), str)]
    return f"{told[0].rstrip('.')}." if told else f"{NOT_STATED.capitalize()}."


def _classes(names: tuple[str, ...]) -> str:
    if not names:
        return "No names; outputs are numbered."
    more = f", and {len(names) - _MOST_CLASSES:,} more in `labels.txt`" * (len(names) > _MOST_CLASSES)
    return ", ".join(names[:_MOST_CLASSES]) + more


def _table(rows: Mapping[str, object]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {_cell(key)} | {_cell(str(rows[key]))} |" for key in rows)])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _numbers(values: object) -> str:
    return ", ".join(f"{value:g}" for value in values) if isinstance(values, tuple) else str(values)
