"""Pictures of results: along runs, and of whole tables."""
