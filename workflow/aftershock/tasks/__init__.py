"""Benchmark tasks: what is asked of a model beside the edited facts. Only engines load torch.

definition     a task and a suite as their files in resources/tasks/ have them
sources        the rows of a benchmark, from a local folder or from the Hub
prepare        rows as the items of a task, with the examples before them
task_metrics   the metrics by name: value of an item, and value of many
text_metrics   what those of generated texts compute
scoring        outputs of an engine as values of metrics, item by item
"""
