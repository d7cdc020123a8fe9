"""Runs that train no model: probes on frozen states, of sentences and of long texts, and writing."""
