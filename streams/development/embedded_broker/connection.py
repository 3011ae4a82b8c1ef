"""One client's connection: frames in, answers out, faults in between.

Called by `broker` for every connection. As in Kafka, one connection's requests are applied one after the other, and
each is answered before the next is read: so a client sees its own order, and a parked Fetch or JoinGroup holds up
its own connection only. What does not parse closes the connection, as Kafka does; it cannot hurt another client.
"""

import asyncio
import logging
import struct
from typing import Final, assert_never

from kio.static.protocol import ResponsePayload

from streams.development.embedded_broker.faults import ArmedFault, Effect, Faults
from streams.development.embedded_broker.limits import (
    IDLE_TIMEOUT_S,
    MAX_REQUEST_BYTES,
    WRITE_BUFFER_BYTES,
    WRITE_TIMEOUT_S,
)
from streams.development.embedded_broker.node import Node
from streams.development.embedded_broker.refusals import refusal
from streams.development.embedded_broker.router import answer
from streams.development.embedded_broker.wire import Request, UnreadableRequestError, decode_request, encode_response

_log = logging.getLogger(__name__)
_LENGTH: Final = struct.Struct(">i")


class _DisconnectError(Exception):
    """A fault wants the connection closed."""


class Connection:
    """Serves one client until it goes, stays silent too long, or sends what is no request."""

    def __init__(self, node: Node, faults: Faults, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._node = node
        self._faults = faults
        self._reader = reader
        self._writer = writer
        peer = writer.get_extra_info("peername")
        self._client_host = str(peer[0]) if peer else "unknown"
        writer.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    async def serve(self) -> None:
        """Returns when the connection is over; it is closed then."""
        try:
            while True:  # bounded by the client: every round reads one frame or ends
                frame = await self._next_frame()
                request = decode_request(frame)
                await self._serve_one(request)
        except (asyncio.IncompleteReadError, ConnectionError, _DisconnectError):
            pass  # the client is gone, or a test wants it gone
        except TimeoutError:
            _log.info("closing the connection of %s: silent, or not reading, for too long", self._client_host)
        except UnreadableRequestError as error:
            _log.warning("closing the connection of %s: %s", self._client_host, error)
        finally:
            self._writer.transport.abort() if self._writer.is_closing() else self._writer.close()

    async def _next_frame(self) -> bytes:
        async with asyncio.timeout(IDLE_TIMEOUT_S):
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if not 0 <= length <= MAX_REQUEST_BYTES:
                raise UnreadableRequestError(f"a frame of {length} bytes; at most {MAX_REQUEST_BYTES} are taken")
            return await self._reader.readexactly(length)

    async def _serve_one(self, request: Request) -> None:
        armed = self._faults.striking(request) if self._faults else None
        if armed is None:
            reply = await answer(self._node, request, self._client_host)
        else:
            reply = await self._answer_under(armed, request)
        if reply is None:
            return
        self._writer.write(encode_response(request, reply))
        if self._writer.transport.get_write_buffer_size() > WRITE_BUFFER_BYTES:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._writer.drain()

    async def _answer_under(self, armed: ArmedFault, request: Request) -> ResponsePayload | None:
        """The answer, or none, as the fault has it."""
        fault = armed.fault
        await armed.announce()
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault.effect is Effect.DISCONNECT_BEFORE:
            raise _DisconnectError
        if fault.effect is Effect.DROP_BEFORE:
            return None
        if fault.error is not None:
            reply: ResponsePayload | None = refusal(self._node, request, fault.error)
        else:
            reply = await answer(self._node, request, self._client_host)
        if fault.answer_delay_s:
            await asyncio.sleep(fault.answer_delay_s)
        match fault.effect:
            case Effect.DISCONNECT_AFTER:
                raise _DisconnectError
            case Effect.DROP_AFTER:
                return None
            case Effect.NONE | Effect.ERROR:
                return reply
            case _ as never:
                assert_never(never)
