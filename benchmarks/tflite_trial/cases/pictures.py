"""Matrices, pictures, spectra."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from benchmarks.tflite_trial.case import ACTIVATIONS, Built, built, case, function

F, I, L, B = tf.float32, tf.int32, tf.int64, tf.bool  # noqa: E741
IMAGE = ((None, 9, 11, 3), F)
NUMBERS = ((4, 6), F)
ROWS = ((None, 6), F)

# Matrices
function("matrix/matmul", tf.matmul, ((3, 4), F), ((4, 5), F), forms=("float32", "int8", "int16x8"))
function("matrix/matmul_batch", tf.matmul, ((2, 3, 4), F), ((2, 4, 5), F), forms=("float32", "int8", "int16x8"))
function("matrix/matmul_broadcast", tf.matmul, ((2, 1, 3, 4), F), ((5, 4, 6), F), forms=("float32", "int8"))
function(
    "matrix/matmul_turned",
    lambda a, b: tf.matmul(a, b, transpose_a=True, transpose_b=True),
    ((2, 4, 3), F),
    ((2, 5, 4), F),
    forms=("float32", "int8"),
)
function(
    "matrix/matmul_constant",
    lambda a: tf.matmul(a, tf.random.stateless_normal((4, 5), [1, 2])),
    ((None, 3, 4), F),
    forms=("float32", "dynamic", "int8"),
)
function("matrix/matmul_vector", lambda a, b: tf.linalg.matvec(a, b), ((3, 4), F), ((4,), F))
function("matrix/matmul_int", tf.matmul, ((3, 4), I), ((4, 5), I), low=-9, high=9)
function("matrix/einsum", lambda a, b: tf.einsum("bij,bkj->bik", a, b), ((2, 3, 4), F), ((2, 5, 4), F))
function("matrix/einsum_four", lambda a, b: tf.einsum("bqhd,bkhd->bhqk", a, b), ((2, 3, 2, 4), F), ((2, 5, 2, 4), F))
function("matrix/tensordot", lambda a, b: tf.tensordot(a, b, [[1, 2], [0, 1]]), ((2, 3, 4), F), ((3, 4, 5), F))
function("matrix/diag", tf.linalg.diag, ROWS)
function("matrix/diag_part", tf.linalg.diag_part, ((2, 4, 4), F))
function("matrix/set_diag", tf.linalg.set_diag, ((2, 4, 4), F), ((2, 4), F))
function("matrix/band", lambda x: tf.linalg.band_part(x, 1, 0), ((2, 4, 4), F))
function("matrix/trace", tf.linalg.trace, ((2, 4, 4), F))
function("matrix/norm", lambda x: tf.norm(x, axis=1), NUMBERS)
function("matrix/cross", lambda a, b: tf.linalg.cross(a, b), ((4, 3), F), ((4, 3), F))
for name in ("inv", "det", "cholesky", "svd", "qr", "eigvalsh"):
    function(
        f"matrix/{name}",
        lambda x, n=name: getattr(tf.linalg, n)(tf.matmul(x, x, transpose_b=True) + tf.eye(3)),
        ((3, 3), F),
    )

# Pictures
for name in ("bilinear", "nearest", "bicubic", "area", "lanczos3", "mitchellcubic"):
    function(
        f"image/resize_{name}",
        lambda x, n=name: tf.image.resize(x, (6, 17), n),
        IMAGE,
        forms=ACTIVATIONS if name in ("bilinear", "nearest") else ("float32",),
    )
for align, half in ((True, False), (False, True), (False, False)):
    for kind in ("ResizeBilinear", "ResizeNearestNeighbor"):
        function(
            f"image/{kind}_{align:d}{half:d}",
            lambda x, k=kind, a=align, h=half: getattr(tf.raw_ops, k)(
                images=x, size=[6, 17], align_corners=a, half_pixel_centers=h
            ),
            IMAGE,
            forms=(*ACTIVATIONS, "uint8"),
        )
function("image/resize_dynamic", lambda x, n: tf.image.resize(x, n), IMAGE, ((2,), I), low=4, high=9)
function("image/resize_antialias", lambda x: tf.image.resize(x, (5, 6), antialias=True), IMAGE)
function("image/resize_uint8", lambda x: tf.image.resize(x, (6, 5)), ((None, 9, 11, 3), tf.uint8), low=0, high=255)
function(
    "image/resize_nearest_uint8",
    lambda x: tf.image.resize(x, (6, 5), "nearest"),
    ((None, 9, 11, 3), tf.uint8),
    low=0,
    high=255,
)
for name in (
    "flip_left_right",
    "flip_up_down",
    "rot90",
    "transpose",
    "per_image_standardization",
    "rgb_to_grayscale",
    "rgb_to_hsv",
    "hsv_to_rgb",
    "rgb_to_yiq",
    "rgb_to_yuv",
    "sobel_edges",
    "image_gradients",
):
    function(f"image/{name}", getattr(tf.image, name), IMAGE, low=0, high=1)
function("image/adjust_contrast", lambda x: tf.image.adjust_contrast(x, 1.5), IMAGE, low=0, high=1)
function("image/adjust_hue", lambda x: tf.image.adjust_hue(x, 0.2), IMAGE, low=0, high=1)
function("image/adjust_gamma", lambda x: tf.image.adjust_gamma(x, 0.7), IMAGE, low=0, high=1)
function("image/central_crop", lambda x: tf.image.central_crop(x, 0.5), IMAGE)
function("image/crop_or_pad", lambda x: tf.image.resize_with_crop_or_pad(x, 6, 15), IMAGE)
function("image/resize_pad", lambda x: tf.image.resize_with_pad(x, 12, 12), IMAGE)
function(
    "image/crop_and_resize",
    lambda x, b: tf.image.crop_and_resize(x, b, [0, 0], [4, 5]),
    ((1, 9, 11, 3), F),
    ((2, 4), F),
    low=0,
    high=1,
)
function("image/ssim", lambda a, b: tf.image.ssim(a, b, 1.0), ((1, 16, 16, 3), F), ((1, 16, 16, 3), F), low=0, high=1)
function("image/psnr", lambda a, b: tf.image.psnr(a, b, 1.0), IMAGE, IMAGE, low=0, high=1)
function("image/total_variation", tf.image.total_variation, IMAGE)
function(
    "image/convert_dtype", lambda x: tf.image.convert_image_dtype(x, F), ((None, 9, 11, 3), tf.uint8), low=0, high=255
)
function("image/nms", lambda b, s: tf.image.non_max_suppression(b, s, 5), ((12, 4), F), ((12,), F), low=0, high=1)
function(
    "image/nms_scores",
    lambda b, s: tf.image.non_max_suppression_with_scores(b, s, 5, soft_nms_sigma=0.5),
    ((12, 4), F),
    ((12,), F),
    low=0,
    high=1,
)
function(
    "image/nms_padded",
    lambda b, s: tf.image.non_max_suppression_padded(b, s, 5, pad_to_max_output_size=True),
    ((12, 4), F),
    ((12,), F),
    low=0,
    high=1,
)
function(
    "image/nms_combined",
    lambda b, s: tf.image.combined_non_max_suppression(b, s, 3, 5),
    ((1, 12, 1, 4), F),
    ((1, 12, 2), F),
    low=0,
    high=1,
)
function(
    "image/boxes",
    lambda x, b: tf.image.draw_bounding_boxes(x, b, [[1.0, 0.0, 0.0]]),
    ((1, 9, 11, 3), F),
    ((1, 2, 4), F),
    low=0,
    high=1,
)
function(
    "image/dilation",
    lambda x: tf.nn.dilation2d(x, tf.zeros((3, 3, 3)), [1, 1, 1, 1], "SAME", "NHWC", [1, 1, 1, 1]),
    IMAGE,
)
function("image/max_pool_argmax", lambda x: tf.nn.max_pool_with_argmax(x, 2, 2, "SAME"), IMAGE)
function("image/avg_pool_3x1", lambda x: tf.nn.avg_pool2d(x, (3, 1), (2, 1), "VALID"), IMAGE, forms=ACTIVATIONS)
function(
    "image/conv_explicit",
    lambda x: tf.nn.conv2d(x, tf.random.stateless_normal((3, 3, 3, 4), [1, 2]), 1, [[0, 0], [1, 2], [2, 1], [0, 0]]),
    IMAGE,
    forms=("float32", "int8"),
)
function("image/conv_computed", lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"), IMAGE, ((3, 3, 3, 4), F))
function(
    "image/depthwise_computed",
    lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME"),
    IMAGE,
    ((3, 3, 3, 1), F),
)
function(
    "image/atrous",
    lambda x: tf.nn.atrous_conv2d(x, tf.random.stateless_normal((3, 3, 3, 4), [1, 2]), 2, "SAME"),
    IMAGE,
    forms=("float32", "int8"),
)

# Spectra
SOUND = ((None, 256), F)
function("spectrum/rfft", lambda x: tf.abs(tf.signal.rfft(x)), SOUND)
function("spectrum/rfft_parts", lambda x: (tf.math.real(tf.signal.rfft(x)), tf.math.imag(tf.signal.rfft(x))), SOUND)
function("spectrum/rfft_complex", lambda x: tf.signal.rfft(x), SOUND)
function("spectrum/rfft2d", lambda x: tf.abs(tf.signal.rfft2d(x)), ((2, 16, 32), F))
function("spectrum/rfft_length", lambda x: tf.abs(tf.signal.rfft(x, [512])), SOUND)
function("spectrum/rfft_odd", lambda x: tf.abs(tf.signal.rfft(x)), ((2, 100), F))
function("spectrum/irfft", lambda x: tf.signal.irfft(tf.signal.rfft(x)), SOUND)
function("spectrum/fft", lambda x: tf.abs(tf.signal.fft(tf.cast(x, tf.complex64))), SOUND)
function("spectrum/angle", lambda x: tf.math.angle(tf.signal.rfft(x)), SOUND)
function("spectrum/stft", lambda x: tf.abs(tf.signal.stft(x, 64, 32)), SOUND)
function("spectrum/frame", lambda x: tf.signal.frame(x, 64, 32), SOUND)
function("spectrum/overlap_add", lambda x: tf.signal.overlap_and_add(tf.signal.frame(x, 64, 32), 32), ((2, 256), F))
function("spectrum/dct", lambda x: tf.signal.dct(x), SOUND)


def mfcc(x: Any) -> Any:
    power = tf.abs(tf.signal.stft(x, 64, 32, 64))
    bands = tf.signal.linear_to_mel_weight_matrix(20, 33, 8000, 80.0, 3800.0)
    return tf.signal.mfccs_from_log_mel_spectrograms(tf.math.log(tf.matmul(power, bands) + 1e-6))[..., :13]


function("spectrum/mfcc", mfcc, SOUND)
function(
    "spectrum/audio_ops",
    lambda x: tf.raw_ops.AudioSpectrogram(input=x, window_size=64, stride=32, magnitude_squared=True),
    ((256, 1), F),
    forms=("custom",),
)


@case("spectrum/audio_mfcc", ("custom",))
def audio_mfcc() -> Built:
    def call(x: Any) -> Any:
        power = tf.raw_ops.AudioSpectrogram(input=x, window_size=256, stride=128, magnitude_squared=True)
        return tf.raw_ops.Mfcc(spectrogram=power, sample_rate=16000, dct_coefficient_count=13)

    return built("spectrum/audio_mfcc", call, ((2048, 1), F), low=-1, high=1)
