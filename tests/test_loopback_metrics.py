"""Metrics on a loopback port: there while the block lasts, on 127.0.0.1 only, gone after it."""

import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client import Gauge

from flows.loopback_metrics import LoopbackMetrics
from flows.metrics import Metrics
from flows.training_metrics import TrainingMetrics


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def read(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return answer.read().decode()


def test_what_is_registered_is_served_while_the_block_lasts_and_not_after():
    port = free_port()
    with LoopbackMetrics(port=port) as metrics:
        Gauge("answer", "A number.", registry=metrics.registry).set(42)
        assert "answer 42.0" in read(port)
    with pytest.raises(urllib.error.URLError):
        read(port)


def test_a_port_is_free_again_even_after_an_error():
    port = free_port()
    for _ in range(2):
        with pytest.raises(ValueError, match="stop"), LoopbackMetrics(port=port):
            raise ValueError("stop")


@pytest.mark.parametrize(("kind", "name"), [(Metrics, "pairforge_work_shards"), (TrainingMetrics, "pairforge_train")])
def test_a_build_and_a_training_serve_their_own_numbers(tmp_path, kind, name):
    port = free_port()
    with kind(tmp_path, port=port):
        assert name in read(port)


def test_without_a_port_nothing_is_served(tmp_path):
    with Metrics(tmp_path) as metrics:
        assert metrics._server is None
