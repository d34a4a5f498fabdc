"""What every part stands on: the settings, files, precision, and processes that work together."""
