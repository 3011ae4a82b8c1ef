"""Bad days made on one machine: faults under load, and the figures that are published about them."""
