"""Stripe: payment intents, refunds and webhooks of its API v1, by its official SDK over our own transport.

`spec` says what an account needs and what can be done, `client` makes the calls, `requests` and `translate` are the
words to and from it, `webhooks` those of its events, `wire` the shapes, `signature` whose a webhook is, `amounts` how
Stripe counts, `sdk` the seam to its library. `declines.json` and `currencies.json` are Stripe's own lists.
"""
