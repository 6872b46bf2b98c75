"""Turn a model file into a proven artifact that Triton serves."""
