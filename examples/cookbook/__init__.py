"""Short programs for common pipelines, each whole; docs/cookbook.md tells their story."""
