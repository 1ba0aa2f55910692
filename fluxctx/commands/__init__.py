"""One module a command or noun; four moves each: build the request, open the parts, call one use case, print."""
