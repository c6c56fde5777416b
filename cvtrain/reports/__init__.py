"""Run folders -> pages and tables for a person; light, never loads the engine."""
