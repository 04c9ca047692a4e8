"""The commands that read and write the store: the same rows that the pages show."""
