"""Batch fitting: manifests, jobs, the store of posteriors, executors and outputs."""
