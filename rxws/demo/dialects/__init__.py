"""What some venues do differently on a websocket. Each dialect has a module of its own."""
