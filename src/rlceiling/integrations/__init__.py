"""Callbacks for trainers; each needs the trainer's own package, which is an optional extra."""
