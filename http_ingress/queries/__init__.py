"""The GET routes: a read through the log."""
