"""What comes back from the log, and who waits for it."""
