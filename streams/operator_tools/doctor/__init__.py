"""What is wrong with my broker, topics, partitioner, registry, clock and workers, and how to mend it.

One module a subject. Each gathers facts where it must and judges them in pure functions, and gives `Finding`s: what was
found, why it matters, how to fix it. `examination.examine` runs them all. The doctor changes nothing, with one
exception that must be asked for (`probe`: a record on a topic of its own, deleted at once).
"""
