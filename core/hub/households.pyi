# Binds its handlers by core.hub.apply.register when it is imported.

def check_room(members: int) -> None:
    """Raise TooLarge unless one more member may enter a household that has so many."""
