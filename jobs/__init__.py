"""What a job is: its spec, its data, its training, its report. Knows nothing of queues, buckets or clusters."""
