# Track version for debugging
import anthropic

client = anthropic.Client()
models = client.models.list()

# Find current version for latest alias
for model in models:
    if model.id == "claude-3-7-sonnet-latest":
        print(f"Latest points to: {model.created_at}")
