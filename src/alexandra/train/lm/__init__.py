"""Training language models: text to tokens, policies, rollouts, and one short file per stage."""
