"""Data of a run's report page: pure functions from tables to what its scripts show.

    embed      values and text that are safe inside a script or a page, whatever a label holds
    columns    any frame as columns that one component shows, sorts, filters and exports as CSV
    listed     the list of tables: file name, title, caption, section
    sections   names of the sections, and what stands at their heads
    layouts    composed tables: the paper's, controls, recall, tuning, times
    explorer   an index of all case-method pairs and, in chunks, every probe in every state
    roles      names of probes, states and rules
    ranking    ranks of methods by question: sentences, and a table
    variants   published variants beside the methods of their names
    sorting    facets that the explorer filters cases by, and metrics that it sorts them by
    names      names of editors for readers
    outcomes   outcomes by which the explorer filters cases, and the cases that a run lacks
    figures    figures embedded in the page, or linked where they are large
    moments    remarks on the second moments that edits were made with
    weights    remarks on weights that were quantised before
    findings   findings of the run in plain words, with their uncertainty
`report.py` puts them together; `templates/` holds the page, its style and its scripts, which are inlined as
they stand: `dom.js` what all share, `csv.js` files of what is shown, `tables.js` every table, `explorer.js`
the cases. They set text, never HTML.

A table is added as a line in `listed.TABLES`, a probe as one in `roles.ROLES`, a yes-or-no metric that cases
can be chosen by as one in `outcomes.OUTCOMES`. A text that a spreadsheet would take for a formula gets an
apostrophe in a CSV that the page makes; the files in `tables/` hold it as it is.
"""
