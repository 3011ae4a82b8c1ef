"""One value, the same broker for both client libraries, and no secret in its repr."""

import ssl

import pytest
from aiokafka import codec as codecs

from streams.kafka_clients.connection import KafkaConnection

SASL = KafkaConnection(
    bootstrap_servers="a:1,b:2",
    security_protocol="SASL_SSL",
    sasl_mechanism="SCRAM-SHA-512",
    sasl_username="me",
    sasl_password="hush",
    request_timeout_s=2.5,
)


def test_connection_gives_both_libraries_the_same_broker_and_credentials() -> None:
    aiokafka, confluent = SASL.aiokafka_options(), SASL.confluent_options()
    assert aiokafka["bootstrap_servers"] == confluent["bootstrap.servers"] == "a:1,b:2"
    assert aiokafka["request_timeout_ms"] == confluent["socket.timeout.ms"] == 2_500
    assert aiokafka["sasl_mechanism"] == confluent["sasl.mechanism"] == "SCRAM-SHA-512"
    assert aiokafka["sasl_plain_password"] == confluent["sasl.password"] == "hush"


def test_connection_checks_the_brokers_certificate_when_it_is_encrypted() -> None:
    context = SASL.aiokafka_options()["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_connection_does_not_show_its_password() -> None:
    assert "hush" not in repr(SASL)


def test_connection_names_no_credentials_when_it_is_plain() -> None:
    plain = KafkaConnection(bootstrap_servers="a:1")
    assert not any("sasl" in name or "ssl" in name for name in plain.aiokafka_options())
    assert not any(name.startswith(("sasl", "ssl")) for name in plain.confluent_options())


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_codec_of_kafka_can_be_read(codec: str) -> None:
    assert getattr(codecs, f"has_{codec}")()
