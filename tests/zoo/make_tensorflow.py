"""Exports from TensorFlow by tf2onnx: python make_tensorflow.py DIR (pip install tensorflow-cpu tf2onnx onnxruntime).

Weights are random. NHWC networks get transposes at their ends, and BatchNormalization stays or folds as tf2onnx likes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf2onnx

K = tf.keras
L = K.layers


def gelu(x: Any) -> Any:
    """Return the approximate form: tf2onnx does not know the exact one."""
    return K.activations.gelu(x, approximate=True)


def vgg() -> Any:
    """Convolutions, batch normalisation after ReLU, Flatten, dense."""
    layers = [L.Input((32, 32, 3))]
    for wide in (32, 64, 128):
        layers += [L.Conv2D(wide, 3, padding="same", activation="relu"), L.BatchNormalization(), L.MaxPooling2D()]
    return K.Sequential([*layers, L.Flatten(), L.Dense(128, activation="relu"), L.Dropout(0.5), L.Dense(10)])


def residual() -> Any:
    """Residual blocks with a squeeze and excite, SAME padding at stride two."""
    x = inputs = L.Input((64, 64, 3))
    x = L.Conv2D(32, 3, strides=2, padding="same", use_bias=False)(x)
    for wide in (32, 64):
        short = L.Conv2D(wide, 1, strides=2)(x)
        y = L.ReLU()(L.BatchNormalization()(L.Conv2D(wide, 3, strides=2, padding="same", use_bias=False)(x)))
        y = L.BatchNormalization()(L.Conv2D(wide, 3, padding="same", use_bias=False)(y))
        gate = L.Dense(wide, activation="sigmoid")(L.Dense(wide // 4, activation="relu")(L.GlobalAveragePooling2D()(y)))
        y = L.Multiply()([y, L.Reshape((1, 1, wide))(gate)])
        x = L.ReLU()(L.Add()([short, y]))
    return K.Model(inputs, L.Dense(10, activation="softmax")(L.GlobalAveragePooling2D()(x)))


def unet() -> Any:
    """Downsampling, transposed convolutions and concatenations."""
    x = inputs = L.Input((64, 64, 3))
    skips = []
    for wide in (16, 32, 64):
        x = L.Conv2D(wide, 3, padding="same", activation="relu")(x)
        skips.append(x)
        x = L.MaxPooling2D()(x)
    x = L.Conv2D(96, 3, padding="same", activation="relu")(x)
    for wide, skip in zip((64, 32, 16), reversed(skips), strict=True):
        x = L.Concatenate()([L.Conv2DTranspose(wide, 2, strides=2, padding="same")(x), skip])
        x = L.Conv2D(wide, 3, padding="same", activation="relu")(x)
    return K.Model(inputs, L.Conv2D(2, 1)(x))


def super_resolution() -> Any:
    """Sub-pixel upsampling by depth_to_space."""
    x = inputs = L.Input((32, 32, 1))
    x = L.Conv2D(64, 5, padding="same", activation="tanh")(x)
    x = L.Conv2D(36, 3, padding="same", activation="relu")(x)
    return K.Model(inputs, L.Conv2D(1, 3, padding="same")(L.Lambda(lambda t: tf.nn.depth_to_space(t, 3))(x)))


def separable() -> Any:
    """Separable convolutions with residual sums."""
    x = inputs = L.Input((64, 64, 3))
    x = L.BatchNormalization()(L.Conv2D(32, 3, strides=2, padding="same")(x))
    for wide in (48, 64, 96):
        y = L.SeparableConv2D(wide, 3, padding="same")(L.ReLU()(x))
        y = L.MaxPooling2D(3, strides=2, padding="same")(L.BatchNormalization()(y))
        x = L.Add()([y, L.Conv2D(wide, 1, strides=2, padding="same")(x)])
    return K.Model(inputs, L.Dense(10)(L.GlobalAveragePooling2D()(x)))


def mlp() -> Any:
    """Dense layers of several activations."""
    wide = [L.Dense(n, activation=a) for n, a in ((256, "elu"), (128, "swish"), (64, gelu))]
    return K.Sequential([L.Input((40,)), *wide, L.Dense(5, activation="softmax")])


def text(layer: Callable[[], Any]) -> Callable[[], Any]:
    """An embedding, one recurrent or convolutional layer, dense layers."""

    def build() -> Any:
        x = inputs = L.Input((20,), dtype="int32")
        x = layer()(L.Embedding(500, 48)(x))
        return K.Model(inputs, L.Dense(4)(L.Dense(32, activation="relu")(x)))

    return build


def conv_text() -> Any:
    """One-dimensional convolutions over a sequence."""
    layers = [L.Conv1D(64, 5, padding="same", activation="relu"), L.MaxPooling1D(2), L.Conv1D(64, 3, activation="relu")]
    return K.Sequential([L.Input((64, 12)), *layers, L.GlobalMaxPooling1D(), L.Dense(6)])


def transformer() -> Any:
    """Two blocks of attention as Keras writes them (einsum with heads as an axis)."""
    x = inputs = L.Input((16, 64))
    for _ in range(2):
        y = L.LayerNormalization()(x)
        x = L.Add()([x, L.MultiHeadAttention(4, 16)(y, y)])
        y = L.Dense(128, activation=gelu)(L.LayerNormalization()(x))
        x = L.Add()([x, L.Dense(64)(y)])
    return K.Model(inputs, L.Dense(10)(L.GlobalAveragePooling1D()(x)))


def application(name: str, size: int, **more: Any) -> Callable[[], Any]:
    """One of Keras' own architectures."""
    return lambda: getattr(K.applications, name)(weights=None, input_shape=(size, size, 3), classes=100, **more)


