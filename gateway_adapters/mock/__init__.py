"""The Mock gateway: a server process with its own durable ledger, and the adapter that calls it.

The server (`python -m gateway_adapters.mock`) is a witness: what it charged stands in its ledger, whatever the
engine believes. It behaves as real gateways do, and it can fail in every way that DESIGN.md, 'Gateway port', names. It
moves no money.

```
wire       what goes over the socket, shared by both halves        signature   of webhooks: pure
client     the adapter (port `contract.Gateway`)                   translate   wire <-> the engine's words: pure
server     routes and the life of a call    bank     the rules of money    storage     the ledger, its one writer
control    ledger, scenarios, actions       tokens, scenarios, latency     what should happen    faults  how it is done
webhooks   delivery with retries            listener the open port         __main__    the process
```
"""
