# Before (development)
model = "claude-3-7-sonnet-latest"

# After (production)
model = "claude-3-7-sonnet-20250219"  # Lock to specific version
