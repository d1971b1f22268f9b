"""python -m benchmarks [--quick] [--out FOLDER] [SECTION...]"""

import argparse
import csv
import re
import sys
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import __doc__ as introduction
from benchmarks import exported, files, gpu, index, many_duplicates, network, planning, training
from benchmarks.plot import plot
from benchmarks.turns import Row
from c3dvideo.machine import n_cores, processor_name

SECTIONS = {
    "network": network.measure,
    "one-core": network.measure_one_core,
    "overlap": network.measure_overlap,
    "precision": network.measure_precisions,
    "export": exported.measure,
    "training": training.measure,
    "gpu": gpu.measure,
    "decoding": files.measure_decoding,
    "end-to-end": files.measure_end_to_end,
    "memory": files.measure_memory,
    "scaling": files.measure_scaling,
    "index": index.measure,
    "duplicates": many_duplicates.measure_duplicates,
    "start": files.measure_start,
    "planning": planning.measure_planning,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=introduction, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"some of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few rounds and small files: minutes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the CSV")
    parser.add_argument(
        "--plot", type=Path, metavar="CSV", help="draw docs/figures/speed.png from a CSV, and measure nothing"
    )
    arguments = parser.parse_args()
    if arguments.plot:
        plot(arguments.plot, Path(__file__).parents[1] / "docs" / "figures" / "speed.png")
        return
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"unknown section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    path = arguments.out / f"{datetime.now(UTC):%Y-%m-%d}-{machine()}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for name in arguments.sections or SECTIONS:
            for row in SECTIONS[name](quick=arguments.quick):
                writer.writerow({key: round_number(value) for key, value in asdict(row).items()})
                file.flush()
                ratio = "" if row.ratio is None else f"   {row.ratio:.3f} of {row.against}"
                print(f"{row.section:16} {row.name:44} {row.value:10.4g} {row.unit}{ratio}", flush=True)
    print(path, file=sys.stderr)


def machine() -> str:
    """The processor's name and the number of cores, fit for a file name."""
    return f"{re.sub(r'[^a-z0-9]+', '-', processor_name().lower()).strip('-')}-{n_cores()}-cores"


def round_number(value: object) -> object:
    return f"{value:.5g}" if isinstance(value, float) else "" if value is None else value


main()
