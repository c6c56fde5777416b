"""cvtrain: from a folder of images to a trustworthy image classifier, on the command line."""

__version__ = "0.1.0"
