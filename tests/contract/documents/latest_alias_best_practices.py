# Development pattern
if environment == "development":
    model = "claude-3-7-sonnet-latest"
else:
    model = "claude-3-7-sonnet-20250219"  # Specific version for production
