"""One file per command: straight lines that read as the recipe."""
