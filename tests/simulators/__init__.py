"""Simulators of gateways, written by this project: they prove nothing about the vendors, whose documents judge them.

No behavioural fake of these gateways was found. So states, idempotency keys and webhooks come from here, behind the
vendor's own API document: each request is validated against it before anything else is looked at.
"""
