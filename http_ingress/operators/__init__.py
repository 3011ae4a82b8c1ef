"""The desk: the listener where a person decides what no gateway can, with keys and a port of its own."""
