# Binds its handlers by core.hub.apply.register when it is imported; nothing in it is called.
