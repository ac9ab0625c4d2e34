"""The store `files:FOLDER`: one process, one checksummed log, no database.  `store` may be imported from outside."""
