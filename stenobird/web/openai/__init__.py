"""The OpenAI dialect: what its requests say, and what its answers look like."""
