"""From commands to decisions: the pure domain, its Faust shells, log worker and executor, and what runs them."""
