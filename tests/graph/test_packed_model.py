"""ONNX models in packed files: the same graph comes back, and runs the same."""
