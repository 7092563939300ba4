"""Ranking of methods, question by question, with its uncertainty.

    questions   what is asked: the measures that answer each question, and which direction is better
    samples     values of every method on the same cases, edits, task items or jobs
    ranks       ranks of methods from such values, with intervals and detectable differences
    ranking     the table RANKS of a run

Methods are compared on what all of them have a value for, and see the same resamples of clusters. A method
is the winner where it is better than every other one beyond chance; where several may be the best, there is
none.
A question is added as an entry of `questions.QUESTIONS`.
"""
