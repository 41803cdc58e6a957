"""An ONNX model becomes a graph."""
