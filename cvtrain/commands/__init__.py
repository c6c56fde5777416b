"""One file or folder for each command; none imports another, but those that run others."""
