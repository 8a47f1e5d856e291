"""What a run will take: forward passes exactly; hours and memory measured, from runs like it, or by a law."""
