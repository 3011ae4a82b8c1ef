"""Adyen: Checkout v71 over REST. `spec` says what an account needs and can do, `client` fulfils the port.

`translate` reads answers and `webhooks` reads notices, both pure; `wire` holds the shapes, `signature` the HMACs,
`amounts` the currencies that Adyen counts otherwise than ISO, `declines.json` the reasons of refusals.
"""
