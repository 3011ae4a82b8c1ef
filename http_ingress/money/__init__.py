"""The POST routes that move money: from a body to a command on the log."""
