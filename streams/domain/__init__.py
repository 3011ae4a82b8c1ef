"""The order and the claim state machines: pure, with no I/O, no clock, no randomness and no framework.

`order.decide` and `claims.decide_claim` are the whole of it; a Faust agent, a test or a Lambda is a thin shell around
them.

Where a payment flows:

```
inputs   -> order          which input is it, and what of a replay
            operations     an operation made from its command
            row_room       whether the order's row has room for it
            admission      the claim is granted: refuse, wait for an inquiry, or let it go to the gateway
            routing        which gateway an attempt goes to
            calls          one attempt, one inquiry, one resend: what the executor is asked
            evidence       what a result or a notice says, in one shape, and which operation a notice is about
            outcomes       what the evidence makes of the operation
            settlement     the end of an operation's way: its event, its answers, the order's next operation
            retry          whether there is another attempt, and when
            reconciliation in doubt or pending: when to look again, and how
            timers         at most one an operation
            paid_once      whether money may be taken already that is about to be asked for
            sums           what is left to capture and to refund, the status
            outbox         what an operation still owes after a crash
            views          what a merchant sees, queries included
         -> outputs
```

`turn` is the workbench they share: one input's work on one order.
"""
