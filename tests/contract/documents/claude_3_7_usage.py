from anthropic import Anthropic

client = Anthropic(api_key="your_api_key")
response = client.messages.create(
    model="claude-3-7-sonnet",
    max_tokens=1000,
    messages=[
        {"role": "user", "content": "Write a short story about space exploration."}
    ]
)
