"""The command `aftershock`: one subcommand for each thing that a user does.

    app        the subcommands and their options; each imports what it needs when it is called, and ends
               with one message and exit status 2 for what a user can put right
    files      configuration files and profiles by the names that a user gives
    listing    the lines of `aftershock list`
    add_model  the file of a model from a folder, the Hub or a GGUF file: `aftershock add-model`
    save_edit  an edit of a model in a folder, saved for other programs: `aftershock export`

An option means the same in every subcommand. What comes after `--` goes to Snakemake as it is.
"""
