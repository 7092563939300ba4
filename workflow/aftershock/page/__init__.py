"""What the page of a run is made of: pure functions from tables to the data that its scripts show.

    embed      values and text that may stand inside a script or a page, whatever a label holds
    columns    any frame as columns that one component shows, sorts, filters and gives back as CSV
    listed     the one list of tables: file name, title, caption, section
    layouts    the tables that are more than a file: the paper's, controls, recall, tuning, times
    explorer   an index of all case-method pairs and, in chunks, every probe in every state
    outcomes   what the explorer can choose cases by, and which cases a run lacks
    figures    pictures inside the page, or beside it where they are large

`report.py` puts them together; `templates/` holds the page, its style and its scripts, which are inlined as
they stand. Scripts set text, never HTML.
"""
