"""A run folder: its lock, its record, its validation, its predictions."""
