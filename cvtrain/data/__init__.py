"""Images on disk -> batches of pixels. Nothing in here needs TensorFlow."""
