"""The HTTP edge: it validates, authenticates, refuses card numbers, appends commands and waits for their replies."""
