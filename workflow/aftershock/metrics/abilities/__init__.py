"""Effects of a sequence of edits on tasks and on earlier edits: no tensors, only tables.

settings     what analyses know of a task; from where on one counts as lost
answers      outputs of a task as answers: class, margin, entropy, repetition
floors       what is reached by accident: chance, or always one answer
many_items   metrics that are no mean over items: area under the curve, balanced accuracy, weighted F1
estimates    intervals, paired tests and shares retained, as arrays
abilities    every metric of every task at every checkpoint, as a table
edits        what edits look like at checkpoints, and the health of the model, from observations
curves       their means along the sequence, over all orders
collapse     where an ability is lost, and whether gradually or at once
"""
