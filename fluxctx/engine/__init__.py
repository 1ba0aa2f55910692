"""The engine: installed models, what they can do, and the confined worker that renders with them."""
