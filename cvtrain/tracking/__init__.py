"""A training as it goes, where TensorBoard and MLflow show it; neither can stop it."""
