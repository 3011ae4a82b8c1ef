"""PayPal: Orders v2 and Payments v2, as REST over this package's own transport."""
