"""Photos in packages: some to calibrate with, others to judge by; none is in both, nor two of one scene."""

from __future__ import annotations

import functools
from pathlib import Path

from benchmarks.accuracy.task import package

_PACKAGES = {
    "gradio": ("6.31.0", "gradio"),
    "scikit-image": ("0.26.0", "skimage/data"),
    "scikit-learn": ("1.5.2", "sklearn/datasets/images"),
    "ultralytics": ("8.4.190", "ultralytics/assets"),
    "imgaug": ("0.4.0", "imgaug"),
    "matplotlib": ("3.11.2", "matplotlib/mpl-data/sample_data"),
}

_CALIBRATION = {
    "gradio": (
        *("media_assets/images/cheetah.jpg", "media_assets/images/cheetah1.jpg", "test_data/cheetah2.jpg"),
        "media_assets/images/groot.jpeg",
    ),
    "scikit-image": ("astronaut.png", "camera.png", "coins.png", "brick.png", "grass.png", "hubble_deep_field.jpg"),
    "scikit-learn": ("china.jpg",),
    "ultralytics": ("zidane.jpg",),
}

_JUDGED = {
    "scikit-image": ("chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"),
    "gradio": ("media_assets/images/lion.jpg", "media_assets/images/tower.jpg"),
    "ultralytics": ("bus.jpg",),
    "scikit-learn": ("flower.jpg",),
    "imgaug": ("quokka.jpg",),
    "matplotlib": ("grace_hopper.jpg",),
}


def _files(chosen: dict[str, tuple[str, ...]]) -> list[Path]:
    found = []
    for name, files in chosen.items():
        version, folder = _PACKAGES[name]
        found += [package(name, version) / folder / file for file in files]
    return found


@functools.cache
def calibration_photos() -> list[Path]:
    """Twelve, of animals, people, a city, textures and the sky."""
    return _files(_CALIBRATION)


@functools.cache
def judged_photos() -> list[Path]:
    """Ten others."""
    return _files(_JUDGED)


@functools.cache
def labelled_photos() -> list[Path]:
    """Twenty others, whose name ends with the number of the class."""
    return sorted((package("foolbox", "3.3.4") / "foolbox" / "data").glob("imagenet_*.jpg"))
