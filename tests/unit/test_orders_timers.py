"""The rows of open timers say when they are to be fired, and those that nobody waits for are gone."""

from gateway_adapters.mock.spec import SPEC
from schemas.messages import MessageCodec
from schemas.records.timers import OpenTimer
from schemas.schema_ids import SchemaIds
from streams.agents.orders import OrdersAgent
from streams.agents.references import Parking
from streams.agents.shell import AgentShell
from streams.domain.limits import DEFAULT_RULES
from streams.topology import TIMERS_TABLE as TIMERS
from tests.support.kept_tables import KeptTables
from tests.support.replay_course import input_of
from tests.support.staged_life import valid_run

FAR_MS = 2**50


def test_each_open_timer_is_due_at_its_time_and_no_other_row_is_there() -> None:
    codec = MessageCodec(SchemaIds.packaged())
    agent = OrdersAgent(
        codec,
        partitions=1,
        policies=dict,
        gateways={SPEC.name: SPEC},
        capabilities={},
        parking=Parking(),
        rules=DEFAULT_RULES,
    )
    shell = AgentShell(agent.take, codec=codec, component="orders", accepted=agent.accepted)
    rows: dict[tuple[str, bytes], bytes | None] = {}
    tables, most = KeptTables(TIMERS), 0
    for record in sorted(valid_run().inputs(), key=lambda each: each.timestamp_ms):
        step = shell.handle(input_of(record), lambda table, key: rows.get((table, key)))
        rows.update({(write.table, write.key): write.value for write in step.rows})
        tables.write(step.rows, now_ms=record.timestamp_ms)
        timers = {key: value for (table, key), value in rows.items() if table == TIMERS and value is not None}
        due = {key: codec.decode_row(OpenTimer, value).due_at_ms for key, value in timers.items()}
        found = tables.due_rows(TIMERS, 0, FAR_MS, 1_000)
        assert {each.key: each.due.at_ms for each in found} == due
        most = max(most, len(found))
    assert most > 0
