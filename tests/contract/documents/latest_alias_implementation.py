import anthropic

client = anthropic.Client(api_key="your-api-key")

# Development/testing usage
response = client.messages.create(
    model="claude-3-7-sonnet-latest",  # Alias usage
    messages=[{"role": "user", "content": "Your prompt here"}],
    max_tokens=4096
)

# Production usage (recommended)
response = client.messages.create(
    model="claude-3-7-sonnet-20250219",  # Specific version
    messages=[{"role": "user", "content": "Your prompt here"}],
    max_tokens=4096
)
