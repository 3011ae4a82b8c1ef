"""The order and the claim state machines: pure, with no I/O, no clock, no randomness and no framework.

`order.decide` and `claims.decide_claim` are the whole of it; a Faust agent, a test or a Lambda is a thin shell around
them.

Where a payment flows:

```
inputs      -> order          which input is it, and what of a replay
               operations     an operation made from its command, and whether the order's row has room for it
               admission      the claim is granted: refuse, wait for an inquiry, or let it go to the gateway
               abilities      what the gateway of the payment cannot do, and why
               attempts       which gateway, what the executor is asked, whether there is another attempt
               notices        which operation a notice is about, and what was done at the gateway's own desk
               words          what a result or a notice says, and what the words after a success come to
               outcomes       what the evidence makes of the operation
               later_words    what is said after a success, or against all that is known
               doubt          in doubt or pending: when to look again, and how
               paid_once      whether money may be taken already that is about to be asked for
               settlement     the end of an operation's way: its event, its answers, the order's next operation
               transitions    the table of an operation's states
               sums           folds over the operations: what is left to capture and to refund, the status
               outbox         what an operation still owes after a crash
               views          what a merchant sees, queries included
            -> outputs
```

`turn` is the workbench they share: one input's work on one order.
"""
