"""Threads that do the same at once."""
import threading


def together(count, work_on):
    """Calls a function in threads at once; raises what one raised."""
    barrier = threading.Barrier(count)
    errors = []

    def run(index):
        barrier.wait()
        try:
            work_on(index)
        except Exception as error:
            errors.append(error)
    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
