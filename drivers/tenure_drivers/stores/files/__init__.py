"""The store `files:FOLDER`: one process, one checksummed log, no database."""
