"""What a run says, as Prometheus metrics and log lines. The only home of prometheus_client and structlog."""
