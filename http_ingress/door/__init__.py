"""The door: who calls, what a request may hold, and the guards that every stranger's bytes pass first."""
