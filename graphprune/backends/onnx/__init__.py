"""A plan becomes a smaller ONNX model."""
