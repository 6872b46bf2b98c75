"""Files that run inside Triton; they are copied there, never imported."""
