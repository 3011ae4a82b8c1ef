"""The gateway executor: a log worker whose records are requests for gateway calls.

Started by `payment-engine executor` through `bootstrap`. Brings `handling` to `log_worker`, which sees to intake,
commits, rebalances, freezes and dead letters.

A restart repeats at most what was in flight or not yet committed, with the same gateway keys, and nothing whose answer
is on the log (`past_results`).
"""

from collections.abc import Callable, Mapping

from gateway_adapters.contract import Gateway
from schemas.identifiers import GatewayRoute
from schemas.messages import MessageCodec
from streams.executor.command_reader import CommandReader, ReadCommand
from streams.executor.handling import RequestHandler
from streams.executor.options import ExecutorOptions
from streams.executor.past_results import Memory, ReadPast
from streams.executor.results_tail import ResultsTail
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.lease import now_s
from streams.kafka_clients.log_clock import LogClock, wall_clock_ms
from streams.kafka_clients.producer import LogWriter
from streams.log_worker.worker import BuildConsumer, LogWorker, member_of


class GatewayExecutor(LogWorker):
    """One worker of the group. Lives on one event loop; start it once."""

    def __init__(
        self,
        connection: KafkaConnection,
        codec: MessageCodec,
        gateways: Mapping[GatewayRoute, Gateway],
        options: ExecutorOptions | None = None,
        *,
        clock_ms: Callable[[], int] = wall_clock_ms,
        clock_s: Callable[[], float] = now_s,
        build_consumer: BuildConsumer = member_of,
        writer: LogWriter | None = None,
        read_past: ReadPast | None = None,
        read_command: ReadCommand | None = None,
    ) -> None:
        """The gateways belong to the caller, who closes them after `stop`. The log's clients are given by tests."""
        options = options or ExecutorOptions()
        # Twice: what a bounded wait gave up still counts until the broker settles it.
        writer = writer or LogWriter(connection, max_in_flight=2 * options.max_requests_in_flight)
        self._tail = ResultsTail(connection, results_topic=options.results_topic, requests_topic=options.requests_topic)
        self._commands = CommandReader(connection, commands_topic=options.commands_topic)
        clock = LogClock(wall_ms=clock_ms)
        handler = RequestHandler(
            codec=codec,
            gateways=gateways,
            writer=writer,
            options=options,
            clock=clock,
            memory=Memory(read_past or self._tail.read, clock_ms=clock.now_ms),
            read_command=read_command or self._commands.read,
            clock_s=clock_s,
        )
        super().__init__(
            connection,
            codec,
            handler,
            options.log_worker(),
            writer=writer,
            clock=clock,
            clock_s=clock_s,
            build_consumer=build_consumer,
        )

    async def stop(self) -> None:
        """Stop, as any log worker; then let go of what reads results and commands. Calling it twice is safe.

        Raises: what ended the worker, if a failure did.
        """
        try:
            await super().stop()
        finally:
            await self._tail.close()
            await self._commands.close()
