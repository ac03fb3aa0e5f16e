"""Networks as graphs of ONNX, for runtimes other than torch."""
