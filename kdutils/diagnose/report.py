"""What a diagnosis says: its questions, its verdicts and the report that holds them."""

from __future__ import annotations

from dataclasses import dataclass

PASS, FAIL, SKIP = "pass", "fail", "not applicable"
MARKS = {PASS: "✓", FAIL: "✗", SKIP: "–"}

# The checks in the order of the report: key -> what it asks.
QUESTIONS = {
    "zero": "Is the soft term at rest where student and teacher agree?",
    "direction": "Is it KL(teacher ‖ student)?",
    "softmax": "Is softmax applied once?",
    "temperature": "Is it softened by the temperature you name?",
    "reduction": "Is it summed over classes and averaged over the batch?",
    "scale": "Is it as strong as you say, T² included?",
    "learner": "Does the student learn, and the teacher not?",
    "teacher_mode": "Does the teacher answer in eval mode?",
    "student_mode": "Does the student learn in train mode?",
    "alignment": "Do the teacher's answers belong to these images?",
    "views": "And to the very views that the student is shown?",
    "control": "Is the honest teacher better than one whose answers are shuffled?",
}
OF_LOSS, OF_LOOP = tuple(QUESTIONS)[:6], tuple(QUESTIONS)[6:11]


@dataclass(frozen=True)
class Verdict:
    """What one check found: `status` is PASS, FAIL or SKIP ("not applicable")."""

    check: str
    status: str
    finding: str  # one sentence
    hint: str = ""  # where to look, when it failed

    def __str__(self) -> str:
        tail = f"\n    look at: {self.hint}" if self.status == FAIL else ""
        return f"{MARKS[self.status]} {self.check:<13} {self.finding}{tail}"


@dataclass(frozen=True)
class Report:
    """The verdicts, in the order of `QUESTIONS`."""

    verdicts: tuple[Verdict, ...]

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [each.check for each in self.verdicts if each.status == FAIL]

    def __getitem__(self, check: str) -> Verdict:
        return next(each for each in self.verdicts if each.check == check)

    def __str__(self) -> str:
        n = len(self.failed)
        end = "Nothing failed." if n == 0 else f"{n} failed: {', '.join(self.failed)}."
        return "\n".join([*map(str, self.verdicts), end])


def judged(check: str, good: bool, finding: str, problem: str, hint: str) -> Verdict:
    """PASS with `finding` where it is good, else FAIL with `problem` and `hint`."""
    return Verdict(check, PASS, finding) if good else Verdict(check, FAIL, problem, hint)


def skipped(checks: tuple[str, ...], why: str) -> list[Verdict]:
    """The same SKIP for several checks."""
    return [Verdict(check, SKIP, why) for check in checks]
