"""Images on disk -> batches of pixels, without TensorFlow."""
