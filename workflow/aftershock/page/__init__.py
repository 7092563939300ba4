"""Data of a run's report page: pure functions from tables to what its scripts show.

    embed      values and text that may stand inside a script or a page, whatever a label holds
    columns    any frame as columns that one component shows, sorts, filters and gives back as CSV
    listed     the one list of tables: file name, title, caption, section
    layouts    the tables that are more than a file: the paper's, controls, recall, tuning, times
    explorer   an index of all case-method pairs and, in chunks, every probe in every state
    roles      what probes, states and rules are called
    outcomes   what the explorer can choose cases by, and which cases a run lacks
    figures    pictures inside the page, or beside it where they are large
    moments    what to know about the second moments that edits were made with
    weights    what to know about weights that were quantised before
    findings   what the run found, in plain words and with how sure it is

`report.py` puts them together; `templates/` holds the page, its style and its scripts, which are inlined as
they stand: `dom.js` what all share, `csv.js` files of what is shown, `tables.js` every table, `explorer.js`
the cases. They set text, never HTML.

A table is added as a line in `listed.TABLES`, a probe as one in `roles.ROLES`, a yes-or-no metric that cases
can be chosen by as one in `outcomes.OUTCOMES`. A text that a spreadsheet would take for a formula gets an
apostrophe in a CSV that the page makes; the files in `tables/` hold it as it is.
"""
