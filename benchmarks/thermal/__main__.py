"""`python -m benchmarks.thermal MODEL`: simulated temperatures of a video stream, governed and not.

python -m benchmarks.thermal model.onnx --shape x=1x3x640x640 --chart heat.png
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.thermal.network import IDLE_WATTS, WATTS_PER_BUSY_PROCESSOR
from benchmarks.thermal.simulate import Course, FrameCost, simulate
from mace_core import Session
from mace_core.governor import Ladder, Mode, default_rungs
from mace_core.governor.acting import Actor

STEADY_SECONDS = 600


def measure(
    model: str, shape: Sequence[int] | None, threads: int, modes: Sequence[Mode], frames: int
) -> dict[str, FrameCost]:
    """Processor time of a frame in each mode: the median of ``frames`` runs on this machine."""
    costs, actor = {}, Actor()
    with Session(model, devices=["cpu"], options={"cpu": {"threads": threads}}) as session:
        spec = session.inputs[0]
        sizes = session.assume_shapes({spec.name: shape} if shape else None).shapes[spec.name]
        feeds = {spec.name: np.random.default_rng(0).random(sizes, np.float32)}
        for _ in range(2):
            session.run(feeds)
        try:
            for mode in modes:
                actor.apply(mode)
                taken = []
                for _ in range(frames):
                    start = time.process_time()
                    session.run(feeds)
                    taken.append(time.process_time() - start)
                costs[mode.name] = FrameCost(statistics.median(taken), min(threads, mode.threads or threads))
        finally:
            actor.apply(Mode("full"))
    return costs


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.thermal", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--shape", metavar="1x3x640x640", help="of its first input")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fps", type=float, default=30.0, help="frames a second that the source gives")
    parser.add_argument("--minutes", type=int, default=60, help="of the simulated clock")
    parser.add_argument("--frames", type=int, default=9, help="real runs to measure in each mode")
    parser.add_argument("--chart", type=Path, metavar="FILE.png")
    given = parser.parse_args(arguments)
    shape = [int(size) for size in given.shape.split("x")] if given.shape else None
    rungs = default_rungs(given.threads)
    ladder = Ladder(rungs)
    costs = measure(given.model, shape, given.threads, ladder.modes, given.frames)
    say = sys.stdout.write
    say(f"measured on this machine, processor time of a frame of {Path(given.model).name}:\n")
    for mode in ladder.modes:
        cost = costs[mode.name]
        say(f"  {mode.name:9} {cost.processor_seconds * 1e3:7.1f} ms, {cost.threads} threads\n")
    say(
        f"simulated: a small device without a fan, {IDLE_WATTS} W idle and {WATTS_PER_BUSY_PROCESSOR} W for each busy "
        f"processor, a source of {given.fps:g} frames/s, {given.minutes} minutes\n"
    )
    courses = {
        "no governor": simulate(costs, given.fps, 60 * given.minutes, None),
        "governor": simulate(costs, given.fps, 60 * given.minutes, ladder),
    }
    say("mean of the last 10 minutes   die °C  skin °C  frames/s\n")
    for name, course in courses.items():
        die, skin, frames = course.last(STEADY_SECONDS)
        say(f"  {name:26}  {die:6.1f}   {skin:6.1f}    {frames:6.2f}\n")
    (hot, _, fast), (cool, _, slow) = (courses[name].last(STEADY_SECONDS) for name in ("no governor", "governor"))
    say(f"simulated: {hot - cool:.1f} degrees cooler; {1 - slow / fast:.0%} of the frames are lost\n")
    if given.chart is not None:
        draw(courses, given.chart, Path(given.model).name)
    return 0


def draw(courses: dict[str, Course], path: Path, model: str) -> None:
    """Temperatures and rates over the simulated clock."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(
        2, 1, sharex=True, figsize=(8, 5.2), height_ratios=(2, 1), layout="constrained"
    )
    for (name, course), color in zip(courses.items(), ("#c0392b", "#1f77b4"), strict=True):
        minutes = [second / 60 for second in range(len(course.die))]
        above.plot(minutes, course.die, color=color, linewidth=1.2, label=f"die, {name}")
        above.plot(minutes, course.skin, color=color, linewidth=1.2, linestyle="--", label=f"skin, {name}")
        below.plot(minutes, course.frames, color=color, linewidth=1.0, label=name)
    above.set_ylabel("simulated °C")
    above.set_title(f"Simulation: {model} on a small device without a fan", loc="left", fontsize=11)
    below.set_ylabel("frames/s")
    below.set_ylim(bottom=0)
    below.set_xlabel("minutes of the simulated clock")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    above.legend(frameon=False, fontsize=9, loc="lower right", ncols=2)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    sys.exit(main())
