def gauge() -> tuple[int, int]:
    """Threads started, and threads inside a task together with tasks that wait for one."""
