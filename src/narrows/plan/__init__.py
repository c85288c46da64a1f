"""Records → decision: profiles of the three places, candidates with their costs, the choice."""
