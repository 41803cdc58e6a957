"""All steps in a row, for ONNX models and torch modules: in one go, or in several steps towards the budget."""
