"""The machine and the terminal: files, signals, progress, subprocesses; nothing of images."""
