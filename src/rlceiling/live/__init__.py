"""Answers inside a training loop, while a run goes on."""