MODELS: dict[str, tuple[Callable[[], Any], int]] = {
    "vgg": (vgg, 13),
    "residual": (residual, 15),
    "unet": (unet, 17),
    "super_resolution": (super_resolution, 13),
    "separable": (separable, 15),
    "mlp": (mlp, 12),
    "lstm": (text(lambda: L.LSTM(48)), 15),
    "bilstm": (text(lambda: L.Bidirectional(L.LSTM(32))), 15),
    "gru": (text(lambda: L.GRU(48)), 15),
    "conv_text": (conv_text, 15),
    "transformer": (transformer, 17),
    "mobilenet": (application("MobileNet", 96, alpha=0.5), 13),
    "mobilenet_v2": (application("MobileNetV2", 96, alpha=0.5), 15),
    "mobilenet_v3_small": (application("MobileNetV3Small", 96), 15),
    "efficientnet_b0": (application("EfficientNetB0", 96), 17),
    "densenet121": (application("DenseNet121", 64), 15),
    "resnet50_v2": (application("ResNet50V2", 64), 17),
    "nasnet_mobile": (application("NASNetMobile", 96), 17),
    "xception": (application("Xception", 96), 17),
    "inception_v3": (application("InceptionV3", 96), 13),
}


def export(name: str, folder: Path) -> None:
    """Write one model, its batch left open."""
    build, opset = MODELS[name]
    K.utils.set_random_seed(0)
    model = build()
    signature = [tf.TensorSpec((None, *i.shape[1:]), i.dtype, name="x") for i in model.inputs]
    call = tf.function(lambda x: model(x, training=False), input_signature=signature)
    path = folder / f"tf_{name}.tf{opset}d.onnx"
    tf2onnx.convert.from_function(call, input_signature=signature, opset=opset, output_path=str(path))


def main() -> None:
    """Export all models, or those named."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or MODELS:
        try:
            export(name, folder)
            print("made", name, flush=True)
        except Exception as error:  # whatever a converter raises: the others go on
            print("not made", name, repr(error)[:300], flush=True)


if __name__ == "__main__":
    main()
