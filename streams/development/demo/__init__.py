"""`payment-engine demo`: a scripted tour against a fresh engine, told as a timeline.

`tour` starts an engine of its own (embedded broker, Mock gateway, temporary folder) and plays the scenes of `script`;
`stage` is what a scene can do: ask over HTTP, look at the log, act as a producer or an operator; `drawing` shows it.
Every scene says what it expects, so that the tour is also a check: it succeeds only if everything came as told.
"""
