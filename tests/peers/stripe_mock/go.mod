// Pins the peer that judges what the Stripe adapter sends; go.sum holds the hashes.
module payment-engine-lite/tests/peers/stripe_mock

go 1.19

require github.com/stripe/stripe-mock v0.203.0
