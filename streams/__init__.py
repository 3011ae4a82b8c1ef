"""From commands to decisions: the pure domain, its Faust shells, the log worker, the gateway executor and what runs them."""
