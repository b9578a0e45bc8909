"""How a workflow is run. Knows nothing of HTTP or SQS."""
