"""What several commands share, in the order in which a run goes."""
