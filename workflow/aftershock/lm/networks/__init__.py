"""Auxiliary networks, separate from the edited model.

`hypernetwork` is MEND's; `scope` and `scope_models` are SERAC's classifier and counterfactual model.
`label_encoder` and `text_match` say how alike labels and prompts are, and `classifier` judges texts for a
screen.
"""
