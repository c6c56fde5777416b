"""A model and batches -> a trained model."""
