"""Layers -> a model that takes RGB pixels 0..255 and returns one probability per class."""
