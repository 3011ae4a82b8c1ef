"""What an operator's command works with: the settings, the log and the codec. Called by the command modules.

The codec is the same as the components' (`bootstrap`), made here without importing Faust: a tool answers in a second.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from schemas.messages import MessageCodec
from streams.cli.loop import set_up_logs
from streams.operator_tools.kafka_log import KafkaLog, open_log
from streams.operator_tools.schema_files import ids_of
from streams.settings import Settings, load


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a command is given."""

    settings: Settings
    log: KafkaLog
    codec: MessageCodec


@contextmanager
def opened() -> Iterator[Tools]:
    """Yield the tools, and close them after. Raises: MisconfiguredError, UnreachableError."""
    settings = load()
    set_up_logs("operator")
    codec = MessageCodec(ids_of(settings.registry))
    with open_log(settings.kafka) as log:
        yield Tools(settings=settings, log=log, codec=codec)
