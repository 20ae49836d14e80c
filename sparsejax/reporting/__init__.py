"""What `python -m sparsejax.report` is made of.

- runs: run directories, found and read
- variants: which runs are one point of a figure, and which dense runs they are compared with
- scores: F1 as arrays, sums of it with their intervals, resampled sentences
- statistics: intervals, tests and correlations, as functions of arrays
- pairs, changes, settings, notes, analysis: all that a report says, as one dictionary
- lookup, tables, markup, sheets, figures (in the style of `style`), page: the same for people
"""
