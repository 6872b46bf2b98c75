"""Put a model repository into service: the embedded Triton, or the container."""
