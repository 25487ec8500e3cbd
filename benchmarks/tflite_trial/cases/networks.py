"""The networks of keras.applications, with random weights, on photos."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.tflite_trial.case import ALL, Built, case, random_of

A = tf.keras.applications

NETWORKS: dict[str, tuple[Callable[..., Any], int, tuple[float, float]]] = {
    "MobileNet": (A.MobileNet, 160, (-1, 1)),
    "MobileNetV2": (A.MobileNetV2, 160, (-1, 1)),
    "MobileNetV3Small": (A.MobileNetV3Small, 160, (0, 255)),
    "MobileNetV3Large": (A.MobileNetV3Large, 160, (0, 255)),
    "EfficientNetB0": (A.EfficientNetB0, 160, (0, 255)),
    "EfficientNetV2B0": (A.EfficientNetV2B0, 160, (0, 255)),
    "ResNet50": (A.ResNet50, 128, (-1, 1)),
    "DenseNet121": (A.DenseNet121, 128, (-1, 1)),
    "NASNetMobile": (A.NASNetMobile, 160, (-1, 1)),
    "InceptionV3": (A.InceptionV3, 139, (-1, 1)),
    "Xception": (A.Xception, 128, (-1, 1)),
    "ConvNeXtTiny": (A.ConvNeXtTiny, 128, (0, 255)),
}


def photos(size: int, low: float, high: float) -> list[np.ndarray]:
    """What PHOTOS (an .npy of (N, H, W, 3) bytes) has, in this size; each a batch of one, and three together."""
    pictures = np.load(os.environ["PHOTOS"])
    resized = np.asarray(tf.image.resize(pictures, (size, size)), np.float32) / 255 * (high - low) + low
    return [resized[:1], resized[1:2], resized[2:5]]


def network(name: str, make: Callable[..., Any], size: int, between: tuple[float, float]) -> Callable[[], Built]:
    def build() -> Built:
        tf.keras.utils.set_random_seed(zlib.crc32(name.encode()) % 2**31)
        made = make(weights=None, input_shape=(size, size, 3), classes=100)
        pictures = photos(size, *between)
        settle(made, np.concatenate(pictures))
        spec = tf.TensorSpec((None, size, size, 3), tf.float32, name="image")
        image = tf.keras.Input((size, size, 3), name="image")
        model = tf.keras.Model(image, made(image))
        return Built(model, [spec], [{"image": picture} for picture in pictures], model, samples=1)

    return build


def settle(made: Any, pictures: np.ndarray) -> None:
    """Give batch normalization the statistics that it would have learnt, and the rest weights that are not all one."""
    for each in made._flatten_layers():
        if isinstance(each, tf.keras.layers.BatchNormalization):
            each.momentum = 0.0
            random = random_of(each.name)
            for weight in (each.gamma, each.beta):
                if weight is not None:
                    begun = np.asarray(weight)
                    weight.assign(begun + random.normal(0, 0.1, begun.shape).astype(np.float32))
    made(pictures, training=True)


for name, (make, size, between) in NETWORKS.items():
    forms = ALL if name in ("MobileNetV2", "EfficientNetB0") else ("float32", "int8")
    case(f"networks/{name}", forms)(network(name, make, size, between))
