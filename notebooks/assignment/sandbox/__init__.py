"""A submission runs in a process of its own (`inside`); the grader looks on from outside (`box`).

wire      what the two say to each other: JSON and safetensors, nothing that runs code when read
inside    the process in which the student's cells run; it holds no test and no answer
box       starts that process in namespaces of its own, with limits, and calls functions in it
judge     runs the tests outside and turns what comes back into outputs that nbgrader marks
"""
