"""Arrays and numbers -> Matplotlib figures; nothing here reads a file or knows a config."""
