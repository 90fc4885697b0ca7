"""Tests of the relay and the feed over NATS JetStream, on a real server."""
